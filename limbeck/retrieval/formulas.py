"""The formulas of BM25: what a term of a document adds to its score.

All are sums over the terms that stand in both the query and the document. Names follow Kamphuis,
de Vries, Boytsov, Lin, "Which BM25 do you mean?", ECIR 2020, whose "Lucene (accurate)" is
lucene-accurate here.

The package bm25s has the same formulas (its lucene is lucene-accurate), but it has a floor of 0 for
robertson's idf, and for bm25l and bm25+ it also adds a constant for each query term that a document
misses. For rank-bm25 see `BM25.engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DELTAS", "FORMULAS", "Formula", "Occurrences"]

Floats = NDArray[np.float64]
Formula = Literal["lucene", "lucene-accurate", "robertson", "atire", "bm25l", "bm25+"]


class Occurrences(NamedTuple):
    """Terms in documents, one entry for each pair.

    Attributes:
        counts: how often the term stands in the document.
        lengths: how many terms the document has, repeated ones included.
        frequencies: how many documents hold the term.
        n_docs: how many documents hold any term.
        average: mean length of those.
    """

    counts: Floats
    lengths: NDArray[np.int64]
    frequencies: Floats
    n_docs: int
    average: float


def _lucene(of: Occurrences, k1: float, b: float, delta: float) -> Floats:
    """Return Lucene's term scores, with the document lengths that are left in its one byte.

    Published BM25 figures are made with these: on SciFact nDCG@10 is .6789, and .6777 with exact
    lengths.
    """
    return _lucene_accurate(of._replace(lengths=_in_one_byte(of.lengths)), k1, b, delta)


def _in_one_byte(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return lengths as they come out of Lucene's norms: exact to 39, then the 4 leading bits.

    Paper: none; the encoding is SmallFloat.intToByte4 of Lucene 7 and later.
    """
    beyond = np.maximum(lengths - 24, 0)
    n_bits = np.frexp(beyond.astype(np.float64))[1]
    dropped = np.maximum(n_bits - 4, 0)
    left: NDArray[np.int64] = np.minimum(lengths, 24) + (beyond >> dropped << dropped)
    return left


def _lucene_accurate(of: Occurrences, k1: float, b: float, _delta: float) -> Floats:
    """Return Lucene's term scores, without the constant factor k1 + 1, as it is since Lucene 8.

    Paper: Robertson, Zaragoza, "The Probabilistic Relevance Framework", 2009, with Lucene's idf,
    which is never negative.
    """
    tf, df = of.counts, of.frequencies
    idf = np.log(1.0 + (of.n_docs - df + 0.5) / (df + 0.5))
    return idf * tf / (tf + k1 * (1.0 - b + b * of.lengths / of.average))


def _robertson(of: Occurrences, k1: float, b: float, _delta: float) -> Floats:
    """Return the original term scores; a term in more than half of the documents has negative ones.

    Paper: Robertson, Walker, Jones, Hancock-Beaulieu, Gatford, "Okapi at TREC-3", 1994, without
    the constant factor k1 + 1 and without k3.
    """
    tf, df = of.counts, of.frequencies
    idf = np.log((of.n_docs - df + 0.5) / (df + 0.5))
    return idf * tf / (tf + k1 * (1.0 - b + b * of.lengths / of.average))


def _atire(of: Occurrences, k1: float, b: float, _delta: float) -> Floats:
    """Return the term scores of the ATIRE engine.

    Paper: Trotman, Jia, Crane, "Towards an Efficient and Effective Search Engine", 2012.
    """
    tf, df = of.counts, of.frequencies
    idf = np.log(of.n_docs / df)
    return idf * (k1 + 1.0) * tf / (tf + k1 * (1.0 - b + b * of.lengths / of.average))


def _bm25l(of: Occurrences, k1: float, b: float, delta: float) -> Floats:
    """Return term scores that hold long documents back less.

    Paper: Lv, Zhai, "When Documents Are Very Long, BM25 Fails!", SIGIR 2011, without k3; delta .5
    as they advise.
    """
    tf, df = of.counts, of.frequencies
    idf = np.log((of.n_docs + 1.0) / (df + 0.5))
    c = tf / (1.0 - b + b * of.lengths / of.average) + delta
    return idf * (k1 + 1.0) * c / (k1 + c)


def _bm25_plus(of: Occurrences, k1: float, b: float, delta: float) -> Floats:
    """Return term scores with a lower bound for a term that is there at all.

    Paper: Lv, Zhai, "Lower-Bounding Term Frequency Normalization", CIKM 2011, without k3; delta 1
    as they advise.
    """
    tf, df = of.counts, of.frequencies
    idf = np.log((of.n_docs + 1.0) / df)
    return idf * ((k1 + 1.0) * tf / (tf + k1 * (1.0 - b + b * of.lengths / of.average)) + delta)


FORMULAS: dict[str, Callable[[Occurrences, float, float, float], Floats]] = {
    "atire": _atire,
    "bm25+": _bm25_plus,
    "bm25l": _bm25l,
    "lucene": _lucene,
    "lucene-accurate": _lucene_accurate,
    "robertson": _robertson,
}

DELTAS = {"bm25l": 0.5, "bm25+": 1.0}
"""The formulas that have a delta, with its default."""
