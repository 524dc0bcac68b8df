"""Compiled Ward clustering. Import this module inside functions: it loads numba."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["ward"]


@njit(cache=True, nogil=True)
def ward(distances: NDArray[np.float64], n_clusters: int) -> NDArray[np.int64]:
    """Return each point's cluster, from 0, when so many are left of joining the nearest two.

    The row of each cluster remembers its nearest neighbour, so that a join looks at one row and at
    those whose neighbour was joined. Ties go to the lower number.

    Paper: Ward 1963; distances are brought up to date by the formula of Lance and Williams 1967.

    Args:
        distances: squared distances of the points, shape (n, n); written over.
        n_clusters: from 1 to n.
    """
    n = len(distances)
    sizes, parents = np.ones(n), np.arange(n)
    neighbours = np.zeros(n, np.int64)
    for i in range(n):
        distances[i, i] = np.inf
    for i in range(n):
        neighbours[i] = np.argmin(distances[i])
    for _ in range(n - n_clusters):
        kept = _closest(distances, neighbours, sizes)
        gone = neighbours[kept]
        if gone < kept:
            kept, gone = gone, kept
        _join(distances, sizes, kept, gone)
        parents[gone] = kept
        for i in range(n):
            if sizes[i] > 0 and (i == kept or neighbours[i] in {kept, gone}):
                neighbours[i] = np.argmin(distances[i])
            elif sizes[i] > 0 and distances[i, kept] < distances[i, neighbours[i]]:
                neighbours[i] = kept
    return _numbered(parents)


@njit(cache=True, nogil=True)
def _closest(
    distances: NDArray[np.float64], neighbours: NDArray[np.int64], sizes: NDArray[np.float64]
) -> int:
    """Return the lowest cluster of those whose neighbour is nearest."""
    found, least = 0, np.inf
    for i in range(len(sizes)):
        if sizes[i] > 0 and distances[i, neighbours[i]] < least:
            found, least = i, distances[i, neighbours[i]]
    return found


@njit(cache=True, nogil=True)
def _join(distances: NDArray[np.float64], sizes: NDArray[np.float64], kept: int, gone: int) -> None:
    """Write the distances of the joined cluster to all others in the row and column of `kept`."""
    together = distances[kept, gone]
    a, b = sizes[kept], sizes[gone]
    for i in range(len(sizes)):
        if sizes[i] > 0 and i not in {kept, gone}:
            c = sizes[i]
            joined = (a + c) * distances[kept, i] + (b + c) * distances[gone, i] - c * together
            distances[kept, i] = distances[i, kept] = joined / (a + b + c)
    distances[gone, :] = np.inf
    distances[:, gone] = np.inf
    sizes[kept], sizes[gone] = a + b, 0.0


@njit(cache=True, nogil=True)
def _numbered(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each point's root; a parent comes before its children."""
    numbers, n_roots = np.empty(len(parents), np.int64), 0
    for i in range(len(parents)):
        if parents[i] == i:
            numbers[i] = n_roots
            n_roots += 1
        else:
            numbers[i] = numbers[parents[i]]
    return numbers
