"""Training of a cross-encoder, for reranking and as a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UsageError
from limbeck.training.batches import Batch
from limbeck.training.losses import info_nce
from limbeck.training.networks import Vectors
from limbeck.training.objective import Objective, View
from limbeck.training.objectives.pairwise import pairs_of

__all__ = ["CrossEncoder"]

_Loss = Literal["softmax", "pairwise", "binary"]


@dataclass(kw_only=True)
class CrossEncoder(Objective):
    """Each query with its positive and its hard negatives; there are no others to compare with.

    Papers: Gao, Dai and Callan, "Rethink Training of BERT Rerankers in Multi-Stage Retrieval
    Pipeline", arXiv 2101.08751 (softmax over a query's group); Nogueira and Cho, "Passage
    Re-ranking with BERT", arXiv 1901.04085 (binary).

    Attributes:
        loss_over: softmax of the positive among a query's passages; each pair of positive and
            negative; or each passage by itself, relevant or not.
    """

    name: ClassVar[str] = "cross-encoder"
    students: ClassVar[tuple[str, ...]] = ("cross-encoder",)

    loss_over: _Loss = "softmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss_over not in get_args(_Loss):
            raise UsageError(
                f"loss_over must be one of {', '.join(get_args(_Loss))}; got {self.loss_over!r}"
            )

    @property
    def needs_negatives(self) -> bool:
        """Always: one passage alone is put in no order."""
        return True

    def views(self, batch: Batch) -> dict[str, View]:
        """Return each query with each of its passages."""
        queries = np.broadcast_to(batch.queries[:, None], batch.passages.shape)
        pairs = np.stack([queries[batch.held], batch.passages[batch.held]], axis=1)
        return {"pairs": View("pair", pairs)}

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over queries, pairs or passages."""
        return self.hard_loss(batch, self.own_scores(batch, vectors))

    def own_scores(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the score of each query with its passages, shape (n_queries, n_passages)."""
        logits = vectors["pairs"].values[:, 0]
        held = torch.from_numpy(batch.held).to(logits.device)
        return logits.new_zeros(held.shape).masked_scatter(held, logits)

    def hard_loss(self, batch: Batch, scores: Tensor) -> Tensor:
        """Return the loss of own scores by what is labelled."""
        held = torch.from_numpy(batch.held).to(scores.device)
        if self.loss_over == "pairwise":
            return pairs_of(batch.held, scores)
        first = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
        if self.loss_over == "softmax":
            return info_nce(scores, first, where=held)
        wanted = torch.zeros_like(scores)
        wanted[:, 0] = 1.0
        return functional.binary_cross_entropy_with_logits(scores[held], wanted[held])
