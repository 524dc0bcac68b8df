"""Late interaction over a whole corpus: candidates by centroids, then exact MaxSim of the best.

1. The products of all centroids with the query's tokens are taken once.
2. Each token opens its nearest cells; the documents with a token in one of them are candidates.
3. Candidates are scored with their centroids in place of their tokens; the best are kept.
4. Those are scored with their tokens.

Paper: PLAID (Santhanam et al., CIKM 2022). We differ: scoring with all centroids costs so little
here (whole bytes, and each cell of a document once) that the stage before it, which leaves out
centroids below a threshold, is left out; a query whose cells hold too few documents opens more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.codebook import Codebook
from limbeck.retrieval.interaction import ResidualTokens
from limbeck.retrieval.threads import n_threads, share
from limbeck.retrieval.token_index import CodedDocuments

__all__ = ["CentroidSearch"]

_WORTH = 1 << 21
"""Products looked up that are worth a thread of their own (about 0.2 ms of work)."""

_STEPS = 255.0

_Hits = tuple[NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class CentroidSearch:
    """An open index of coded tokens.

    Attributes:
        codebook: the centroids.
        tokens: the coded tokens, memory-mapped.
        starts: int64, shape (n_rows,); the first token of the document at each row.
        ends: the token behind its last.
        bounds: int64, shape (n_rows + 1,); where the cells of each row lie.
        cells: uint16; the distinct cells of all rows.
        list_bounds: int64, shape (n_centroids + 1,); where the rows of each cell lie.
        rows: int32; the rows of all cells.
    """

    codebook: Codebook
    tokens: ResidualTokens
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    bounds: NDArray[np.int64]
    cells: NDArray[np.uint16]
    list_bounds: NDArray[np.int64]
    rows: NDArray[np.int32]

    @staticmethod
    def of(documents: CodedDocuments) -> CentroidSearch:
        """Return the documents of an index, ready to be searched."""
        from limbeck.retrieval._centroid_kernels import distinct_cells, inverted

        codebook, store, places, bits = documents
        starts, ends = (np.append(bound, 0)[places] for bound in (store.starts, store.ends))
        bounds, cells = distinct_cells(starts, ends, np.asarray(store.cells))
        list_bounds, rows = inverted(bounds, cells, len(codebook))
        tokens = ResidualTokens(store.codes, bits, store.cells)
        return CentroidSearch(codebook, tokens, starts, ends, bounds, cells, list_bounds, rows)

    def search(self, query: NDArray[np.float32], k: int, *, n_cells: int, n_exact: int) -> _Hits:
        """Return rows and scores of the k best documents, by the tie rule.

        Args:
            query: token vectors of length 1, shape (n_tokens, dim).
            k: documents returned, if so many have tokens.
            n_cells: cells that each token opens.
            n_exact: candidates scored with their tokens; k at least.
        """
        if not len(query):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        n_exact = max(n_exact, k)
        products = self.codebook.products(query)
        rows = self.candidates(products, len(query), n_cells, n_exact)
        rows = self.pruned(products, len(query), rows, n_exact)
        scores = self.tokens.scores(query, products, self.starts[rows], self.ends[rows])
        best = np.lexsort((rows, -scores))[:k]
        return rows[best], scores[best]

    def candidates(
        self, products: NDArray[np.float32], n_tokens: int, n_cells: int, n_least: int
    ) -> NDArray[np.int64]:
        """Return the rows, rising, with a token in one of the cells that the query opens.

        Where these are fewer than `n_least`, twice as many cells are opened, and so on.
        """
        from limbeck.retrieval._centroid_kernels import mark

        while True:
            if n_cells >= len(self.codebook):
                return np.flatnonzero(self.ends > self.starts)
            marked = np.zeros(len(self.starts), dtype=np.bool_)
            cells = np.unique(_best_cells(products, n_tokens, n_cells))
            mark(cells, self.list_bounds, self.rows, marked)
            found = np.flatnonzero(marked)
            if len(found) >= n_least:
                return found
            n_cells *= 2

    def pruned(
        self, products: NDArray[np.float32], n_tokens: int, rows: NDArray[np.int64], n_kept: int
    ) -> NDArray[np.int64]:
        """Return the rows, rising, whose centroids alone score best; of equal ones the lower."""
        from limbeck.retrieval._centroid_kernels import approximate, as_bytes

        if len(rows) <= n_kept:
            return rows
        coarse = np.empty(products.shape, dtype=np.uint8)
        least, most = products.min(), products.max()
        as_bytes(products, least, np.float32(max(most - least, 1e-6) / _STEPS), coarse)
        scores = np.empty(len(rows), dtype=np.int64)

        def work(part: tuple[int, int]) -> None:
            of_part = slice(*part)
            approximate(coarse, n_tokens, self.bounds, self.cells, rows[of_part], scores[of_part])

        n_looked_up = int((self.bounds[rows + 1] - self.bounds[rows]).sum()) * products.shape[1]
        share(work, len(rows), n_threads(n_looked_up // _WORTH))
        # Rows are distinct, so that these keys are, and the cut is the same for any order of work.
        keys = scores * len(self.starts) + (len(self.starts) - 1 - rows)
        kept = np.argpartition(-keys, n_kept)[:n_kept]
        return np.sort(rows[kept])


def _best_cells(products: NDArray[np.float32], n_tokens: int, n: int) -> NDArray[np.int64]:
    """Return the n best cells of each token, shape (n_tokens, n)."""
    from limbeck.retrieval._centroid_kernels import best_cells, nearest_cells

    cells = np.empty((n_tokens, n), dtype=np.int64)
    if n == 1:
        nearest_cells(products, cells.reshape(-1))
    else:
        best_cells(products, cells)
    return cells
