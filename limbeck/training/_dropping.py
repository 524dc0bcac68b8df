"""The compiled draw of what dropout keeps. It loads numba: import it lazily."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["draw"]


@njit(cache=True, nogil=True)
def draw(out: NDArray[np.uint16], seed: np.uint64, dropped: np.uint64, kept: np.uint16) -> None:
    """Write `kept` or 0 to each place of `out`, whose length is a multiple of 4.

    Each four places are 16 bits each of the next number of SplitMix64 (Steele et al., OOPSLA 2014),
    so what is drawn follows from the seed and the place alone.

    Args:
        out: uint16 or uint32, shape (n,).
        seed: of the numbers.
        dropped: of 65,536 values those that give 0.
        kept: what the others give.
    """
    low = np.uint64(0xFFFF)
    for group in range(len(out) // 4):
        bits = seed + np.uint64(group + 1) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
        out[4 * group] = kept * ((bits & low) >= dropped)
        out[4 * group + 1] = kept * (((bits >> np.uint64(16)) & low) >= dropped)
        out[4 * group + 2] = kept * (((bits >> np.uint64(32)) & low) >= dropped)
        out[4 * group + 3] = kept * ((bits >> np.uint64(48)) >= dropped)
