"""Compiled loops over centroids. Import this module inside functions: it loads numba.

All release the GIL. Arrays are written in place, so that threads can each write a part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from limbeck.retrieval._lanes import HAS_DOT_BYTES, PANEL, ROWS
from limbeck.retrieval._maxsim import (
    _as_levels,
    _byte_sums,
    _float_sums,
    _last_words,
    _repeat_last,
    _unpack,
)

__all__ = [
    "add_rows",
    "approximate",
    "as_bytes",
    "best_cells",
    "distinct_cells",
    "inverted",
    "mark",
    "nearest_cells",
    "write_products",
]

_BUILT_ON = "a0cd82e4b5f7d3a829edbfb5a3cdc3d4"
"""Digest of the kernels imported here. numba, whose cache looks at this file alone, would run their
old code after an upgrade; a test says what must stand here."""

_U = np.uint64
"""Unsigned indexes spare a test for negative ones, which would keep loops from being vectors."""

_BITS = 8
_NEVER = np.float32(-np.inf)


@njit(cache=True, nogil=True)
def write_products(query: Any, codes: Any, first: int, end: int, products: Any) -> None:
    """Write the inner products of some rows of 8-bit codes with all lanes of a query.

    Args:
        query: panels, factors and offsets, as `limbeck.retrieval.interaction` makes them.
        codes: uint32, shape (n_rows, width).
        first: the first row.
        end: the row behind the last.
        products: float32, shape (n_rows, n_lanes); written between the two.
    """
    lanes, factors, offsets = query
    width = codes.shape[1]
    n_columns, line = width - 1, codes.reshape(-1)
    sums = np.empty(ROWS * PANEL, np.int32 if HAS_DOT_BYTES else np.float32)
    spread = np.empty(ROWS * n_columns, np.uint32)
    levels = np.empty(0 if HAS_DOT_BYTES else 4 * ROWS * n_columns, np.float32)
    scales = np.empty(ROWS, np.float32)
    for row in range(first, end, ROWS):
        n_rows = min(ROWS, end - row)
        _unpack(line, row, n_rows, width, _BITS, spread)
        _repeat_last(spread, n_rows, n_columns)
        _last_words(line, row, n_rows, width, 0, scales)
        if not HAS_DOT_BYTES:
            _as_levels(spread, np.float32(127.5), levels)
        for done in range(0, len(factors), PANEL):
            panel, at = min(PANEL, len(factors) - done), done * n_columns
            if HAS_DOT_BYTES:
                _byte_sums(panel, lanes, at, spread, n_columns, sums)
            else:
                _float_sums(panel, lanes, 4 * at, levels, 0, 4 * n_columns, sums)
            for i in range(n_rows):
                for lane in range(_U(panel)):
                    sum_ = np.float32(sums[_U(i * panel) + lane])
                    there = _U(done) + lane
                    made = scales[i] * (factors[there] * sum_ - offsets[there])
                    products[_U(row + i), there] = made


@njit(cache=True, nogil=True)
def nearest_cells(products: NDArray[np.float32], cells: NDArray[np.int64]) -> None:
    """Write the row of the largest product of each of the first lanes; of equal ones the lower."""
    best = np.full(len(cells), _NEVER, np.float32)
    at = np.zeros(len(cells), np.int32)
    for row in range(_U(len(products))):
        for lane in range(_U(len(cells))):
            value = products[row, lane]
            better = value > best[lane]
            best[lane] = value if better else best[lane]
            at[lane] = np.int32(row) if better else at[lane]
    cells[:] = at


@njit(cache=True, nogil=True)
def best_cells(products: NDArray[np.float32], cells: NDArray[np.int64]) -> None:
    """Write the rows of the largest products of each lane, best first; of equal ones the lower.

    Args:
        products: shape (n_cells, n_lanes).
        cells: shape (n_lanes or fewer, n); written.
    """
    n_lanes, n = cells.shape
    best = np.full((n_lanes, n), _NEVER, np.float32)
    worst = np.full(n_lanes, _NEVER, np.float32)
    cells[:] = 0
    for row in range(len(products)):
        for lane in range(n_lanes):
            value = products[row, lane]
            if value > worst[lane]:
                at = n - 1
                while at > 0 and best[lane, at - 1] < value:
                    best[lane, at] = best[lane, at - 1]
                    cells[lane, at] = cells[lane, at - 1]
                    at -= 1
                best[lane, at] = value
                cells[lane, at] = row
                worst[lane] = best[lane, n - 1]


@njit(cache=True, nogil=True)
def distinct_cells(
    starts: NDArray[np.int64], ends: NDArray[np.int64], cells: NDArray[np.uint16]
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return bounds and distinct cells of documents whose tokens are in the order of cells."""
    n_tokens = 0
    for doc in range(len(starts)):
        n_tokens += ends[doc] - starts[doc]
    bounds, found = np.zeros(len(starts) + 1, np.int64), np.empty(n_tokens, np.uint16)
    at = 0
    for doc in range(len(starts)):
        for token in range(starts[doc], ends[doc]):
            if token == starts[doc] or cells[token] != cells[token - 1]:
                found[at] = cells[token]
                at += 1
        bounds[doc + 1] = at
    return bounds, found[:at].copy()


@njit(cache=True, nogil=True)
def inverted(
    bounds: NDArray[np.int64], cells: NDArray[np.uint16], n_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the bounds of each cell's list, and the documents of all lists, rising in each."""
    list_bounds = np.zeros(n_cells + 1, np.int64)
    for cell in cells:
        list_bounds[np.int64(cell) + 1] += 1
    list_bounds = np.cumsum(list_bounds)
    docs, free = np.empty(len(cells), np.int32), list_bounds[:-1].copy()
    for doc in range(len(bounds) - 1):
        for at in range(bounds[doc], bounds[doc + 1]):
            cell = np.int64(cells[at])
            docs[free[cell]] = doc
            free[cell] += 1
    return list_bounds, docs


@njit(cache=True, nogil=True)
def mark(
    cells: NDArray[np.int64],
    list_bounds: NDArray[np.int64],
    docs: NDArray[np.int32],
    marked: NDArray[np.bool_],
) -> None:
    """Mark the documents of some cells."""
    for cell in cells:
        for at in range(list_bounds[cell], list_bounds[cell + 1]):
            marked[docs[at]] = True


@njit(cache=True, nogil=True)
def as_bytes(
    products: NDArray[np.float32], least: np.float32, step: np.float32, coarse: NDArray[np.uint8]
) -> None:
    """Write the number of whole steps from the least to each product."""
    line, written = products.reshape(-1), coarse.reshape(-1)
    for i in range(_U(len(line))):
        written[i] = np.uint8(np.int32((line[i] - least) / step))


@njit(cache=True, nogil=True)
def approximate(
    coarse: NDArray[np.uint8],
    n_tokens: int,
    bounds: NDArray[np.int64],
    cells: NDArray[np.uint16],
    docs: NDArray[np.int64],
    scores: NDArray[np.int64],
) -> None:
    """Write the MaxSim of a query with documents whose tokens are taken for their centroids.

    Args:
        coarse: products of all centroids and lanes as bytes, shape (n_cells, n_lanes).
        n_tokens: tokens of the query.
        bounds: of each document's cells.
        cells: the distinct cells of all documents.
        docs: the documents to be scored, each with a cell at least.
        scores: shape (n_docs,); written, in steps.
    """
    n_lanes = _U(coarse.shape[1])
    line = coarse.reshape(-1)
    best = np.empty(coarse.shape[1], np.uint8)
    for i in range(len(docs)):
        best[:] = 0
        for at in range(_U(bounds[docs[i]]), _U(bounds[docs[i] + 1])):
            row = _U(cells[at]) * n_lanes
            for lane in range(n_lanes):
                value, largest = line[row + lane], best[lane]
                best[lane] = max(largest, value)
        total = 0
        for lane in range(n_tokens):
            total += int(best[lane])
        scores[i] = total


@njit(cache=True, nogil=True)
def add_rows(
    rows: NDArray[np.float32], cells: NDArray[np.int64], sums: NDArray[np.float64]
) -> None:
    """Add each row to the sum of its cell."""
    for i in range(len(rows)):
        for d in range(rows.shape[1]):
            sums[cells[i], d] += rows[i, d]
