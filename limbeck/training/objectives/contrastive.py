"""What methods with a vector, or vectors, a text have in common: scores of queries and passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import Batch
from limbeck.training.losses import info_nce
from limbeck.training.networks import Vectors
from limbeck.training.objective import Objective, View, both_sides
from limbeck.training.scores import all_scores

__all__ = ["Contrastive"]


@dataclass(kw_only=True)
class Contrastive(Objective):
    """Each query's positive against all other passages of the batch, hard negatives among them.

    A passage that stands in a batch twice competes once, and another labelled positive of a query
    does not compete with the one that was drawn.

    Attributes:
        tau: scores are divided by it; models with vectors of length 1 need a small one, such as
            .05.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau > 0:
            raise UsageError(f"tau must be above 0; got {self.tau}")

    def views(self, batch: Batch) -> dict[str, View]:
        """Return the queries and all passages."""
        return both_sides(batch)

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over queries."""
        return self.in_batch_loss(batch, all_scores(vectors["queries"], vectors["passages"]))

    def in_batch_loss(self, batch: Batch, scores: Tensor) -> Tensor:
        """Return the loss of scores, shape (n_queries, n_rows)."""
        positives = torch.from_numpy(batch.places[:, 0]).to(scores.device)
        competing = torch.from_numpy(batch.competing).to(scores.device)
        return info_nce(scores, positives, tau=self.tau, where=competing)
