"""The inverted index: for each term the documents that hold it, each with a value.

What a value means is for the node that builds the index: BM25 stores what a term adds to a
document's score, a learned-sparse model stores its weights. A document's score is the sum over the
query's terms of query weight x value, and the exact k best documents come back.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import Artifact
from limbeck.errors import ArtifactError, DataError, UsageError
from limbeck.retrieval.threads import n_threads, share

__all__ = ["Bags", "Hits", "Postings", "Vocabulary"]

_POSTINGS_PER_THREAD = 1 << 19
"""Postings worth a thread of their own (one to two milliseconds of work)."""

_MAX_REMEMBERED = 1 << 20
"""Terms whose numbers are remembered; a server's memory must not grow with its queries."""

_LOW_HALF = np.uint64(0xFFFFFFFF)


class Hits(NamedTuple):
    """The best documents of a batch of queries, as `Run` holds them."""

    bounds: NDArray[np.int64]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


class Vocabulary:
    """Sorted distinct terms, numbered from 0, in two arrays: their UTF-8 text, and its bounds."""

    def __init__(self, text: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        """Keep the arrays; they may be memory-mapped."""
        self.text = text
        self.bounds = bounds
        self._found: dict[str, int] = {}

    @staticmethod
    def of(terms: Sequence[str]) -> Vocabulary:
        """Return the vocabulary of terms that are sorted and distinct."""
        return Vocabulary(*_encoded(terms))

    def __len__(self) -> int:
        """Return the number of terms."""
        return len(self.bounds) - 1

    def __getitem__(self, term: int) -> str:
        """Return the term of a number."""
        data = self.text[self.bounds[term] : self.bounds[term + 1]].tobytes()
        return data.decode("utf-8", "surrogatepass")

    def find(self, terms: Sequence[str]) -> NDArray[np.int32]:
        """Return the number of each term, -1 where it is not among these; shape (n_terms,).

        Terms that were looked up are remembered: most words of queries come again.
        """
        known = self._found
        unknown = [term for term in terms if term not in known]
        if len(known) + len(unknown) > _MAX_REMEMBERED:
            known = self._found = {}
            unknown = list(terms)
        if unknown:
            known.update(zip(unknown, self._search(unknown), strict=True))
        return np.fromiter(map(known.__getitem__, terms), dtype=np.int32, count=len(terms))

    def _search(self, terms: list[str]) -> list[int]:
        from limbeck.retrieval import _kernels

        found: list[int] = _kernels.find_strings(*_encoded(terms), self.text, self.bounds).tolist()
        return found


def _encoded(strings: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of all strings, and where each begins. UTF-8 sorts as code points do."""
    joined = "".join(strings)
    data = joined.encode("utf-8", "surrogatepass")
    lengths: Iterable[int] = map(len, strings)
    if len(data) != len(joined):
        lengths = (len(string.encode("utf-8", "surrogatepass")) for string in strings)
    bounds = np.zeros(len(strings) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(strings)), out=bounds[1:])
    return np.frombuffer(data, dtype=np.uint8), _read_only(bounds)


def _read_only(made: NDArray[Any]) -> NDArray[Any]:
    """Return an array as it will come back from disk, so that one compiled loop serves both."""
    made.flags.writeable = False
    return made


@dataclass(frozen=True, eq=False)
class Bags:
    """Documents as bags of terms.

    Attributes:
        vocabulary: the terms.
        bounds: int64, shape (n_docs + 1,); the terms of document i are at bounds[i]:bounds[i + 1].
        terms: int32; distinct in each document.
        counts: how often each stands in its document; any unsigned integer type.
    """

    vocabulary: Vocabulary
    bounds: NDArray[np.int64]
    terms: NDArray[np.int32]
    counts: NDArray[Any]

    @staticmethod
    def of(documents: Iterable[Sequence[str]]) -> Bags:
        """Return the bags of documents that are given as lists of terms.

        Raises:
            UsageError: a term is not a string.
        """
        from limbeck.retrieval import _kernels

        seen: defaultdict[str, int] = defaultdict()
        seen.default_factory = seen.__len__
        tokens = array("i")
        ends = array("q", [0])
        for terms in documents:
            tokens.extend(map(seen.__getitem__, terms))
            ends.append(len(tokens))
        order = _sorted_terms(seen)
        bounds, terms_, counts = _kernels.count_terms(
            np.frombuffer(tokens, dtype=np.int32), np.frombuffer(ends, dtype=np.int64), len(seen)
        )
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[[seen[term] for term in order]] = np.arange(len(order), dtype=np.int32)
        smallest = np.min_scalar_type(int(counts.max(initial=1)))
        return Bags(Vocabulary.of(order), bounds, ranks[terms_], counts.astype(smallest))

    @staticmethod
    def load(artifact: Artifact) -> Bags:
        """Return the bags that lie in an artifact."""
        bounds = _bounds_of(artifact, "bag_bounds", "bag_terms", "i4")
        terms, counts = _array(artifact, "bag_terms", "i4"), _array(artifact, "bag_counts", "u")
        if len(terms) != len(counts):
            raise _damaged(artifact)
        return Bags(_load_vocabulary(artifact), bounds, terms, counts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what an artifact must hold for `load`, beside the arrays of the postings."""
        return {"bag_bounds": self.bounds, "bag_terms": self.terms, "bag_counts": self.counts}

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.bounds) - 1

    def lengths(self) -> NDArray[np.int64]:
        """Return how many terms each document has, repeated ones included; shape (n_docs,)."""
        running = np.concatenate(([0], np.cumsum(self.counts, dtype=np.int64)))
        lengths: NDArray[np.int64] = np.diff(running[self.bounds])
        return lengths

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> Bags:
        """Return the bags of some documents, in the order given.

        Raises:
            ArtifactError: a term's number cannot be.
        """
        pieces = [slice(int(self.bounds[row]), int(self.bounds[row + 1])) for row in rows]
        bounds = np.cumsum([0, *(piece.stop - piece.start for piece in pieces)], dtype=np.int64)
        terms = np.concatenate([self.terms[:0], *(self.terms[piece] for piece in pieces)])
        counts = np.concatenate([self.counts[:0], *(self.counts[piece] for piece in pieces)])
        if len(terms) and not 0 <= terms.min() <= terms.max() < len(self.vocabulary):
            raise ArtifactError(
                f"documents must have terms below {len(self.vocabulary)}; one does not; "
                "the index is damaged, build it again"
            )
        return Bags(self.vocabulary, bounds, terms, counts)


def _sorted_terms(seen: Iterable[str]) -> list[str]:
    other = next((term for term in seen if not isinstance(term, str)), None)
    if other is not None:
        raise UsageError(
            f"an analyzer must return a list of strings; it returned {other!r}, which is "
            f"{type(other).__name__}; mend the analyzer"
        )
    return sorted(seen)


@dataclass(frozen=True, eq=False)
class Postings:
    """For each term its documents and their values, by ascending row.

    Attributes:
        vocabulary: the terms.
        bounds: int64, shape (n_terms + 1,); the postings of term t are at bounds[t]:bounds[t + 1].
        rows: int32, shape (n_postings,).
        values: float32, shape (n_postings,); what a query weight of 1 adds to the score.
        n_docs: number of documents, those without a term included.
    """

    vocabulary: Vocabulary
    bounds: NDArray[np.int64]
    rows: NDArray[np.int32]
    values: NDArray[np.float32]
    n_docs: int

    @staticmethod
    def invert(
        vocabulary: Vocabulary,
        bounds: NDArray[np.int64],
        terms: NDArray[np.int32],
        values: NDArray[np.float32],
    ) -> Postings:
        """Return the postings of documents that are given by rows.

        Args:
            vocabulary: the terms.
            bounds: shape (n_docs + 1,); where the terms of each document begin and end.
            terms: numbers in the vocabulary, distinct in each document.
            values: one a term.
        """
        from limbeck.retrieval import _kernels

        ends, rows, moved = _kernels.transpose(bounds, terms, values, len(vocabulary))
        n_docs = len(bounds) - 1
        return Postings(vocabulary, _read_only(ends), _read_only(rows), _read_only(moved), n_docs)

    @staticmethod
    def load(artifact: Artifact, *, n_docs: int) -> Postings:
        """Return the postings that lie in an artifact, memory-mapped.

        Raises:
            ArtifactError: the arrays do not fit together.
        """
        bounds = _bounds_of(artifact, "posting_bounds", "posting_rows", "i4")
        rows = _array(artifact, "posting_rows", "i4")
        values = _array(artifact, "posting_values", "f4")
        vocabulary = _load_vocabulary(artifact)
        if len(vocabulary) != len(bounds) - 1 or len(rows) != len(values):
            raise _damaged(artifact)
        return Postings(vocabulary, bounds, rows, values, n_docs)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what an artifact must hold for `load`."""
        return {
            "vocabulary": self.vocabulary.text,
            "vocabulary_bounds": self.vocabulary.bounds,
            "posting_bounds": self.bounds,
            "posting_rows": self.rows,
            "posting_values": self.values,
        }

    def document_frequencies(self, terms: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return how many documents hold each term; shape (n_terms,)."""
        frequencies: NDArray[np.int64] = self.bounds[terms + 1] - self.bounds[terms]
        return frequencies

    def top(
        self, queries: Sequence[Mapping[str, float]], k: int, *, threads: int | None = None
    ) -> Hits:
        """Return the k best documents of each query, by the tie rule, exactly.

        Only documents that hold a term of the query are hits, whatever their score. A score is
        summed in float64 by ascending term and rounded to float32 once, so it depends neither on
        the order of the query's terms, nor on the batch, nor on the threads.

        Args:
            queries: the weight of each term, by query; unknown terms and weights of 0 count not.
            k: documents of each query at most.
            threads: threads to work in. None: as many as the size of the batch is worth, and as
                there are processors (or NUMBA_NUM_THREADS).

        Raises:
            DataError: a weight is not finite.
            ArtifactError: the postings name a row that cannot be.
        """
        from limbeck.retrieval import _kernels

        batch = self._numbered(queries)
        most = min(k, self.n_docs)
        starts, n_postings = _kernels.bound_keys(batch[0], batch[1], self.bounds, most)
        keys = np.empty(starts[-1], dtype=np.uint64)
        postings = (self.bounds, self.rows.view(np.uint32), self.values)

        def work(part: tuple[int, int]) -> NDArray[np.int64]:
            found: NDArray[np.int64] = _kernels.best_keys(
                part, batch, most, postings, self.n_docs, starts, keys
            )
            _sort_each(keys[starts[part[0]] : starts[part[1]]], starts[slice(*part)], found)
            return found

        n_parts = threads or n_threads(n_postings // _POSTINGS_PER_THREAD)
        found = np.concatenate(share(work, len(queries), n_parts))
        if (found < 0).any():
            raise ArtifactError(
                f"postings must name rows below {self.n_docs}; one does not; the index is damaged, "
                "build it again"
            )
        return _hits(keys, starts, found)

    def _numbered(
        self, queries: Sequence[Mapping[str, float]]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float64]]:
        """Return bounds, term numbers ascending for each query, and weights."""
        numbers = self.vocabulary.find(list(chain.from_iterable(queries)))
        lengths = np.fromiter(map(len, queries), dtype=np.int64, count=len(queries))
        of_terms = chain.from_iterable(query.values() for query in queries)
        weights = np.fromiter(of_terms, dtype=np.float64, count=len(numbers))
        if not np.isfinite(weights).all():
            raise DataError("the weights of query terms must be finite; got NaN or infinity")
        segment = np.repeat(np.arange(len(queries)), lengths)
        kept = (numbers >= 0) & (weights != 0.0)
        numbers, weights, segment = numbers[kept], weights[kept], segment[kept]
        order = np.lexsort((numbers, segment))
        bounds = np.searchsorted(segment, np.arange(len(queries) + 1))
        return bounds.astype(np.int64), numbers[order].astype(np.uint32), weights[order]


def _sort_each(
    keys: NDArray[np.uint64], starts: NDArray[np.int64], found: NDArray[np.int64]
) -> None:
    """Sort the keys of each query in place."""
    if len(found) and found.min() * len(found) == len(keys):  # all have as many: one matrix
        keys.reshape(len(found), -1).sort(axis=1)
        return
    for start, n_found in zip((starts - starts[:1]).tolist(), found.tolist(), strict=True):
        keys[start : start + n_found].sort()


def _hits(keys: NDArray[np.uint64], starts: NDArray[np.int64], found: NDArray[np.int64]) -> Hits:
    """Return bounds, rows and scores from sorted keys, of which each query has the first few."""
    bounds = np.concatenate(([0], np.cumsum(found)))
    if bounds[-1] != len(keys):
        rank = np.arange(len(keys)) - np.repeat(starts[:-1], np.diff(starts))
        keys = keys[rank < np.repeat(found, np.diff(starts))]
    upper = (keys >> np.uint64(32)).astype(np.uint32)
    negative = upper >= np.uint32(0x80000000)
    bits = np.where(negative, upper, upper ^ np.uint32(0x7FFFFFFF))
    rows = (keys & _LOW_HALF).astype(np.int32)
    return Hits(bounds.astype(np.int64), rows, bits.view(np.float32))


def _array(artifact: Artifact, name: str, kind: str) -> NDArray[Any]:
    """Return an array as a plain view: compiled code knows no memory-mapped subclass.

    Args:
        artifact: where it lies.
        name: its name.
        kind: its type: "i4" for int32, "u" for any unsigned integer, and so on.
    """
    found = np.asarray(artifact.array(name))
    whole = f"{found.dtype.kind}{found.dtype.itemsize}".startswith(kind)
    if found.ndim != 1 or not whole or not found.dtype.isnative:
        raise _damaged(artifact)
    return found


def _bounds_of(artifact: Artifact, name: str, of: str, kind: str) -> NDArray[np.int64]:
    """Return bounds that were found to be bounds of the array that they divide."""
    bounds = _array(artifact, name, "i8")
    whole = len(bounds) > 0 and bounds[0] == 0 and bounds[-1] == len(_array(artifact, of, kind))
    if not whole or (np.diff(bounds) < 0).any():
        raise _damaged(artifact)
    return bounds


def _load_vocabulary(artifact: Artifact) -> Vocabulary:
    bounds = _bounds_of(artifact, "vocabulary_bounds", "vocabulary", "u1")
    return Vocabulary(_array(artifact, "vocabulary", "u1"), bounds)


def _damaged(artifact: Artifact) -> ArtifactError:
    return ArtifactError(
        f"the arrays of {artifact.path} must fit together; they do not; the index is damaged, "
        "build it again"
    )
