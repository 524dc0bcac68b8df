"""What a teacher's labels tell a student: one term of a loss, over lists of its own passages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import NO_PASSAGE, Batch
from limbeck.training.calibration import RANKS, as_logits, fitted_tau
from limbeck.training.examples import Examples
from limbeck.training.labels import Labels
from limbeck.training.losses import list_net, listwise_kl, margin_mse, rank_net
from limbeck.training.objective import Objective
from limbeck.training.saturation import Saturation

__all__ = ["SoftLabels"]

Loss = Literal["kl", "margin-mse", "rank-net", "list-net"]

_LOGITS = frozenset({"logit", "probability", "dot", "log-likelihood"})
"""Score kinds whose margins a student of inner products may be given as they are."""

_COSINE = 1.001

_BY_SOFTMAX = ("kl", "list-net")


@dataclass(kw_only=True)
class SoftLabels(Objective):
    """How a teacher's labels are learned; a mixin of methods, whose own loss it stands beside.

    The labels of a query's own passages are compared with the student's scores of them. Passages
    that the teacher said nothing of take no part, and a query with fewer than two others neither.
    Probabilities are turned into logits first, and orders into 1 / rank; rank-net takes orders.

    Papers: Lin et al., TCT-ColBERT, RepL4NLP 2021 (kl, the teacher's distribution as the target);
    Hofstätter et al., arXiv 2010.02666 (margin-mse); Sun et al., RankGPT, arXiv 2304.09542
    (rank-net). That the temperature is fitted is our choice.

    Attributes:
        of_vectors: whether the student's scores may be cosines, which have ends.
        by: the loss.
        soft: its weight.
        hard: the weight of the method's own loss; 0: the teacher alone is listened to.
        teacher_tau: the teacher's scores are divided by it (kl, list-net); None: it is fitted.
        entropy: of the teacher's soft labels that it is fitted to, from the lowest, 0, to the
            highest, 1, that a temperature can make it.
        student_tau: the student's scores are divided by it; None: by the tau of the method.
        scale: the teacher's margins are multiplied by it (margin-mse).
    """

    of_vectors: ClassVar[bool] = False

    by: Loss = "kl"
    soft: float = 1.0
    hard: float = 1.0
    teacher_tau: float | None = None
    entropy: float = 0.5
    student_tau: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._labels: Labels | None = None
        self._tau = 1.0
        self._saturation = Saturation()
        self._reaches = False
        if self.by not in get_args(Loss):
            raise UsageError(f"by must be one of {', '.join(get_args(Loss))}; got {self.by!r}")
        for name in ("soft", "teacher_tau", "student_tau", "scale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above 0; got {value}")
        if not self.hard >= 0:
            raise UsageError(f"hard must be 0 or more; got {self.hard}")
        if not 0.0 < self.entropy < 1.0:
            raise UsageError(f"entropy must lie in (0, 1); got {self.entropy}")
        if self.teacher_tau is not None and self.by not in _BY_SOFTMAX:
            raise UsageError(f"teacher_tau belongs to kl and list-net; got it with {self.by}")
        if self.scale is not None and self.by != "margin-mse":
            raise UsageError(f"scale belongs to margin-mse; got it with {self.by}")

    def begin(self, examples: Examples, batches: Iterable[Batch], n_steps: int) -> None:
        """Take the labels, and fit the temperature to lists as they are trained on.

        Raises:
            UsageError: there are no labels, or the loss cannot take their kind of score.
            DataError: the labels tell no passages apart.
        """
        super().begin(examples, batches, n_steps)
        if examples.labels is None:
            raise UsageError(
                "a teacher's labels must be there to distil; name their folder as data.labels, "
                "which `limbeck teach` writes"
            )
        self._labels = examples.labels
        self.check_labels(self._labels.run.kind)
        if self.by in _BY_SOFTMAX:
            told, where = self._looked_at(list(batches))
            self._tau = self.teacher_tau or fitted_tau(told, where, entropy=self.entropy)

    def check_labels(self, kind: str) -> None:
        """Refuse margins of an order, and those on a scale that the student does not have."""
        if self.by != "margin-mse":
            return
        if kind in RANKS:
            raise UsageError(
                f"margin-mse must have scores; labels of the kind {kind} are an order; take "
                "rank-net"
            )
        if kind not in _LOGITS and self.scale is None:
            raise UsageError(
                f"margin-mse must have a teacher on the scale of the student; labels of the kind "
                f"{kind} are on one of their own; give scale, or take kl"
            )

    def _looked_at(self, batches: list[Batch]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the teacher's logits of the lists of some batches, and which are there."""
        lists = [self.lists(batch) for batch in batches]
        width = max(rows.shape[1] for rows in lists)
        queries = np.concatenate([batch.queries for batch in batches])
        return self.told(queries, np.concatenate([_widened(rows, width) for rows in lists]))

    def lists(self, batch: Batch) -> NDArray[np.int64]:
        """Return the rows that are compared for each query, its positive first.

        Shape (n_queries, n_passages); NO_PASSAGE where a query has fewer.
        """
        return batch.passages

    def told(
        self, queries: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the teacher's logits of passages of queries, and where there are any."""
        assert self._labels is not None
        scores = self._labels.of(queries, rows)
        where = ~np.isnan(scores)
        where &= where.sum(axis=1, keepdims=True) > 1
        return as_logits(scores, self._labels.run.kind, where), where

    @property
    def teacher_scale(self) -> float:
        """What the teacher's scores are divided by."""
        return self._tau

    @property
    def found(self) -> dict[str, float]:
        """What was fitted."""
        return {"teacher_tau": self._tau} if self.by in _BY_SOFTMAX else {}

    def soft_loss(
        self, batch: Batch, scores: Tensor, *, tau: float, weights: Tensor | None = None
    ) -> Tensor:
        """Return the term of a batch.

        Args:
            batch: whose lists are compared.
            scores: the student's, of the shape of the lists.
            tau: of the student where none of its own is given.
            weights: of each query, shape (n_queries,).
        """
        told, there = self.told(batch.queries, self.lists(batch))
        heard = np.flatnonzero(there.any(axis=1))
        if not len(heard):
            return scores[:, :0].sum()
        where = torch.from_numpy(there[heard]).to(scores.device)
        teacher = torch.from_numpy(told[heard]).to(scores.device, scores.dtype)
        places = torch.from_numpy(heard).to(scores.device)
        counted = None if weights is None else weights[places]
        student_tau = self.student_tau or tau
        student = scores[places] / student_tau
        if self.by == "margin-mse" and self.of_vectors and not self._reaches:
            self._require_reach(
                scores.detach()[places][where], _margins(teacher, where), student_tau
            )
        share = len(heard) / len(scores)
        return share * self.soft * self._term(student, teacher, where, counted)

    def _term(
        self, student: Tensor, teacher: Tensor, where: Tensor, weights: Tensor | None
    ) -> Tensor:
        if self.by == "margin-mse":
            scaled = teacher * (self.scale or 1.0)
            return margin_mse(student, scaled, where=where, weights=weights)
        if self.by == "rank-net":
            return rank_net(student, -teacher, where=where, weights=weights)
        wanted = teacher / self._tau
        self._saturation.look(student, wanted, where=where)
        by_softmax = list_net if self.by == "list-net" else listwise_kl
        return by_softmax(student, wanted, where=where, weights=weights)

    def _require_reach(self, scores: Tensor, margins: Tensor, tau: float) -> None:
        """Raise UsageError where the first batch asks of cosines what they cannot become.

        Paper: Hofstätter et al., arXiv 2010.02666: cross-encoders' margins are of ten and more.
        """
        most = 2.0 / tau
        wanted = float(margins.mean()) * (self.scale or 1.0) if len(margins) else 0.0
        if len(scores) and float(scores.abs().max()) <= _COSINE and wanted > most:
            raise UsageError(
                "a student's scores must be able to differ by the teacher's margins, "
                f"{wanted:.3g} on average; cosines divided by {tau:g} differ by {most:g} at most; "
                "give scale, a smaller student_tau, or normalise: false"
            )
        self._reaches = True

    def state(self) -> dict[str, Any]:
        """Return how many first batches are still looked at."""
        return {**super().state(), "first": self._saturation.left}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().load_state(state)
        self._saturation.left = state["first"]


def _margins(teacher: Tensor, where: Tensor) -> Tensor:
    """Return how far each query's first passage is from each other one, as one row."""
    return (teacher[:, :1] - teacher[:, 1:])[where[:, 1:] & where[:, :1]].abs()


def _widened(rows: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=NO_PASSAGE)
