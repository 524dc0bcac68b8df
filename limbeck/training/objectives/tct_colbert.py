"""TCT-ColBERT: a dense student learns a ColBERT's scores of all passages of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import Batch
from limbeck.training.losses import listwise_kl
from limbeck.training.networks import Computing, Network, Vectors, network
from limbeck.training.objective import Objective, View, both_sides
from limbeck.training.saturation import Saturation
from limbeck.training.scores import all_scores
from limbeck.training.students import ColBERTStudent

__all__ = ["TCTColBERT"]

_TEACHER = "teacher"


@dataclass(kw_only=True)
class TCTColBERT(Objective):
    """KL(softmax(teacher / tau) || softmax(student / student_tau)) over all passages of the batch.

    Paper: Lin, Yang and Lin, "In-Batch Negatives for Knowledge Distillation with Tightly-Coupled
    Teachers for Dense Retrieval", RepL4NLP 2021: tau .25, student_tau 1, no term for the labels.
    The teacher is frozen and scores the batch on the fly. TCT HN is this with hard negatives that
    the BM25-stage student found; TCT HN+ with a teacher that was trained on them first. We differ:
    the teacher normalises its query vectors too; documents keep their [SEP]; other labelled
    positives are passages like all others, as the teacher knows better; a passage that stands in
    the batch twice counts once.

    Attributes:
        teacher: the folder of a ColBERT.
        tau: sharpens the teacher's scores.
        student_tau: the same for the student; one with vectors of length 1 needs about .05.
    """

    name: ClassVar[str] = "tct-colbert"

    teacher: str
    tau: float = 0.25
    student_tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.tau > 0 and self.student_tau > 0):
            raise UsageError(
                f"tau and student_tau must be above 0; got {self.tau} and {self.student_tau}"
            )
        self._saturation = Saturation()

    def given(self) -> tuple[ColBERTStudent]:
        """Return the teacher."""
        return (ColBERTStudent(base=self.teacher),)

    def others(self, computing: Computing) -> dict[str, Network]:
        """Return the teacher.

        Raises:
            UsageError: it is no ColBERT, and the map to its vectors would be one by chance.
        """
        (teacher,) = self.given()
        if not teacher.begins_from_colbert:
            raise UsageError(
                f"teacher must be a trained ColBERT; {self.teacher} makes no vectors of tokens; "
                "train one with the recipe colbert, and give its folder"
            )
        return {_TEACHER: network(teacher.load(), computing, frozen=True)}

    def views(self, batch: Batch) -> dict[str, View]:
        """Return the queries and all passages, for the student and for the teacher."""
        taught = both_sides(batch, _TEACHER)
        return both_sides(batch) | {f"{_TEACHER} {name}": view for name, view in taught.items()}

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over queries."""
        del batch
        scores = all_scores(vectors["queries"], vectors["passages"]) / self.student_tau
        told = (vectors[f"{_TEACHER} {name}"] for name in ("queries", "passages"))
        wanted = all_scores(*told) / self.tau
        self._saturation.look(scores, wanted)
        return listwise_kl(scores, wanted)

    def state(self) -> dict[str, int]:
        """Return how many first batches are still looked at."""
        return {**super().state(), "first": self._saturation.left}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on from there."""
        super().load_state(state)
        self._saturation.left = state["first"]
