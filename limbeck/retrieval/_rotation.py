"""The compiled rotation of vectors before they are quantised. It loads numba: import it lazily."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["turn"]


@njit(cache=True, nogil=True)
def turn(vectors: NDArray[np.float32], signs: NDArray[np.float32], order: NDArray[np.intp]) -> None:
    """Turn each row of `vectors`, shape (n, dim), in place.

    Signs are changed, each block of a power of two dimensions is multiplied with the Hadamard
    matrix of its size, and the dimensions are put in a new order.
    """
    dim = len(signs)
    block = dim & -dim
    factor = np.float32(block**-0.5)
    line = np.empty(dim, np.float32)
    for row in range(len(vectors)):
        for i in range(dim):
            line[i] = vectors[row, i] * signs[i]
        half = 1
        while half < block:
            for start in range(0, dim, 2 * half):
                for i in range(start, start + half):
                    first, second = line[i], line[i + half]
                    line[i], line[i + half] = first + second, first - second
            half *= 2
        for i in range(dim):
            vectors[row, i] = line[order[i]] * factor
