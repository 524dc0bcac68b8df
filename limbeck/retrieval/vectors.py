"""The k nearest vectors, by inner product, with the tie rule.

faiss only proposes. Its scores depend in their last bits on the batch, on the number of threads and
on the processor, so each proposed vector is scored again by one kernel that adds in a fixed order,
and those scores are sorted by the tie rule (score descending, lower row first). A flat search looks
deeper until no vector left out can reach the k-th score, given how far faiss may be off; its result
is therefore exact, and the same bits for every batch, chunk size and number of threads.

An HNSW search visits a part of the vectors: its result may miss some, but not differently in
another batch. Its graph is built on one thread: faiss's parallel build gives another each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError, DataError

__all__ = ["Layout", "Nearest", "VectorIndex", "chosen_layout"]

Layout = Literal["auto", "flat", "hnsw"]

_FLAT_MOST = 100_000
"""Up to here a flat search is fast enough: 1,588 queries/s at 384 dimensions on one thread."""

_LINKS = 32
_SLACK = 64
"""Candidates that a flat search asks for beyond k at first."""

_MOST_CANDIDATES = 1 << 22
"""Candidates that are held at once: what bounds the queries searched together."""

_BLOCK = 4096
_ROUNDING = 2.0**-24
_LIKE_LENGTHS = 1.0 - 1e-5


_Hits = tuple[NDArray[np.int64], NDArray[np.float32]]


class Nearest(NamedTuple):
    """Hits of a batch: those of query i are at bounds[i]:bounds[i + 1], best first."""

    bounds: NDArray[np.int64]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


def chosen_layout(layout: Layout, n_vectors: int) -> Layout:
    """Return "flat" or "hnsw": what "auto" means for so many vectors."""
    if layout != "auto":
        return layout
    return "flat" if n_vectors <= _FLAT_MOST else "hnsw"


@dataclass(frozen=True, eq=False)
class VectorIndex:
    """Vectors to search by inner product.

    Attributes:
        vectors: float32, shape (n, dim).
        rows: int32, shape (n,), rising; the row of the corpus that each vector belongs to.
        longest: the length of the longest vector.
        graph: a faiss HNSW graph over the vectors; None for a flat search.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int32]
    longest: float
    graph: Any = None

    @staticmethod
    def arrays(
        vectors: NDArray[np.float32],
        rows: NDArray[np.int32],
        layout: Layout = "auto",
        ef_construction: int = 200,
    ) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` makes an index of, to be saved."""
        lengths = _lengths(vectors)
        longest = lengths.max(initial=0.0)
        made: dict[str, NDArray[Any]] = {
            "vectors": vectors,
            "rows": rows,
            "longest": np.array(longest, dtype=np.float64),
        }
        if len(vectors) and chosen_layout(layout, len(vectors)) == "hnsw":
            made["graph"] = _built_graph(_for_graph(vectors, lengths), ef_construction)
        return made

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> VectorIndex:
        """Return the index of arrays, which may be memory-mapped.

        Raises:
            ArtifactError: the arrays do not fit together.
        """
        vectors, rows, longest = arrays["vectors"], arrays["rows"], float(arrays["longest"])
        if vectors.ndim != 2 or vectors.dtype != np.float32 or rows.shape != vectors.shape[:1]:
            raise ArtifactError(
                "a vector index must have float32 vectors (n, dim) and n rows; got "
                f"{vectors.dtype} {vectors.shape} and {rows.shape}; build it again"
            )
        if rows.dtype != np.int32 or (np.diff(rows, prepend=np.int32(-1)) <= 0).any():
            raise ArtifactError(
                "a vector index must have int32 rows that rise from 0 or more; its do not; "
                "it is damaged, build it again"
            )
        graph = arrays.get("graph")
        return VectorIndex(
            vectors, rows, longest, None if graph is None else _opened_graph(graph, vectors)
        )

    def take(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return the vectors of rows of the corpus, shape (len(rows), dim); zeros for no vector."""
        taken = np.zeros((len(rows), self.vectors.shape[1]), dtype=np.float32)
        if len(self.rows):
            found = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
            has = self.rows[found] == rows
            taken[has] = self.vectors[found[has]]
        return taken

    def search(
        self, queries: NDArray[np.float32], k: int, *, beams: Sequence[int] | None = None
    ) -> Nearest:
        """Return the k nearest vectors of each query, or all if they are fewer.

        Args:
            queries: shape (n_queries, dim).
            k: hits of each query.
            beams: how many candidates an HNSW search holds for each query, and so the most hits
                that it can have; k where not given. A flat search needs none.

        Raises:
            DataError: the queries have another dimension, or are not finite.
        """
        self._require_fitting(queries)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if self.graph is None or not len(self.rows):
            hits = self._exact(queries, k)
        else:
            hits = self._approximate(queries, k, [k] * len(queries) if beams is None else beams)
        bounds = np.cumsum([0, *(len(found) for found, _ in hits)], dtype=np.int64)
        found = np.concatenate([np.zeros(0, np.int64), *(found for found, _ in hits)])
        scores = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in hits)])
        return Nearest(bounds, self.rows[found], scores)

    def _require_fitting(self, queries: NDArray[np.float32]) -> None:
        dim = self.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise DataError(
                f"query vectors must have shape (n, {dim}); got {queries.shape}; "
                "use the encoder that the index was built with"
            )
        if not np.isfinite(queries).all():
            raise DataError(
                "query vectors must be finite; got NaN or infinity; look at the encoder"
            )

    def _exact(self, queries: NDArray[np.float32], k: int) -> list[_Hits]:
        """Return each query's hits; those whose cut is not safe are looked at ever deeper."""
        n = len(self.rows)
        hits: list[_Hits] = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
        waiting = np.arange(len(queries) if n else 0)
        depth = min(n, k + _SLACK)
        while len(waiting):
            unsafe: list[int] = []
            for part in _parts(waiting, depth):
                for position, found, worst in self._proposed(queries, part, depth):
                    hits[position] = ranked = self._ranked(queries[position], found, k)
                    reach = worst + self._margin(queries[position])
                    if depth < n and not ranked[1][-1] > reach:
                        unsafe.append(position)
            waiting = np.array(unsafe, dtype=np.int64)
            depth = min(n, 2 * depth)
        return hits

    def _proposed(
        self, queries: NDArray[np.float32], part: NDArray[np.int64], depth: int
    ) -> Iterator[tuple[int, NDArray[np.int64], float]]:
        """Yield each query's place, its `depth` candidates, and faiss's score of the last one."""
        import faiss

        scores, found = faiss.knn(
            queries[part], self.vectors, depth, metric=faiss.METRIC_INNER_PRODUCT
        )
        for i, position in enumerate(part.tolist()):
            yield position, found[i], float(scores[i, -1])

    def _margin(self, query: NDArray[np.float32]) -> float:
        """Return how far above faiss's score a final score can be.

        The rounding of a float32 inner product in any order is at most dim * 2**-24 of the product
        of the lengths; 4 more for that of the final score and of this bound.
        """
        length = float(np.sqrt((query.astype(np.float64) ** 2).sum()))
        return (len(query) + 4) * _ROUNDING * 1.01 * length * self.longest

    def _approximate(
        self, queries: NDArray[np.float32], k: int, beams: Sequence[int]
    ) -> list[_Hits]:
        """Return each query's hits among what its own beam finds in the graph."""
        import faiss

        hits: list[_Hits] = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
        of_beam = np.minimum(np.asarray(beams), len(self.rows))
        given = _same_width(queries, self.graph.d)
        for beam in np.unique(of_beam).tolist():
            settings = faiss.SearchParametersHNSW(efSearch=beam)  # type: ignore[attr-defined]
            for part in _parts(np.flatnonzero(of_beam == beam), beam):
                _, found = self.graph.search(given[part], beam, params=settings)
                for i, position in enumerate(part.tolist()):
                    hits[position] = self._ranked(queries[position], found[i][found[i] >= 0], k)
        return hits

    def _ranked(self, query: NDArray[np.float32], found: NDArray[np.int64], k: int) -> _Hits:
        """Return the k best of the candidates with their final scores, by the tie rule."""
        scores = _scores(query, self.vectors, found)
        best = np.lexsort((found, -scores))[:k]
        return found[best], scores[best]


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(
        np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    )
    return lengths


def _scores(
    query: NDArray[np.float32], vectors: NDArray[np.float32], found: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return inner products, shape (len(found),), whose bits depend on the two vectors alone.

    Each product is summed over a float64 row of its own, pairwise, and rounded once. (A compiled
    kernel saves .2 ms a query, and costs .4 s at the first one.)
    """
    exact = query.astype(np.float64)
    scores = np.empty(len(found), dtype=np.float32)
    for start in range(0, len(found), _BLOCK):
        block = slice(start, start + _BLOCK)
        products = vectors[found[block]].astype(np.float64)
        products *= exact
        scores[block] = products.sum(axis=1)
    return scores


def _parts(positions: NDArray[np.int64], depth: int) -> list[NDArray[np.int64]]:
    """Return the positions in parts whose candidates fit into memory."""
    size = max(1, _MOST_CANDIDATES // max(depth, 1))
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def _for_graph(vectors: NDArray[np.float32], lengths: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return vectors whose order by distance to a query is their order by inner product.

    Paper: DPR (Karpukhin et al. 2020), its code: one more dimension makes all lengths equal. We
    leave it out where they are equal already.
    """
    longest = lengths.max()
    if lengths.min() >= longest * _LIKE_LENGTHS:
        return np.asarray(vectors)
    extra = np.sqrt(np.maximum(longest**2 - lengths**2, 0.0))
    return np.hstack([vectors, extra[:, None].astype(np.float32)])


def _same_width(queries: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the queries with a 0 in the dimension that the graph has more."""
    return np.pad(queries, ((0, 0), (0, width - queries.shape[1])))


def _built_graph(vectors: NDArray[np.float32], ef_construction: int) -> NDArray[np.uint8]:
    """Return the bytes of an HNSW graph, without the vectors; the same for the same vectors."""
    import faiss

    graph = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS)
    graph.hnsw.efConstruction = ef_construction
    n_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        graph.add(vectors)
    finally:
        faiss.omp_set_num_threads(n_threads)
    made: NDArray[np.uint8] = faiss.serialize_index(graph, faiss.IO_FLAG_SKIP_STORAGE)
    return made


def _opened_graph(data: NDArray[np.uint8], vectors: NDArray[np.float32]) -> Any:
    """Return a faiss index of a saved graph over its vectors."""
    import faiss

    try:
        graph: Any = faiss.deserialize_index(np.array(data))
    except RuntimeError as error:
        raise ArtifactError("an HNSW graph must be readable; it is not; build it again") from error
    storage = faiss.IndexFlatL2(graph.d)
    storage.add(vectors if graph.d == vectors.shape[1] else _for_graph(vectors, _lengths(vectors)))
    graph.storage = storage
    graph.own_fields = False
    graph.referenced_objects = [storage]  # Python keeps it alive, for faiss does not own it
    return graph
