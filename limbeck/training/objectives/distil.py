"""Distillation: a student learns a teacher's labels, beside what is labelled by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

__all__ = ["Distil"]


@dataclass(kw_only=True)
class Distil(SoftLabels, Contrastive):
    """hard x InfoNCE over all passages of the batch + soft x the teacher's term over own passages.

    Papers: those of the terms (`SoftLabels`, `Contrastive`, `Alignment`); that they are added, with
    weights, is common practice.

    Attributes:
        hard: the weight of InfoNCE; 0: the teacher alone is listened to.
        align_to: an encoder, whose vectors a dense student's are drawn to besides.
        align: the weight of that.
    """

    name: ClassVar[str] = "distil"
    students: ClassVar[tuple[str, ...]] = ("dense", "adapter", "colbert")
    needs_negatives: ClassVar[bool] = True

    hard: float = 1.0
    align_to: str | None = None
    align: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_soft()
        if not (self.hard >= 0 and self.align > 0):
            raise UsageError(
                f"hard must be 0 or more and align above 0; got {self.hard} and {self.align}"
            )
        self._alignment: Alignment | None = None

    def begin(self, examples: Examples, batches: Sequence[Batch], n_steps: int) -> None:
        """Take the labels, and fit their temperature."""
        super().begin(examples, batches, n_steps)
        self.learn_scale(examples, batches)
        if self.align_to is not None:
            self._alignment = Alignment(self.align_to, examples)

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over queries."""
        scores = all_scores(vectors["queries"], vectors["passages"])
        own = scores.gather(1, torch.from_numpy(batch.places).to(scores.device))
        other = self.other_loss(batch, scores, vectors)
        return other + self.soft_loss(batch, own, tau=self.tau)

    def other_loss(self, batch: Batch, scores: Tensor, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return what does not come from the teacher's labels.

        Args:
            batch: of the step.
            scores: of all its passages, shape (n_queries, n_rows).
            vectors: of its views.
        """
        hard = self.hard_loss(batch, scores)
        if self._alignment is None:
            return hard
        drawn = self._alignment.loss(batch, vectors["queries"], vectors["passages"])
        return hard + self.align * drawn

    def hard_loss(self, batch: Batch, scores: Tensor) -> Tensor:
        """Return the term of what is labelled, of scores of shape (n_queries, n_rows)."""
        if not self.hard:
            return scores.new_zeros(())
        return self.hard * self.in_batch_loss(batch, scores)
