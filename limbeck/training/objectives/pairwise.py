"""A positive against a hard negative, pair by pair: what ANCE and ColBERT are trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.training.batches import Batch
from limbeck.training.losses import pairwise_softmax
from limbeck.training.networks import Vectors
from limbeck.training.objectives.contrastive import Contrastive
from limbeck.training.scores import own_scores

__all__ = ["Pairwise", "pairs_of"]


@dataclass(kw_only=True)
class Pairwise(Contrastive):
    """-log(e^s+ / (e^s+ + e^s-)) of each query's positive and each of its negatives.

    Attributes:
        in_batch: every passage of the batch is a negative, which makes another method of it, and
            usually a better one; not so in the papers.
    """

    in_batch: bool = False

    @property
    def needs_negatives(self) -> bool:
        """Where the batch has none for it."""
        return not self.in_batch

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over pairs, or over queries where all passages compete."""
        if self.in_batch:
            return super().loss(batch, vectors)
        scores = own_scores(vectors["queries"], vectors["passages"], batch.places)
        return pairs_of(batch.held, scores / self.tau)


def pairs_of(held: NDArray[np.bool_], scores: Tensor) -> Tensor:
    """Return the mean pairwise loss of scores, shape (n_queries, n_passages), the positive first.

    A batch without a pair, as a refresh may leave one, has the loss 0 and the gradient 0.

    Args:
        held: where there is a passage, of the same shape.
        scores: of all.
    """
    is_pair = torch.from_numpy(held[:, 1:]).to(scores.device)
    if not is_pair.any():
        return scores[:, :0].sum()
    return pairwise_softmax(scores[:, :1].expand_as(is_pair)[is_pair], scores[:, 1:][is_pair])
