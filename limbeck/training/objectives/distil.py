"""Distillation: a student learns a teacher's labels, beside what is labelled by people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import Batch
from limbeck.training.examples import Examples
from limbeck.training.networks import Vectors
from limbeck.training.objectives.align import Alignment
from limbeck.training.objectives.contrastive import Contrastive
from limbeck.training.objectives.soft import SoftLabels
from limbeck.training.scores import all_scores
from limbeck.training.students import ColBERTStudent, Student

__all__ = ["Distil"]


@dataclass(kw_only=True)
class Distil(SoftLabels, Contrastive):
    """hard x InfoNCE over all passages of the batch + soft x the teacher's term over own passages.

    Papers: those of the terms (`SoftLabels`, `Contrastive`, `Alignment`); that they are added, with
    weights, is common practice.

    Attributes:
        align_to: an encoder, whose vectors a dense student's are drawn to besides.
        align: the weight of that.
    """

    name: ClassVar[str] = "distil"
    students: ClassVar[tuple[str, ...]] = ("dense", "adapter", "colbert")
    of_vectors: ClassVar[bool] = True

    align_to: str | None = None
    align: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.align > 0:
            raise UsageError(f"align must be above 0; got {self.align}")
        self._alignment: Alignment | None = None

    def check_student(self, student: Student) -> None:
        """Refuse also a ColBERT where there is one vector a text to be drawn to."""
        super().check_student(student)
        if self.align_to is not None and student.name == ColBERTStudent.name:
            raise UsageError(
                "align_to draws one vector a text to an encoder's; a ColBERT has many; train a "
                "dense model, or leave it out"
            )

    @property
    def needs_negatives(self) -> bool:
        """Always: the teacher's term compares a query's own passages."""
        return True

    def begin(self, examples: Examples, batches: Iterable[Batch], n_steps: int) -> None:
        """Take the labels, fit their temperature, and encode what is drawn to an encoder."""
        super().begin(examples, batches, n_steps)
        if self.align_to is not None:
            self._alignment = Alignment(self.align_to, examples)

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over queries."""
        scores = all_scores(vectors["queries"], vectors["passages"])
        own = scores.gather(1, torch.from_numpy(batch.places).to(scores.device))
        listed = self.listed_scores(batch, own, vectors)
        weights = self.weights(batch)
        if weights is not None:
            weights = weights.to(scores.device)
        loss = self.soft_loss(batch, listed, tau=self.tau, weights=weights)
        if self.hard:
            loss = loss + self.hard * self.in_batch_loss(batch, scores)
        if self._alignment is not None:
            drawn = self._alignment.loss(batch, vectors["queries"], vectors["passages"])
            loss = loss + self.align * drawn
        return loss

    def listed_scores(self, batch: Batch, own: Tensor, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the scores of the lists that the teacher's term compares.

        Args:
            batch: of the step.
            own: the scores of each query's own passages, shape (n_queries, n_passages).
            vectors: of all views.
        """
        del batch, vectors
        return own

    def weights(self, batch: Batch) -> Tensor | None:
        """Return what each query of a batch counts in the teacher's term; None: 1."""
        del batch
        return None
