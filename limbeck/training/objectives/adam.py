"""ADAM, as we read its abstracts: distillation with dark examples, at the pace of confidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import NO_PASSAGE, Batch
from limbeck.training.calibration import confidences, entropies
from limbeck.training.diagnostics import lists_of
from limbeck.training.examples import Examples
from limbeck.training.labels import Labels
from limbeck.training.networks import Vectors
from limbeck.training.objective import View
from limbeck.training.objectives.distil import Distil
from limbeck.training.objectives.progress import Progress
from limbeck.training.scores import own_scores

__all__ = ["Adam", "Pace"]

Direction = Literal["grow", "shrink", "fixed"]
Confidence = Literal["probability", "margin", "entropy"]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Which queries are distilled, by how sure the teacher is of what is labelled.

    The abstract says that training concentrates on high-quality instances by the teacher's
    confidence. Whether their share grows or shrinks meanwhile, and how confidence is measured, it
    does not say: all of it is our reading.

    Attributes:
        direction: the share of the queries that are distilled grows to all, shrinks from all, or
            stays.
        share: the smallest one, in (0, 1].
        weighted: queries count the more the surer the teacher is, instead of all or nothing.
        confidence: the teacher's probability of the positive among the first candidates; its
            margin to the best of the others; or 1 - the entropy of all.
    """

    direction: Direction = "grow"
    share: float = 0.3
    weighted: bool = False
    confidence: Confidence = "probability"

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise UsageError(f"share of a pace must lie in (0, 1]; got {self.share}")
        for name, allowed in (
            ("direction", get_args(Direction)),
            ("confidence", get_args(Confidence)),
        ):
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"{name} of a pace must be one of {', '.join(allowed)}; got "
                    f"{getattr(self, name)!r}"
                )

    def share_at(self, done: float) -> float:
        """Return the share of the queries at a point of the run, from 0 to 1."""
        ways = {"grow": done, "shrink": 1.0 - done, "fixed": 0.0}
        return self.share + (1.0 - self.share) * ways[self.direction]

    def weights(self, sure: NDArray[np.float64], done: float) -> NDArray[np.float32]:
        """Return what each query counts, shape (n_queries,).

        Args:
            sure: how sure the teacher is, of all queries; NaN where it says nothing, which counts.
            done: how much of the run is done.
        """
        known = sure[~np.isnan(sure)]
        if not len(known):
            return np.ones(len(sure), dtype=np.float32)
        threshold = np.quantile(known, 1.0 - self.share_at(done))
        if not self.weighted:
            return np.where(np.isnan(sure) | (sure >= threshold), 1.0, 0.0).astype(np.float32)
        room = max(float(known.max() - threshold), np.finfo(np.float64).tiny)
        return np.nan_to_num(np.clip((sure - threshold) / room, 0.0, 1.0), nan=1.0).astype(
            np.float32
        )


@dataclass(kw_only=True)
class Adam(Progress, Distil):
    """Distillation whose lists hold dark examples; they stand in the teacher's term alone.

    hard x InfoNCE over the passages of the batch, which dark examples are no part of, for they hold
    what answers the query; + soft x v x the teacher's term over the positive, the hard negatives
    and the query's own dark examples, where v is by the pace.

    Paper: Tao et al., ADAM, arXiv 2212.10192, of which only the abstracts could be read; what they
    say stands in `limbeck.training.dark` and in `Pace`. That the two terms are added, with these
    weights, is our reading.

    Attributes:
        pace: of the distillation; None: all queries at all times.
        dark: without them it is distillation at a pace.
    """

    name: ClassVar[str] = "adam"

    pace: Pace | None = field(default_factory=Pace)
    dark: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._dark: NDArray[np.int64] = np.zeros((0, 0), dtype=np.int64)
        self._sure: NDArray[np.float64] = np.zeros(0)

    @property
    def learns_dark(self) -> bool:
        """Unless it is told to do without."""
        return self.dark

    def begin(self, examples: Examples, batches: Iterable[Batch], n_steps: int) -> None:
        """Take the dark examples, fit the temperature, and see how sure the teacher is.

        Raises:
            UsageError: no query has a dark example.
        """
        if examples.labels is not None:
            self._dark = self._dark_of(examples.labels)
        super().begin(examples, batches, n_steps)
        self._sure = self._confidences(examples)

    def _dark_of(self, labels: Labels) -> NDArray[np.int64]:
        """Return the dark examples of each query, shape (n_queries, most); NO_PASSAGE behind."""
        if not self.dark:
            return np.full((len(labels), 0), NO_PASSAGE)
        own = labels.dark
        most = max(map(len, own), default=0)
        if not most:
            raise UsageError(
                "adam must have dark examples; the labels hold none; teach with `dark`, or set "
                "dark: false"
            )
        rows = np.full((len(own), most), NO_PASSAGE)
        for place, each in enumerate(own):
            rows[place, : len(each)] = each
        return rows

    def _confidences(self, examples: Examples) -> NDArray[np.float64]:
        """Return how sure the teacher is of each query, by all its candidates and no dark example.

        With dark examples it would be less sure of every positive.
        """
        assert examples.labels is not None
        rows = lists_of(examples.labels, dark=False)
        told, where = self.told(np.arange(len(examples.queries)), rows)
        pace = self.pace or Pace()
        if pace.confidence == "probability":
            sure = confidences(told, where, self.teacher_scale)
        elif pace.confidence == "margin":
            others = np.where(where[:, 1:], told[:, 1:], -np.inf).max(axis=1, initial=-np.inf)
            sure = told[:, 0] - others
        else:
            sure = 1.0 - entropies(told, where, self.teacher_scale)
        return np.where(where[:, 0] & (where.sum(axis=1) > 1), sure, np.nan)

    def lists(self, batch: Batch) -> NDArray[np.int64]:
        """Return each query's passages and, behind them, its dark examples."""
        return np.concatenate([super().lists(batch), self._dark[batch.queries]], axis=1)

    def views(self, batch: Batch) -> dict[str, View]:
        """Return the queries, all passages, and the dark examples."""
        dark = self._dark[batch.queries]
        rows = np.unique(dark[dark != NO_PASSAGE])
        held = {"dark": View("document", rows)} if len(rows) else {}
        return super().views(batch) | held

    def listed_scores(self, batch: Batch, own: Tensor, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the scores of each query's passages and of its dark examples."""
        dark = self._dark[batch.queries]
        if "dark" not in vectors:
            return torch.cat([own, own.new_zeros(dark.shape)], dim=1)
        rows = np.unique(dark[dark != NO_PASSAGE])
        places = np.searchsorted(rows, np.where(dark != NO_PASSAGE, dark, rows[0]))
        scores = own_scores(vectors["queries"], vectors["dark"], places)
        return torch.cat([own, scores], dim=1)

    def weights(self, batch: Batch) -> Tensor | None:
        """Return what each query counts at this point of the run."""
        if self.pace is None:
            return None
        return torch.from_numpy(self.pace.weights(self._sure, self.done)[batch.queries])
