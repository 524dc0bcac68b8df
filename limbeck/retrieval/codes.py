"""Short codes for vectors: each dimension in 1, 2, 4 or 8 bits, after one fixed rotation.

A random rotation makes the dimensions of any vector look like draws of one normal distribution, so
that evenly spaced levels, which need no training data, are near the best there are: of a normal
variable they keep 36 % (1 bit), 11.9 % (2) and 1.2 % (4) of the variance as error (Max, 1960). A
vector is scale x (code - middle), dimension by dimension; the middle of 2-bit codes is 1.5. Sums of
products are then sums of integers, which processors have an instruction for.

Paper: Max, "Quantizing for minimum distortion", IRE Trans. IT-6, 1960 (the steps); ColBERTv2
(Santhanam et al. 2022) and PLAID store residuals in buckets at quantiles over all dimensions
instead, learned from a sample, in the original axes.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError

__all__ = ["Bits", "decoded", "middle", "quantise", "rotated", "width_of"]

Bits = Literal[1, 2, 4, 8]

_STEPS = {1: 1.5958, 2: 0.9957, 4: 0.3352}
"""Distance of neighbouring levels for a normal variable of deviation 1 (Max 1960, table II)."""

_PADDED = 32
"""Dimensions are padded to a multiple of this, which fills whole words at every number of bits."""

_SEED = 20112
_BLOCK = 1 << 14
"""Vectors quantised at once, to bound memory."""


def width_of(dim: int, bits: int) -> int:
    """Return how many words of 32 bits hold a vector and its scale."""
    if bits not in get_args(Bits):
        raise UsageError(f"bits must be 1, 2, 4 or 8; got {bits}")
    return _padded(dim) * bits // 32 + 1


def _padded(dim: int) -> int:
    return -(-dim // _PADDED) * _PADDED


def middle(bits: int) -> float:
    """Return the code, between two codes, that stands for 0."""
    return ((1 << bits) - 1) / 2


def rotated(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors, shape (n, dim), in the rotated axes, shape (n, next multiple of 32).

    Twice, signs are turned at random and neighbouring dimensions mixed by a Hadamard matrix, with a
    random order of the dimensions between. It is the same for ever, and each vector is turned
    alone, so its bits do not depend on the others.
    """
    from limbeck.retrieval._rotation import turn

    padded = _padded(vectors.shape[1])
    turned = np.zeros((len(vectors), padded), dtype=np.float32)
    turned[:, : vectors.shape[1]] = vectors
    for signs, order in _rounds(padded):
        turn(turned, signs, order)
    return turned


@cache
def _rounds(dim: int) -> tuple[tuple[NDArray[np.float32], NDArray[np.intp]], ...]:
    """Return the signs and the order of dimensions of both rounds."""
    random = np.random.default_rng(_SEED)
    signs = random.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(2, dim))
    return tuple((of_round, random.permutation(dim)) for of_round in signs)


def quantise(vectors: NDArray[np.float32], bits: int, *, unit: bool = False) -> NDArray[np.uint32]:
    """Return the codes of vectors of shape (n, dim), uint32 of shape (n, width_of(dim, bits)).

    A word has 8 / bits groups of four codes. With n words of codes, code d is number d % 4 of group
    d / 4n in word (d / 4) % n, from bit 8 x number + bits x group on. The lower half of the last
    word is the scale, a float16; its upper half is free for who wants it.

    Args:
        vectors: what to quantise.
        bits: of each dimension.
        unit: choose scales that bring the vectors to length 1, instead of those nearest to them; a
            vector of zeros stays one.
    """
    blocks = range(0, max(len(vectors), 1), _BLOCK)
    made = [_quantised(vectors[at : at + _BLOCK], bits, unit=unit) for at in blocks]
    return np.concatenate(made)


def _quantised(vectors: NDArray[np.float32], bits: int, *, unit: bool) -> NDArray[np.uint32]:
    turned = rotated(vectors)
    step = _step(turned, bits)
    highest = (1 << bits) - 1
    codes = np.clip(np.rint(turned / step[:, None] + middle(bits)), 0, highest)
    levels = codes - np.float32(middle(bits))
    squared = (levels * levels).sum(axis=1)
    scales = 1.0 / np.sqrt(squared) if unit else (turned * levels).sum(axis=1) / squared
    scales[~turned.any(axis=1)] = 0.0  # no code stands for 0
    tokens = np.empty((len(vectors), width_of(vectors.shape[1], bits)), dtype=np.uint32)
    tokens[:, :-1] = _packed(codes.astype(np.uint32), bits)
    tokens[:, -1] = scales.astype(np.float16).view(np.uint16)
    return tokens


def decoded(tokens: NDArray[np.uint32], bits: int) -> NDArray[np.float32]:
    """Return what codes stand for, in the rotated axes."""
    groups = 8 // bits
    shifts = np.add.outer(bits * np.arange(groups), 8 * np.arange(4)).astype(np.uint32)
    spread = np.right_shift(tokens[:, None, :-1, None], shifts[:, None, :]) & ((1 << bits) - 1)
    codes = spread.reshape(len(tokens), 32 // bits * (tokens.shape[1] - 1)).astype(np.float32)
    scales = (tokens[:, -1] & 0xFFFF).astype(np.uint16).view(np.float16).astype(np.float32)
    levels: NDArray[np.float32] = scales[:, None] * (codes - np.float32(middle(bits)))
    return levels


def _step(turned: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return the distance of neighbouring levels for each vector, shape (n,)."""
    if bits in _STEPS:
        deviation = np.sqrt(np.mean(turned * turned, axis=1))
        step = _STEPS[bits] * deviation
    else:  # so fine that the range matters more than the density
        step = np.abs(turned).max(axis=1, initial=0.0) / middle(bits)
    found: NDArray[np.float32] = np.where(step > 0.0, step, 1.0).astype(np.float32)
    return found


def _packed(codes: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    """Return the words of codes of shape (n, dim)."""
    groups = 8 // bits
    n, dim = codes.shape
    of_group = codes.reshape(n, groups, dim // (4 * groups), 4)
    shifts = np.add.outer(bits * np.arange(groups), 8 * np.arange(4)).astype(np.uint32)
    placed = np.left_shift(of_group, shifts[:, None, :])
    words: NDArray[np.uint32] = np.bitwise_or.reduce(placed, axis=(1, 3))
    return words
