"""DPR: in-batch negatives and hard ones, all passages of the batch for every query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import Batch
from limbeck.training.losses import info_nce
from limbeck.training.networks import Vectors
from limbeck.training.objective import Objective, View, both_sides
from limbeck.training.scores import all_scores

__all__ = ["DPR", "in_batch"]


@dataclass(kw_only=True)
class DPR(Objective):
    """-log of the softmax, over all passages of the batch, at each query's positive.

    Paper: Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", arXiv
    2004.04906. There scores are plain inner products, and tau is 1. A hard negative of one query is
    a negative of all others, also where it happens to answer them: there is no filter. We differ: a
    passage that stands in a batch twice competes once, and another labelled positive of a query
    does not compete with the one that was drawn.

    Attributes:
        tau: the temperature; models with vectors of length 1 need a small one, such as .05.
    """

    name: ClassVar[str] = "dpr"
    students: ClassVar[tuple[str, ...]] = ("dense", "colbert")

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise UsageError(f"tau must be above 0; got {self.tau}")

    def views(self, batch: Batch) -> dict[str, View]:
        """Return the queries and all passages."""
        return both_sides(batch)

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over queries."""
        return in_batch(batch, vectors, tau=self.tau)


def in_batch(batch: Batch, vectors: Mapping[str, Vectors], *, tau: float) -> Tensor:
    """Return the loss of DPR: each query's positive against all other passages of the batch."""
    scores = all_scores(vectors["queries"], vectors["passages"])
    positives = torch.from_numpy(batch.places[:, 0]).to(scores.device)
    competing = torch.from_numpy(batch.competing).to(scores.device)
    return info_nce(scores, positives, tau=tau, where=competing)
