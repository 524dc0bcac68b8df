"""Compiled MaxSim of one query with many documents. Import inside functions: it loads numba.

Documents lie packed: the tokens of one after those of another, without padding. A document is read
once, in tiles of a few tokens, and nothing but its score is written. The last tile of a document
overlaps the one before it, which changes no maximum; a document shorter than a tile has its last
token repeated. All release the GIL.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from limbeck.retrieval._lanes import HAS_DOT_BYTES, PANEL, ROWS, STEP, byte_tile, float_tile

__all__ = ["score_codes", "score_floats", "score_halves"]

_BUILT_ON = "c1ce1149a32077a0e0ed9ab958dc86bc"
"""Digest of the kernels imported here. numba, whose cache looks at this file alone, would run their
old code after an upgrade; a test says what must stand here."""

_U = np.uint64
"""Unsigned indexes spare a test for negative ones, which would keep loops from being vectors."""

_NEVER = np.float32(-np.inf)
_HALF_SCALE = np.float32(2.0**112)
"""What the exponents of single and half precision differ by."""

_float_8, _float_16 = float_tile(STEP), float_tile(2 * STEP)
_float_24, _float_32 = float_tile(3 * STEP), float_tile(4 * STEP)
_byte_8, _byte_16 = byte_tile(STEP), byte_tile(2 * STEP)
_byte_24, _byte_32 = byte_tile(3 * STEP), byte_tile(4 * STEP)


@njit(cache=True, nogil=True)
def _float_sums(
    n_lanes: int, lanes: Any, at: int, rows: Any, first: int, dim: int, sums: Any
) -> None:
    if n_lanes == 4 * STEP:
        _float_32(lanes, at, rows, first, dim, sums)
    elif n_lanes == 3 * STEP:
        _float_24(lanes, at, rows, first, dim, sums)
    elif n_lanes == 2 * STEP:
        _float_16(lanes, at, rows, first, dim, sums)
    else:
        _float_8(lanes, at, rows, first, dim, sums)


@njit(cache=True, nogil=True)
def _byte_sums(n_lanes: int, lanes: Any, at: int, rows: Any, n_columns: int, sums: Any) -> None:
    if n_lanes == 4 * STEP:
        _byte_32(lanes, at, rows, 0, n_columns, sums)
    elif n_lanes == 3 * STEP:
        _byte_24(lanes, at, rows, 0, n_columns, sums)
    elif n_lanes == 2 * STEP:
        _byte_16(lanes, at, rows, 0, n_columns, sums)
    else:
        _byte_8(lanes, at, rows, 0, n_columns, sums)


@njit(cache=True, nogil=True)
def _widen(halves: Any, wide: Any) -> None:
    """Write the float32 of the bits of finite float16 numbers; `wide` may be longer."""
    bits = wide.view(np.uint32)
    for i in range(len(halves)):
        half = np.uint32(halves[i])
        magnitude = (half & np.uint32(0x7FFF)) << np.uint32(13)
        bits[i] = magnitude | ((half & np.uint32(0x8000)) << np.uint32(16))
    for i in range(len(halves)):
        wide[i] *= _HALF_SCALE


@njit(cache=True, nogil=True)
def _unpack(tokens: Any, first: int, n_rows: int, width: int, bits: int, spread: Any) -> None:
    """Write each code of a few tokens into a byte of its own, four bytes a number."""
    mask = np.uint32(0x01010101) * np.uint32((1 << bits) - 1)
    n_groups, n_words = _U(8 // bits), _U(width - 1)
    for row in range(_U(n_rows)):
        source = (_U(first) + row) * _U(width)
        for group in range(n_groups):
            shift = np.uint32(bits) * np.uint32(group)
            target = (row * n_groups + group) * n_words
            for i in range(n_words):
                spread[target + i] = (tokens[source + i] >> shift) & mask


@njit(cache=True, nogil=True)
def _last_words(tokens: Any, first: int, n_rows: int, width: int, shift: int, wide: Any) -> None:
    """Write the float32 of one half of the last word of each row of a tile."""
    halves = np.empty(ROWS, np.uint16)
    for row in range(ROWS):
        word = tokens[(first + min(row, n_rows - 1) + 1) * width - 1]
        halves[row] = (word >> np.uint32(shift)) & np.uint32(0xFFFF)
    _widen(halves, wide)


@njit(cache=True, nogil=True)
def _as_levels(spread: Any, middle: np.float32, levels: Any) -> None:
    """Write the distance from the middle of each code."""
    for i in range(len(spread)):
        for byte in range(4):
            code = (spread[i] >> np.uint32(8 * byte)) & np.uint32(0xFF)
            levels[4 * i + byte] = np.float32(code) - middle


@njit(cache=True, nogil=True)
def _tile_start(first: int, start: int, end: int) -> int:
    """Return where the tile at `first` begins so that it ends with the document at most."""
    return max(start, min(first, end - ROWS))


@njit(cache=True, nogil=True)
def _repeat_last(rows: Any, n_rows: int, width: int) -> None:
    """Fill a tile that has too few rows with its last one."""
    for row in range(n_rows, ROWS):
        for i in range(width):
            rows[row * width + i] = rows[(n_rows - 1) * width + i]


@njit(cache=True, nogil=True)
def _keep_largest(sums: Any, n_lanes: int, done: int, best: Any) -> None:
    """Keep in each lane of a panel what is largest of it and the rows of a tile."""
    width = _U(n_lanes)
    for lane in range(width):
        largest = best[_U(done) + lane]
        for row in range(_U(ROWS)):
            largest = max(largest, sums[row * width + lane])
        best[_U(done) + lane] = largest


@njit(cache=True, nogil=True)
def _total(best: Any, n_tokens: int) -> np.float32:
    """Return the sum over the query's own tokens; the other lanes are padding."""
    total = 0.0
    for lane in range(n_tokens):
        total += best[lane]
    return np.float32(total)


@njit(cache=True, nogil=True)
def _panels_of_floats(
    lanes: Any, n_lanes: int, rows: Any, first: int, dim: int, best: Any, sums: Any
) -> None:
    for done in range(0, n_lanes, PANEL):
        width = min(PANEL, n_lanes - done)
        _float_sums(width, lanes, done * dim, rows, first, dim, sums)
        _keep_largest(sums, width, done, best)


@njit(cache=True, nogil=True)
def score_floats(
    lanes: NDArray[np.float32],
    n_tokens: int,
    rows: NDArray[np.float32],
    dim: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Write the MaxSim of a query with each document whose tokens are float32.

    Args:
        lanes: the query's panels in one line; their lanes beyond `n_tokens` hold 0.
        n_tokens: tokens of the query.
        rows: token vectors of all documents, shape (n, dim) in one line.
        dim: their length.
        starts: the first token of each document.
        ends: the token behind its last; there is one token at least.
        scores: shape (n_docs,); written.
    """
    n_lanes = len(lanes) // dim
    best, sums = np.empty(n_lanes, np.float32), np.empty(ROWS * PANEL, np.float32)
    short = np.empty(ROWS * dim, np.float32)
    for doc in range(len(starts)):
        start, end = starts[doc], ends[doc]
        best[:] = _NEVER
        if end - start < ROWS:
            short[: (end - start) * dim] = rows[start * dim : end * dim]
            _repeat_last(short, end - start, dim)
            _panels_of_floats(lanes, n_lanes, short, 0, dim, best, sums)
        else:
            for first in range(start, end, ROWS):
                row = _tile_start(first, start, end)
                _panels_of_floats(lanes, n_lanes, rows, row, dim, best, sums)
        scores[doc] = _total(best, n_tokens)


@njit(cache=True, nogil=True)
def score_halves(
    lanes: NDArray[np.float32],
    n_tokens: int,
    rows: NDArray[np.uint16],
    dim: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    scores: NDArray[np.float32],
) -> None:
    """Do as `score_floats` where `rows` holds the bits of float16 numbers."""
    n_lanes = len(lanes) // dim
    best, sums = np.empty(n_lanes, np.float32), np.empty(ROWS * PANEL, np.float32)
    wide = np.empty(ROWS * dim, np.float32)
    for doc in range(len(starts)):
        start, end = starts[doc], ends[doc]
        best[:] = _NEVER
        for first in range(start, end, ROWS):
            row = _tile_start(first, start, end)
            n_rows = min(ROWS, end - row)
            _widen(rows[row * dim : (row + n_rows) * dim], wide)
            _repeat_last(wide, n_rows, dim)
            _panels_of_floats(lanes, n_lanes, wide, 0, dim, best, sums)
        scores[doc] = _total(best, n_tokens)


@njit(cache=True, nogil=True)
def _keep_coded(
    sums: Any, width: int, done: int, factors: Any, offsets: Any, scales: Any, best: Any
) -> None:
    """Keep what is largest in each lane of a panel, of rows that are codes."""
    for lane in range(_U(width)):
        at = _U(done) + lane
        factor, offset, largest = factors[at], offsets[at], best[at]
        for row in range(_U(ROWS)):
            sum_ = np.float32(sums[row * _U(width) + lane])
            largest = max(largest, scales[row] * (factor * sum_ - offset))
        best[at] = largest


@njit(cache=True, nogil=True)
def _keep_residual(
    sums: Any, width: int, done: int, factors: Any, offsets: Any, scales: Any, best: Any, near: Any
) -> None:
    """Do the same for codes of residuals, given products, centroids and factors of the rows."""
    products, centroids, to_unit = near
    for lane in range(_U(width)):
        at = _U(done) + lane
        factor, offset, largest = factors[at], offsets[at], best[at]
        for row in range(_U(ROWS)):
            sum_ = np.float32(sums[row * _U(width) + lane])
            residual = scales[row] * (factor * sum_ - offset)
            largest = max(largest, to_unit[row] * (products[centroids[row], at] + residual))
        best[at] = largest


@njit(cache=True, nogil=True)
def score_codes(
    query: Any,
    n_tokens: int,
    documents: Any,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    scores: NDArray[np.float32],
    centroids: Any,
) -> None:
    """Write the MaxSim of a quantised query with each document whose tokens are codes.

    Args:
        query: panels in one line, int32 that hold four bytes (float32, where the processor has no
            product of bytes); for each lane the factor of a sum; and what is then taken off.
        n_tokens: tokens of the query.
        documents: codes of all tokens in one line, as `limbeck.retrieval.codes` lays them out; the
            words of a token; and the bits of a code.
        starts: the first token of each document.
        ends: the token behind its last; there is one token at least.
        scores: shape (n_docs,); written.
        centroids: None; or, where the codes are of residuals, the products of all centroids and
            lanes, shape (n_centroids, n_lanes), and the centroid of each token.
    """
    lanes, factors, offsets = query
    tokens, width, bits = documents
    n_columns = (width - 1) * (8 // bits)
    n_lanes = len(factors)
    best = np.empty(n_lanes, np.float32)
    sums = np.empty(ROWS * PANEL, np.int32 if HAS_DOT_BYTES else np.float32)
    spread = np.empty(ROWS * n_columns, np.uint32)
    levels = np.empty(0 if HAS_DOT_BYTES else 4 * ROWS * n_columns, np.float32)
    scales, to_unit = np.empty(ROWS, np.float32), np.empty(ROWS, np.float32)
    nearest = np.empty(ROWS, np.uint64)
    for doc in range(len(starts)):
        start, end = starts[doc], ends[doc]
        best[:] = _NEVER
        for first in range(start, end, ROWS):
            row = _tile_start(first, start, end)
            n_rows = min(ROWS, end - row)
            _unpack(tokens, row, n_rows, width, bits, spread)
            _repeat_last(spread, n_rows, n_columns)
            _last_words(tokens, row, n_rows, width, 0, scales)
            if not HAS_DOT_BYTES:
                _as_levels(spread, np.float32(((1 << bits) - 1) / 2), levels)
            if centroids is not None:
                _last_words(tokens, row, n_rows, width, 16, to_unit)
                for i in range(ROWS):
                    nearest[i] = centroids[1][row + min(i, n_rows - 1)]
            for done in range(0, n_lanes, PANEL):
                panel = min(PANEL, n_lanes - done)
                at = done * n_columns
                if HAS_DOT_BYTES:
                    _byte_sums(panel, lanes, at, spread, n_columns, sums)
                else:
                    _float_sums(panel, lanes, 4 * at, levels, 0, 4 * n_columns, sums)
                if centroids is None:
                    _keep_coded(sums, panel, done, factors, offsets, scales, best)
                else:
                    near = (centroids[0], nearest, to_unit)
                    _keep_residual(sums, panel, done, factors, offsets, scales, best, near)
        scores[doc] = _total(best, n_tokens)
