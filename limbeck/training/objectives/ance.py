"""ANCE: pairs whose negatives are found anew by the model that is being trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import UsageError
from limbeck.passages import spans_of
from limbeck.training.batches import Batch
from limbeck.training.examples import Examples
from limbeck.training.networks import Vectors
from limbeck.training.objective import View
from limbeck.training.objectives.pairwise import Pairwise, pairs_of
from limbeck.training.scores import all_scores

__all__ = ["ANCE"]


@dataclass(kw_only=True)
class ANCE(Pairwise):
    """The pairwise loss on a shared encoder, with negatives from its own index.

    Paper: Xiong et al., "Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text
    Retrieval", arXiv 2007.00808. Where negatives come from is `negatives.refresh` of the recipe,
    after a warm-up on BM25's. We differ: a refresh of a part of the queries leaves those of the
    others as they are, where the released code trains on the refreshed part alone; MaxP's chunks
    are passages of so many words, each with the title, where theirs are 512 tokens of the whole.

    Attributes:
        max_p: a document's score is that of its best passage, for data that are cut into passages,
            `max_passages` of a document at most (4 in the paper); else each passage stands for
            itself (FirstP where documents are whole, and cut by the model).
    """

    name: ClassVar[str] = "ance"

    max_p: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_p and self.in_batch:
            raise UsageError("max_p must go without in_batch; got both; leave one of them out")
        self._spans: NDArray[np.int64] = np.zeros((0, 2), dtype=np.int64)

    def begin(self, examples: Examples, batches: Iterable[Batch], n_steps: int) -> None:
        """Learn which passages are of one document.

        Raises:
            UsageError: MaxP was asked for, and documents are whole.
        """
        super().begin(examples, batches, n_steps)
        if not self.max_p:
            return
        if examples.documents is None:
            raise UsageError("max_p must have passages; add passages under data")
        self._spans = spans_of(examples.documents)[examples.documents]

    def views(self, batch: Batch) -> dict[str, View]:
        """Return the queries, and the passages or all passages of their documents."""
        views = super().views(batch)
        if not self.max_p:
            return views
        return views | {"passages": View("document", np.unique(self._siblings(batch)[0]))}

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the mean over pairs."""
        if not self.max_p:
            return super().loss(batch, vectors)
        siblings, of_row = self._siblings(batch)
        places = np.searchsorted(np.unique(siblings), siblings)
        scores = all_scores(vectors["queries"], vectors["passages"])
        each = scores[:, torch.from_numpy(places).to(scores.device)]
        best = scores.new_full((len(scores), len(batch.rows)), float("-inf"))
        target = torch.from_numpy(of_row).to(scores.device).expand_as(each)
        best = best.scatter_reduce(1, target, each, reduce="amax")
        own = best.gather(1, torch.from_numpy(batch.places).to(scores.device))
        return pairs_of(self._once(batch), own / self.tau)

    def _once(self, batch: Batch) -> NDArray[np.bool_]:
        """Return which passages of each query are the first ones of their documents."""
        firsts = np.where(batch.held, self._spans[batch.passages, 0], -1)
        once = np.zeros_like(batch.held)
        for own, place in zip(firsts, once, strict=True):
            place[np.unique(own, return_index=True)[1]] = True
        return once & batch.held

    def _siblings(self, batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the passages of the documents of a batch's rows, and which row each is for."""
        spans = self._spans[batch.rows]
        siblings = [np.arange(start, end) for start, end in spans.tolist()]
        return np.concatenate(siblings), np.repeat(np.arange(len(siblings)), np.diff(spans).ravel())
