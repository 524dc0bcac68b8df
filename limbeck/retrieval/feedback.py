"""Pseudo-relevance feedback without an LLM: the best documents of a run reshape the query."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import Problem, UsageError
from limbeck.meter import note
from limbeck.pipeline import Given, Retriever, Rewriter
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.side_index import (
    TermIndex,
    VectorIndex,
    examine_index,
    require_corpus,
    require_protocol,
)
from limbeck.types import Expansion, Query, Run

__all__ = ["RM3", "Feedback", "Rocchio"]

_MOST_DOCUMENTS = 0.1
"""No term is taken that a larger share of documents holds: Anserini's stand-in for a stop list."""

_TERM_LENGTHS = range(2, 21)
"""Characters of a feedback term, as in Anserini."""


class Feedback(NamedTuple):
    """The documents of one query that are taken to be relevant, best first."""

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class _Feedback(Rewriter):
    """A rewriter that reads the best documents of a run. Implement `reshape`.

    Attributes:
        index: the retriever whose index holds the documents of the run.
        fb_docs: documents of each query that are taken to be relevant.
        fb_terms: terms that each document, and the query in the end, gets from them.
    """

    reads_run: ClassVar[bool] = True
    rehearsed: ClassVar[bool] = True

    index: Retriever
    fb_docs: int = 10
    fb_terms: int = 10

    def __post_init__(self) -> None:
        if min(self.fb_docs, self.fb_terms) < 1:
            raise UsageError(
                f"fb_docs and fb_terms of {self.name} must be 1 or more; got {self.fb_docs} and "
                f"{self.fb_terms}"
            )

    @abstractmethod
    def reshape(self, queries: Sequence[Query], best: Sequence[Feedback]) -> list[Expansion]:
        """Return an expansion a query, from its best documents, which are one at least."""

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine the index too: it must hold the documents of the run."""
        examine_index(self.name, self.index, given, place, problems)
        return super().examine(given, place, problems)

    def expand(self, queries: Sequence[Query], run: Run | None) -> Sequence[Expansion | None]:
        """Return an expansion a query; None, with a note, for a query without hits."""
        assert run is not None, "the family refuses a call without a run"
        require_corpus(self.name, self.index, run)
        found = np.flatnonzero(np.diff(run.bounds)).tolist()
        if len(found) < len(queries):
            note(f"{self.name}: no document to learn from, query kept", len(queries) - len(found))
        best = [self._best(run, position) for position in found]
        made = self.reshape([queries[position] for position in found], best)
        expansions = dict(zip(found, made, strict=True))
        return [expansions.get(position) for position in range(len(queries))]

    def _best(self, run: Run, position: int) -> Feedback:
        where = run.segment(position)
        part = slice(where.start, min(where.stop, where.start + self.fb_docs))
        return Feedback(run.rows[part], run.scores[part])


@dataclass(frozen=True)
class RM3(_Feedback):
    """The query's terms, mixed with the terms that its best documents use most.

    A document's model is the share of each of its `fb_terms` most frequent terms; the feedback
    model is their sum, each document weighted by its score in the run, cut to `fb_terms` terms.
    Both it and the query's model sum to 1 before they are mixed. Terms of 2 to 20 letters and
    digits are taken that at most a tenth of the documents hold. The expansion holds the whole mixed
    model and takes the place of the query's own terms; expansions made before stand beside it as
    they are.

    Paper: Lavrenko, Croft, SIGIR 2001 (relevance model 1); Abdul-Jaleel et al., TREC 2004 (the
    mixture). As in Anserini, the score of any retriever takes the place of the query likelihood,
    and documents are cut to their most frequent terms first. We differ: letters and digits of every
    script are taken, not of ASCII alone; equal weights are cut by term; a negative score counts 0,
    and where no score is above 0 all documents count alike.

    Attributes:
        index: the BM25 node whose index holds the documents of the run.
        fb_docs: documents of each query that are taken to be relevant.
        fb_terms: terms kept of each document, and of the feedback model.
        original_weight: the query's share of the mixture, in [0, 1].
    """

    name: ClassVar[str] = "rm3"

    index: BM25
    original_weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_protocol(self.name, self.index, BM25)
        if not 0.0 <= self.original_weight <= 1.0:
            raise UsageError(f"original_weight must lie in [0, 1]; got {self.original_weight}")

    def reshape(self, queries: Sequence[Query], best: Sequence[Feedback]) -> list[Expansion]:
        """Return an expansion that holds the mixed model."""
        own = self.index.query_terms(queries)
        return [
            _of_terms(
                (_shares(query), self.original_weight),
                (self._relevance_model(feedback), 1.0 - self.original_weight),
            )
            for query, feedback in zip(own, best, strict=True)
        ]

    def _relevance_model(self, feedback: Feedback) -> dict[str, float]:
        weights = np.maximum(feedback.scores.astype(np.float64), 0.0)
        if not weights.any():
            weights[:] = 1.0
        model: dict[str, float] = {}
        documents = _feedback_terms(self.index, feedback.rows)
        for weight, document in zip(weights.tolist(), documents, strict=True):
            for term, share in _shares(_heaviest(document, self.fb_terms)).items():
                model[term] = model.get(term, 0.0) + weight * share
        return _shares(_heaviest(model, self.fb_terms))


@dataclass(frozen=True)
class Rocchio(_Feedback):
    """The query moved towards the mean of its best documents.

    Over a term index, a document is the counts of its feedback terms, those that RM3 takes, brought
    to length 1; the mean of the documents is cut to `fb_terms` terms; it and the query are brought
    to length 1 before they are added with the two weights. The expansion holds the whole sum. Over
    a vector index, the vectors are added, and the sum has the length of the query's vector.

    Paper: Rocchio, 1971, without negative documents. Terms as in Anserini's Rocchio, save that
    letters and digits alone are taken, and equal weights are cut by term; vectors as in
    Li et al., "Pseudo Relevance Feedback with Deep Language Models and Dense Retrievers", TOIS
    2022, save for the length, which is our choice: scores keep their scale.

    Attributes:
        index: a BM25 node, or a node with vectors such as Dense, that holds the run's documents.
        fb_docs: documents of each query that are taken to be relevant.
        fb_terms: terms kept of the mean; vectors are not cut.
        alpha: weight of the query.
        beta: weight of the mean of the documents.
    """

    name: ClassVar[str] = "rocchio"

    alpha: float = 1.0
    beta: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        require_protocol(self.name, self.index, TermIndex, VectorIndex)
        if not (0.0 <= self.alpha < math.inf and 0.0 <= self.beta < math.inf):
            raise UsageError(f"alpha and beta must be 0 or more; got {self.alpha} and {self.beta}")

    def reshape(self, queries: Sequence[Query], best: Sequence[Feedback]) -> list[Expansion]:
        """Return an expansion of terms or a vector, by what the index has."""
        if isinstance(self.index, TermIndex):
            own = self.index.query_terms(queries)
            means = [self._mean(self.index, feedback) for feedback in best]
            return [
                _of_terms((_unit(query), self.alpha), (mean, self.beta))
                for query, mean in zip(own, means, strict=True)
            ]
        assert isinstance(self.index, VectorIndex), "no other index is accepted"
        vectors = self.index.encode(queries) if queries else ()
        return [
            self._moved(query.astype(np.float64), self.index.vectors(feedback.rows))
            for query, feedback in zip(vectors, best, strict=True)
        ]

    def _mean(self, index: TermIndex, feedback: Feedback) -> dict[str, float]:
        mean: dict[str, float] = {}
        for document in _feedback_terms(index, feedback.rows):
            for term, weight in _unit(document).items():
                mean[term] = mean.get(term, 0.0) + weight / len(feedback.rows)
        return _unit(_heaviest(mean, self.fb_terms))

    def _moved(self, query: NDArray[np.float64], documents: NDArray[np.float32]) -> Expansion:
        moved = self.alpha * query + self.beta * documents.mean(axis=0, dtype=np.float64)
        length, wanted = np.linalg.norm(moved), np.linalg.norm(query)
        scale = wanted / length if length and wanted else 1.0
        return Expansion(vector=tuple((moved * scale).tolist()))


def _feedback_terms(index: TermIndex, rows: NDArray[np.int32]) -> Iterator[dict[str, float]]:
    """Yield the counts of each document's terms, of those that feedback may take."""
    bags = index.term_vectors(rows)
    few = index.document_shares(bags.terms) <= _MOST_DOCUMENTS
    for start, end in pairwise(bags.bounds.tolist()):
        numbers, kept = bags.terms[start:end], few[start:end]
        counts = bags.counts[start:end][kept].tolist()
        named = zip(map(bags.vocabulary.__getitem__, numbers[kept].tolist()), counts, strict=True)
        yield {term: n for term, n in named if len(term) in _TERM_LENGTHS and term.isalnum()}


def _heaviest(terms: Mapping[str, float], n: int) -> dict[str, float]:
    """Return the n terms of most weight; of equal ones the first by code point."""
    return dict(sorted(terms.items(), key=lambda item: (-item[1], item[0]))[:n])


def _shares(terms: Mapping[str, float]) -> dict[str, float]:
    """Return the terms with weights whose sizes sum to 1."""
    total = math.fsum(map(abs, terms.values()))
    return {term: weight / total for term, weight in terms.items()} if total else {}


def _unit(terms: Mapping[str, float]) -> dict[str, float]:
    """Return the terms with weights whose squares sum to 1."""
    length = math.sqrt(math.fsum(weight * weight for weight in terms.values()))
    return {term: weight / length for term, weight in terms.items()} if length else {}


def _of_terms(*models: tuple[Mapping[str, float], float]) -> Expansion:
    """Return the expansion that holds the weighted sum of models, in place of the query's terms."""
    mixed: dict[str, float] = {}
    for model, share in models:
        for term, weight in model.items():
            mixed[term] = mixed.get(term, 0.0) + share * weight
    return Expansion(
        terms=tuple((term, weight) for term, weight in sorted(mixed.items()) if weight),
        term_weight=0.0,
    )
