"""Centroids of token vectors: training, the nearest of each vector, and residuals as codes.

Paper: ColBERTv2 (Santhanam et al., NAACL 2022, section 3.3) and PLAID (Santhanam et al., CIKM 2022)
store a vector as its centroid and the rest in 1 or 2 bits a dimension. We differ:

- Residuals are coded after a fixed rotation with a scale for each token
  (`limbeck.retrieval.codes`), not in buckets at quantiles over all tokens and dimensions. On token
  vectors of scifact .964 of the first ten are kept at 2 bits, and .906 with the quantiles; .892 and
  .818 at 1 bit (benchmarks/colbert.py --codecs).
- Centroids are codes of 8 bits a dimension themselves. Residuals are taken from what the codes
  stand for, so nothing is lost, and they have a quarter of the size.
- There are no more than one for each 100 tokens, which keeps their share of a small index small,
  and no more than 65,536 (PLAID has more beyond 67 million tokens), so that an id has two bytes.
- k-means sees 32 tokens a centroid, from as many random documents as that takes; PLAID takes
  16 sqrt(120 n) of n passages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.codes import decoded, quantise, rotated
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.interaction import coded_query
from limbeck.retrieval.threads import n_threads, share

__all__ = ["SAMPLED", "Codebook", "n_centroids", "trained"]

SAMPLED = 32
"""Tokens a centroid that k-means sees."""

_BITS = 8
_MOST = 1 << 16
_TOKENS_EACH = 100
_N_ROUNDS = 4
_SEED = 2205
_BLOCK = 1 << 13
_WORTH = 1 << 24
"""Products worth a thread of their own (about 0.1 ms of work)."""


def n_centroids(n_tokens: float) -> int:
    """Return how many centroids so many tokens have: a power of two near 16 sqrt(n_tokens)."""
    wanted = min(16.0 * math.sqrt(max(n_tokens, 1.0)), n_tokens / _TOKENS_EACH, _MOST)
    return 1 << int(math.log2(max(wanted, 1.0)))


@dataclass(frozen=True, eq=False)
class Codebook:
    """Centroids, each at length 1 before it was coded.

    Attributes:
        codes: uint32, shape (n_centroids, width_of(dim, 8)).
        dim: the length of a vector.
    """

    codes: NDArray[np.uint32]
    dim: int

    @staticmethod
    def of(centroids: NDArray[np.float32]) -> Codebook:
        """Return the codebook of centroids of shape (n_centroids, dim)."""
        return Codebook(quantise(centroids, _BITS), centroids.shape[1])

    def __len__(self) -> int:
        """Return the number of centroids."""
        return len(self.codes)

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """What the codes stand for, shape (n_centroids, dim)."""
        back = rotated(np.eye(self.dim, dtype=np.float32)).T
        turned: NDArray[np.float32] = decoded(self.codes, _BITS) @ back
        return turned

    def products(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the inner products of all centroids with a query's tokens.

        Their shape is (n_centroids, n_tokens up to the next multiple of 8); they depend on the
        query alone, to the bit.
        """
        from limbeck.retrieval._centroid_kernels import write_products

        coded = coded_query(query, _BITS)
        made = np.empty((len(self), len(coded[1])), dtype=np.float32)
        parts = n_threads(made.size * self.dim // _WORTH)
        share(lambda part: write_products(coded, self.codes, *part, made), len(self), parts)
        return made

    def nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the centroid nearest to each vector, shape (n,); of equal ones the lower."""
        cells = np.empty(len(vectors), dtype=np.int64)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            self._write_nearest(vectors[block], cells[block])
        return cells

    def _write_nearest(self, vectors: NDArray[np.float32], cells: NDArray[np.int64]) -> None:
        """Search for the nearest centroids as the tokens of a query do, a panel at a time."""
        from limbeck.retrieval._centroid_kernels import nearest_cells, write_products
        from limbeck.retrieval._lanes import PANEL

        lanes, factors, offsets = coded_query(vectors, _BITS)
        width = len(lanes) // len(factors)

        def work(part: tuple[int, int]) -> None:
            products = np.empty(len(self) * PANEL, dtype=np.float32)
            for start in range(part[0] * PANEL, min(part[1] * PANEL, len(factors)), PANEL):
                panel = slice(start, start + PANEL)
                of_panel = lanes[start * width : (start + PANEL) * width]
                coded = (of_panel, factors[panel], offsets[panel])
                n_lanes = len(factors[panel])
                made = products[: len(self) * n_lanes].reshape(len(self), n_lanes)
                write_products(coded, self.codes, 0, len(self), made)
                nearest_cells(made, cells[panel])

        n_panels = -(-len(factors) // PANEL)
        share(work, n_panels, n_threads(n_panels * PANEL * len(self) * self.dim // _WORTH))

    def coded(
        self, vectors: NDArray[np.float32], bits: int
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
        """Return the cell of each vector, and the codes of what it is beside the centroid.

        The upper half of each last word is a float16: what brings the sum back to length 1.

        Args:
            vectors: of length 1, shape (n, dim).
            bits: of each dimension.
        """
        cells = self.nearest(vectors)
        codes = quantise(vectors - self.centroids[cells], bits)
        made = np.empty(len(vectors), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            sums = self._turned[cells[block]] + decoded(codes[block], bits)
            made[block] = np.sqrt(np.einsum("nd,nd->n", sums, sums))
        factors = 1.0 / np.where(made > 0.0, made, 1.0)
        factors[~vectors.any(axis=1)] = 0.0  # a vector of zeros stays one
        halves = factors.astype(np.float16).view(np.uint16).astype(np.uint32)
        codes[:, -1] |= halves << np.uint32(16)
        return cells.astype(np.uint16), codes

    @cached_property
    def _turned(self) -> NDArray[np.float32]:
        """The centroids in the rotated axes."""
        return decoded(self.codes, _BITS)


def trained(vectors: NDArray[np.float32], n: int) -> Codebook:
    """Return n centroids of vectors, by spherical k-means; the same for the same vectors.

    A centroid that no vector is nearest to becomes a random vector.

    Args:
        vectors: of length 1, shape (n_vectors, dim), n_vectors at least n.
        n: how many centroids.
    """
    from limbeck.retrieval._centroid_kernels import add_rows

    random = np.random.default_rng(_SEED)
    book = Codebook.of(vectors[random.permutation(len(vectors))[:n]])
    for _ in range(_N_ROUNDS):
        cells = book.nearest(vectors)
        sums = np.zeros((n, vectors.shape[1]), dtype=np.float64)
        add_rows(vectors, cells, sums)
        lonely = np.bincount(cells, minlength=n) == 0
        sums[lonely] = vectors[random.integers(len(vectors), size=int(lonely.sum()))]
        book = Codebook.of(unit(sums.astype(np.float32)))
    return book
