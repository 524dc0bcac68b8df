"""Maximal marginal relevance: hits that say something new before hits that say it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import Problem, UsageError
from limbeck.pipeline import Given, Node, Reranker, Retriever
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.side_index import (
    VectorIndex,
    examine_index,
    require_corpus,
    require_protocol,
)
from limbeck.types import Query, Run

__all__ = ["MMR"]


@dataclass(frozen=True)
class MMR(Reranker):
    """The hits of a run, each chosen for its relevance and for its distance to those before it.

    Scores of the run are brought to [0, 1] for each query, over the hits that are read (all 1 where
    they are equal), so that they stand on one scale with cosines. The new score is what a hit was
    worth when it was chosen; it is at most 1 and never rises down the ranking.

    Paper: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents
    and Producing Summaries", SIGIR 1998; lambda is 1 - `diversity`. Our choices: the similarity of
    two documents is the cosine of their vectors, one below 0 counts 0, and so does that of a
    document without a vector, which is never held to repeat another; equal worths are chosen by the
    tie rule.

    Attributes:
        index: a node with vectors, such as Dense, that holds the run's documents.
        diversity: the share of what is new in a hit's worth, in [0, 1]; 0 keeps the order.
        depth: hits read of each query.
        k: hits returned.
    """

    name: ClassVar[str] = "mmr"

    index: Retriever
    diversity: float = field(default=0.3, kw_only=True)
    depth: int = field(default=100, kw_only=True)
    k: int = field(default=100, kw_only=True)

    def __post_init__(self) -> None:
        require_protocol(self.name, self.index, VectorIndex)
        if not 0.0 <= self.diversity <= 1.0:
            raise UsageError(f"diversity must lie in [0, 1]; got {self.diversity}")
        if min(self.depth, self.k) < 1:
            raise UsageError(f"depth and k of mmr must be 1 or more; got {self.depth} and {self.k}")

    @property
    def kind(self) -> str:
        """The worth of a hit when it was chosen: mmr."""
        return "mmr"

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine the index too: it must hold the documents of the run."""
        examine_index(self.name, self.index, given, place, problems)
        return super().examine(given, place, problems)

    def top(self, k: int) -> Node:
        """Return this node asked for no more than k hits."""
        return dataclasses.replace(self, k=min(k, self.k))

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:  # noqa: ARG002 - the family's form
        """Return the chosen hits of each query."""
        require_corpus(self.name, self.index, run)
        read = run.top(self.depth)
        chosen = [self._chosen(read, position) for position in range(len(read))]
        bounds = np.cumsum([0, *(len(rows) for rows, _ in chosen)])
        return Run.ranked(
            read.query_ids,
            bounds,
            np.concatenate([read.rows[:0], *(rows for rows, _ in chosen)]),
            np.concatenate([read.scores[:0], *(scores for _, scores in chosen)]),
            kind=self.kind,
            corpus=read.corpus,
        )

    def _chosen(self, run: Run, position: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the rows that are chosen for a query, in the order of choice, and their worths."""
        where = run.segment(position)
        order = np.argsort(run.rows[where])  # the first of equal worths is that of the lower row
        rows = run.rows[where][order]
        if not len(rows):
            return rows, run.scores[where]
        assert isinstance(self.index, VectorIndex), "no other index is accepted"
        vectors = unit(self.index.vectors(rows))
        relevance = _scaled(run.scores[where][order])
        picked, worths = _marginal(relevance, vectors, 1.0 - self.diversity, self.k)
        return rows[picked], worths


def _scaled(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the scores of one query in [0, 1]; 1 each where all are equal."""
    exact = scores.astype(np.float64)
    spread = exact.max() - exact.min()
    scaled: NDArray[np.float64] = (exact - exact.min()) / spread if spread else np.ones(len(exact))
    return scaled


def _marginal(
    relevance: NDArray[np.float64], vectors: NDArray[np.float32], lambda_: float, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the positions of the k best by maximal marginal relevance, and their worths then.

    Worths are rounded before they are compared: what is equal in the run that is returned is a tie.

    Args:
        relevance: in [0, 1], shape (n_hits,).
        vectors: of length 1 or 0, shape (n_hits, dim).
        lambda_: the share of relevance.
        k: how many are chosen.
    """
    n_chosen = min(k, len(relevance))
    picked = np.empty(n_chosen, dtype=np.int64)
    worths = np.empty(n_chosen, dtype=np.float32)
    nearest = np.zeros(len(relevance))
    left = np.ones(len(relevance), dtype=bool)
    for step in range(n_chosen):
        worth = (lambda_ * relevance - (1.0 - lambda_) * nearest).astype(np.float32)
        best = int(np.argmax(np.where(left, worth, -np.inf)))
        picked[step], worths[step] = best, worth[best]
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return picked, worths
