"""MaxSim of a query with packed documents, in four forms of their token vectors.

The score of a document is the sum over the query's tokens of the largest inner product with one of
its own (ColBERT, Khattab and Zaharia 2020, equation 3). There is no padding, so nothing can stand
in for a token that is not there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.retrieval.codes import middle, rotated
from limbeck.retrieval.threads import n_threads, share

__all__ = ["CodedTokens", "FloatTokens", "ResidualTokens", "Tokens", "coded_query", "lanes_of"]

_WORTH = 1 << 23
"""Products worth a thread of their own (about 0.1 ms of work)."""


class Tokens(ABC):
    """Token vectors of documents, packed."""

    @abstractmethod
    def scores(
        self, query: NDArray[np.float32], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the MaxSim of a query with some documents, shape (n_docs,).

        It depends on query and document alone, to the bit. A document without tokens has the lowest
        score there can be, and a query without tokens 0 with each.

        Args:
            query: token vectors of length 1, shape (n_tokens, dim).
            starts: the first token of each document.
            ends: the token behind its last.
        """


def lanes_of(query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a query with rows of 0 added, so that they fill the lanes of the compiled loops."""
    from limbeck.retrieval._lanes import STEP

    padded = np.zeros((-(-len(query) // STEP) * STEP, query.shape[1]), dtype=query.dtype)
    padded[: len(query)] = query
    return padded


def _panels(padded: NDArray[Any], group: int = 1) -> NDArray[Any]:
    """Return the panels in one line, each with the lanes of a group of dimensions side by side."""
    from limbeck.retrieval._lanes import PANEL

    n_lanes, dim = padded.shape
    turned = padded.reshape(n_lanes, dim // group, group).transpose(1, 0, 2)
    pieces = [turned[:, start : start + PANEL].ravel() for start in range(0, n_lanes, PANEL)]
    return np.concatenate(pieces)


def _scored(
    work: Any, query: NDArray[np.float32], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the scores that compiled code writes for the documents that have tokens."""
    scores = np.full(len(starts), -float(len(query)), dtype=np.float32)
    some = np.flatnonzero(ends > starts)
    if not len(some) or not len(query):
        return scores + 0.0
    starts, ends = starts[some].astype(np.int64), ends[some].astype(np.int64)
    made = np.empty(len(some), dtype=np.float32)

    def part(span: tuple[int, int]) -> None:
        where = slice(*span)
        work(starts[where], ends[where], made[where])

    n_products = int((ends - starts).sum()) * query.size
    share(part, len(some), n_threads(n_products // _WORTH))
    scores[some] = made
    return scores


@dataclass(frozen=True, eq=False)
class FloatTokens(Tokens):
    """Token vectors as they are.

    Attributes:
        rows: float32 or float16, shape (n_tokens, dim), contiguous.
    """

    rows: NDArray[Any]

    def scores(
        self, query: NDArray[np.float32], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the MaxSim of a query with some documents."""
        from limbeck.retrieval import _maxsim

        dim = query.shape[1]
        lanes = _panels(lanes_of(query)) if len(query) else query
        rows = np.asarray(self.rows).reshape(-1)
        halves = rows.dtype == np.float16
        scored: Any = _maxsim.score_halves if halves else _maxsim.score_floats
        bits = rows.view(np.uint16) if halves else rows
        return _scored(
            lambda s, e, out: scored(lanes, len(query), bits, dim, s, e, out), query, starts, ends
        )


@dataclass(frozen=True, eq=False)
class CodedTokens(Tokens):
    """Token vectors as codes of `limbeck.retrieval.codes`; a query has 8 bits a dimension.

    Attributes:
        codes: uint32, shape (n_tokens, width_of(dim, bits)).
        bits: of each dimension.
    """

    codes: NDArray[np.uint32]
    bits: int

    def scores(
        self, query: NDArray[np.float32], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the MaxSim of a query with some documents."""
        return _coded_scores(self.codes, self.bits, None, query, starts, ends)


@dataclass(frozen=True, eq=False)
class ResidualTokens:
    """Token vectors as centroids plus residuals, which are codes.

    Attributes:
        codes: as those of `CodedTokens`; the upper half of the last word is a float16 that brings
            the sum of centroid and residual to length 1.
        bits: of each dimension.
        centroids: each token's centroid, any unsigned integer type, shape (n_tokens,).
    """

    codes: NDArray[np.uint32]
    bits: int
    centroids: NDArray[Any]

    def scores(
        self,
        query: NDArray[np.float32],
        products: NDArray[np.float32],
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return the MaxSim of a query with some documents.

        Args:
            query: token vectors of length 1, shape (n_tokens, dim).
            products: of all centroids and `lanes_of(query)`, shape (n_centroids, n_lanes).
            starts: the first token of each document.
            ends: the token behind its last.
        """
        centroids = (products, np.asarray(self.centroids))
        return _coded_scores(self.codes, self.bits, centroids, query, starts, ends)


def _coded_scores(
    codes: NDArray[np.uint32],
    bits: int,
    centroids: tuple[NDArray[Any], ...] | None,
    query: NDArray[np.float32],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> NDArray[np.float32]:
    from limbeck.retrieval import _maxsim

    if not len(query):
        return np.zeros(len(starts), dtype=np.float32)
    coded = coded_query(query, bits)
    documents = (np.asarray(codes).reshape(-1), codes.shape[1], bits)

    def work(starts: NDArray[np.int64], ends: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        _maxsim.score_codes(coded, len(query), documents, starts, ends, out, centroids)

    return _scored(work, query, starts, ends)


def coded_query(query: NDArray[np.float32], bits: int) -> tuple[NDArray[Any], ...]:
    """Return panels, factors and offsets of a query with 8 bits a dimension.

    Raises:
        DataError: a vector is not finite.
    """
    from limbeck.retrieval._lanes import HAS_DOT_BYTES

    turned = lanes_of(rotated(query))
    factors = np.abs(turned).max(axis=1) / np.float32(127)
    if not np.isfinite(factors).all():
        raise DataError(
            "token vectors must be finite; those of a query are not; look at the encoder"
        )
    factors[factors == 0.0] = 1.0
    whole = np.rint(turned / factors[:, None])
    if not HAS_DOT_BYTES:
        return _panels(whole), factors, np.zeros(len(whole), dtype=np.float32)
    panels = _panels(whole.astype(np.int8), group=4).view(np.int32)
    return panels, factors, factors * np.float32(middle(bits)) * whole.sum(axis=1)
