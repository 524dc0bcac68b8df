"""Which queries and passages each step sees: a function of the seed, the epoch and the step alone.

So a run that goes on in the middle of an epoch sees what it would have seen, and nothing of the
order has to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.types import Run

__all__ = ["NO_PASSAGE", "Batch", "Batches", "Draw"]

NO_PASSAGE = -1

_SORTED_TOGETHER = 64
"""Batches at most whose examples are sorted by length together: more have less padding, and less
chance."""

_FEWEST_SORTS = 8
"""Of an epoch, where it has so many batches: so the batches of two epochs are not alike."""


@dataclass(frozen=True, eq=False)
class Batch:
    """The examples of a step.

    Attributes:
        queries: int64, shape (n_queries,); rows of the training queries.
        passages: int64, shape (n_queries, n_passages); rows of the corpus, each query's positive
            first; NO_PASSAGE where a query has fewer.
        spared: rows that are never negatives of each query, such as all its labelled positives.
    """

    queries: NDArray[np.int64]
    passages: NDArray[np.int64]
    spared: Sequence[NDArray[np.int64]]

    @cached_property
    def held(self) -> NDArray[np.bool_]:
        """Where a query has a passage, shape (n_queries, n_passages)."""
        held: NDArray[np.bool_] = self.passages != NO_PASSAGE
        return held

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The passages of all queries, each once, shape (n_rows,)."""
        return np.unique(self.passages[self.held])

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Where each query's passages stand in `rows`, of the same shape; 0 where it has none."""
        return np.searchsorted(self.rows, np.where(self.held, self.passages, self.rows[0]))

    @cached_property
    def competing(self) -> NDArray[np.bool_]:
        """Which rows compete with each query's positive: all that it does not spare.

        Shape (n_queries, n_rows).
        """
        competing = np.ones((len(self.queries), len(self.rows)), dtype=bool)
        for query, spared in enumerate(self.spared):
            competing[query, np.isin(self.rows, spared)] = False
        competing[np.arange(len(self.queries)), self.places[:, 0]] = True
        return competing


class Batches:
    """The batches of each epoch: examples of about one length, in chance order."""

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        seed: int,
        examples: int | None = None,
        tokens: int | None = None,
    ) -> None:
        """Keep what an epoch's order follows from.

        Args:
            lengths: tokens of each example, its passages included, shape (n_examples,).
            seed: of the order.
            examples: of each batch; those of an epoch that fill none are left out.
            tokens: of each batch at most, by these lengths; it holds as many examples as fit, one
                at least.

        Raises:
            UsageError: neither or both are given, or there are too few examples.
        """
        given = [size for size in (examples, tokens) if size is not None]
        if len(given) != 1 or given[0] < 1:
            raise UsageError(
                "a batch must be so many examples or so many tokens, 1 or more; got "
                f"examples={examples}, tokens={tokens}; give one of them"
            )
        if len(lengths) < (examples or 1):
            raise UsageError(
                f"an epoch must fill a batch of {examples or 1} examples; there are "
                f"{len(lengths)}; lower the batch, or give more training data"
            )
        self._lengths = lengths
        self._seed = seed
        self._examples = examples
        self._tokens = tokens

    def epoch(self, number: int) -> list[NDArray[np.int64]]:
        """Return the examples of each batch of an epoch, in its order."""
        rng = np.random.default_rng([self._seed, number])
        order = rng.permutation(len(self._lengths))
        if self._examples is not None:
            order = order[: len(order) // self._examples * self._examples]
        batches = list(self._cut(self._alike(order)))
        return [batches[place] for place in rng.permutation(len(batches))]

    def _alike(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return examples so that neighbours are about as long: in parts, rising and falling."""
        n_batches = max(1, len(order) // (self._examples or self._mean_examples()))
        n_parts = max(-(-n_batches // _SORTED_TOGETHER), min(_FEWEST_SORTS, n_batches))
        parts = [
            part[np.argsort(self._lengths[part], kind="stable")]
            for part in np.array_split(order, n_parts)
        ]
        return np.concatenate([part[:: -1 if n % 2 else 1] for n, part in enumerate(parts)])

    def _mean_examples(self) -> int:
        assert self._tokens is not None
        return max(1, int(self._tokens // max(1.0, float(self._lengths.mean()))))

    def _cut(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        if self._examples is not None:
            yield from np.split(order, len(order) // self._examples)
            return
        assert self._tokens is not None
        start, used = 0, 0
        for place, length in enumerate(self._lengths[order].tolist()):
            if used + length > self._tokens and place > start:
                yield order[start:place]
                start, used = place, 0
            used += length
        yield order[start:]


class Draw:
    """Draws the passages of an example: a positive, and negatives from candidates.

    What is drawn follows from the seed, the epoch and the query alone, not from its batch.
    """

    def __init__(
        self,
        positives: Sequence[NDArray[np.int64]],
        spared: Sequence[NDArray[np.int64]],
        *,
        n_negatives: int,
        seed: int,
    ) -> None:
        """Keep the positives of each query.

        Args:
            positives: rows of the corpus, of each query one at least.
            spared: rows that are never negatives of each query, its positives among them.
            n_negatives: of each query.
            seed: of the draws.
        """
        self._positives = positives
        self._spared = spared
        self._n_negatives = n_negatives
        self._seed = seed

    def batch(self, queries: NDArray[np.int64], epoch: int, candidates: Run | None) -> Batch:
        """Return the batch of some queries.

        Args:
            queries: rows of the training queries, which are those of the candidates too.
            epoch: its number.
            candidates: where negatives are drawn from, without replacement; None for none.
        """
        passages = np.full((len(queries), 1 + self._n_negatives), NO_PASSAGE, dtype=np.int64)
        for place, query in enumerate(queries.tolist()):
            rng = np.random.default_rng([self._seed, epoch, query])
            passages[place, 0] = rng.choice(self._positives[query])
            pool = () if candidates is None else candidates.rows[candidates.segment(query)]
            n = min(self._n_negatives, len(pool))
            passages[place, 1 : 1 + n] = rng.choice(pool, n, replace=False) if n else ()
        return Batch(queries, passages, [self._spared[query] for query in queries.tolist()])
