"""Distillation into a cross-encoder: it learns a teacher's labels of a query's passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from limbeck.training.batches import Batch
from limbeck.training.networks import Vectors
from limbeck.training.objectives.cross_encoder import CrossEncoder
from limbeck.training.objectives.soft import SoftLabels

__all__ = ["DistilPairs"]


@dataclass(kw_only=True)
class DistilPairs(SoftLabels, CrossEncoder):
    """hard x the cross-encoder's own loss + soft x the teacher's term, over own passages.

    Papers: those of the terms (`SoftLabels`, `CrossEncoder`).
    """

    name: ClassVar[str] = "distil-cross-encoder"

    hard: float = 0.0

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over queries."""
        scores = self.own_scores(batch, vectors)
        soft = self.soft_loss(batch, scores, tau=1.0)
        return soft + self.hard * self.hard_loss(batch, scores) if self.hard else soft
