"""The package rank-bm25 as a slow reference engine, over the same bags of terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import MissingExtraError
from limbeck.retrieval.formulas import Formula
from limbeck.retrieval.postings import Bags, Hits

__all__ = ["Reference"]

_IDFS: dict[str, Callable[[int, int], float]] = {
    "lucene": lambda n_docs, df: math.log1p((n_docs - df + 0.5) / (df + 0.5)),
    "lucene-accurate": lambda n_docs, df: math.log1p((n_docs - df + 0.5) / (df + 0.5)),
    "atire": lambda n_docs, df: math.log(n_docs / df),
}

_WITHOUT_FACTOR = frozenset({"lucene", "lucene-accurate", "robertson"})


class Reference:
    """Scores of rank-bm25.

    For robertson, bm25l and bm25+ they are those of its own classes; for the others, which it
    lacks, those of its Okapi class with the idf of these. It knows exact lengths only.
    """

    def __init__(self, bags: Bags, formula: Formula, *, k1: float, b: float, delta: float) -> None:
        """Keep the bags; the package's model is made at the first query."""
        self._bags = bags
        self._formula = formula
        self._k1, self._b, self._delta = k1, b, delta

    def top(self, queries: Sequence[Mapping[str, float]], k: int) -> Hits:
        """Return the k best of the documents that hold a term of the query."""
        best = [self._ranked(query, k) for query in queries]
        bounds = np.cumsum([0, *(len(rows) for rows, _ in best)], dtype=np.int64)
        rows = np.concatenate([np.empty(0, np.int32), *(rows for rows, _ in best)])
        scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in best)])
        return Hits(bounds, rows.astype(np.int32), scores.astype(np.float32))

    def _ranked(
        self, query: Mapping[str, float], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        numbers = dict(zip(query, self._bags.vocabulary.find(list(query)).tolist(), strict=True))
        terms = sorted(term for term, weight in query.items() if weight and numbers[term] >= 0)
        scores = np.zeros(len(self._bags))
        for term in terms:
            scores += query[term] * self._model.get_scores([term])
        rounded = (scores * self._scale).astype(np.float32)
        held = np.isin(self._bags.terms, [numbers[term] for term in terms])
        rows = np.unique(self._rows[held])
        rows = rows[np.lexsort((rows, -rounded[rows]))][:k]
        return rows, rounded[rows]

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self._bags)), np.diff(self._bags.bounds))

    @property
    def _scale(self) -> float:
        """What takes back its Okapi class's factor k1 + 1, where our formula leaves it out."""
        return 1.0 / (self._k1 + 1.0) if self._formula in _WITHOUT_FACTOR else 1.0

    @cached_property
    def _model(self) -> Any:
        try:
            import rank_bm25
        except ImportError as error:
            raise MissingExtraError(
                "rank-bm25", extra="rank-bm25", wanted_by="engine rank-bm25"
            ) from error
        documents = self._documents()
        if self._formula in {"bm25l", "bm25+"}:
            own = rank_bm25.BM25L if self._formula == "bm25l" else rank_bm25.BM25Plus
            return own(documents, k1=self._k1, b=self._b, delta=self._delta)
        idf = _IDFS.get(self._formula)

        class Okapi(rank_bm25.BM25Okapi):  # type: ignore[misc]
            def _calc_idf(self, nd: Mapping[str, int]) -> None:
                if idf is None:
                    super()._calc_idf(nd)
                else:
                    self.idf = {term: idf(self.corpus_size, df) for term, df in nd.items()}

        return Okapi(documents, k1=self._k1, b=self._b)

    def _documents(self) -> list[list[str]]:
        """Return the terms of each document, as often as they stand in it."""
        bags = self._bags
        names = [bags.vocabulary[number] for number in range(len(bags.vocabulary))]
        repeated = np.repeat(bags.terms, bags.counts)
        ends = np.concatenate(([0], np.cumsum(bags.lengths()))).tolist()
        terms = [names[number] for number in repeated.tolist()]
        return [terms[start:end] for start, end in pairwise(ends)]
