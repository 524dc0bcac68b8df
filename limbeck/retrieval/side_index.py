"""An index that a node reads beside the run: what it must offer, and that it holds the same corpus.

Feedback learns from its terms or vectors; MMR compares its vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, Problem, UsageError
from limbeck.pipeline import Given, Retriever
from limbeck.retrieval.postings import Bags
from limbeck.types import Query, Run

__all__ = ["TermIndex", "VectorIndex", "examine_index", "require_corpus", "require_protocol"]


@runtime_checkable
class TermIndex(Protocol):
    """A retriever that searches terms."""

    def query_terms(self, queries: Sequence[Query]) -> list[dict[str, float]]:
        """Return the weight of each term of each query."""
        ...

    def term_vectors(self, rows: Sequence[int] | NDArray[np.integer]) -> Bags:
        """Return the terms of documents with their counts."""
        ...

    def document_shares(self, terms: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the share of all documents that hold each term."""
        ...


@runtime_checkable
class VectorIndex(Protocol):
    """A retriever that searches vectors."""

    def encode(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Return a vector a query, shape (n_queries, dim)."""
        ...

    def vectors(self, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the vectors of documents, shape (n_rows, dim); 0 for one that has none."""
        ...


def require_protocol(name: str, index: object, *kinds: type) -> None:
    """Raise UsageError unless the index of the node of a name is of one of the kinds."""
    if not isinstance(index, kinds):
        wanted = " or ".join("bm25" if kind is not VectorIndex else "dense" for kind in kinds)
        raise UsageError(
            f"the index of {name} must be a node such as {wanted}; got {type(index).__name__}"
        )


def examine_index(
    name: str, index: Retriever, given: Given, place: str, problems: list[Problem]
) -> None:
    """Examine the index of the node of a name: it must hold the documents of the run."""
    known = index.examine(Given(), f"{place}.index", problems).corpus
    if known and given.corpus and known != given.corpus:
        problems.append(
            Problem(
                place,
                f"{name} reads a run over the corpus {given.corpus}, and its index is of {known}",
                "give it the index that the run is made with",
            )
        )


def require_corpus(name: str, index: Retriever, run: Run) -> None:
    """Raise DataError where the index of the node of a name holds other documents than the run."""
    own = index.corpus
    if own is not None and own.fingerprint != run.corpus.fingerprint:
        raise DataError(
            f"{name} must read a run over the corpus of its index, {own.fingerprint}; "
            f"the run is over {run.corpus.fingerprint}; give it the index of that corpus"
        )
