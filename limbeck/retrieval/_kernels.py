"""Compiled loops of term-based retrieval. Import this module inside functions: it loads numba.

All release the GIL. Ids that index arrays come as unsigned integers, which spares a test for
negative ones at each access.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["best_keys", "bound_keys", "count_terms", "find_strings", "transpose"]

_ROOM = 32
"""Keys gathered before the best are picked out, at least: picking has a fixed cost."""

_BLOCK = 32
"""Documents looked at together: most blocks hold none of the best, and are passed over at once."""

_DENSE = 4
"""All documents are looked at where the query's postings are more than one in so many of them."""

_UNTOUCHED = -0.0
"""The total of a document that holds no term of the query: no sum of terms gives it."""

_SIGN = np.uint32(0x80000000)
_REST = np.uint32(0x7FFFFFFF)
_UNTOUCHED_BITS = np.uint64(0x8000000000000000)
_HALF = np.uint64(32)
_WORST = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True)
def count_terms(
    tokens: NDArray[np.int32], token_bounds: NDArray[np.int64], n_terms: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """Return the bounds, distinct terms and their counts of each document's tokens."""
    n_docs = len(token_bounds) - 1
    bounds = np.zeros(n_docs + 1, np.int64)
    terms = np.empty(len(tokens), np.int32)
    counts = np.empty(len(tokens), np.int32)
    place = np.full(n_terms, -1, np.int64)
    end = 0
    for doc in range(n_docs):
        start = end
        for position in range(token_bounds[doc], token_bounds[doc + 1]):
            term = tokens[position]
            if place[term] < start:
                place[term] = end
                terms[end] = term
                counts[end] = 1
                end += 1
            else:
                counts[place[term]] += 1
        bounds[doc + 1] = end
    return bounds, terms[:end].copy(), counts[:end].copy()


@njit(cache=True, nogil=True)
def transpose(
    bounds: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[np.float32],
    n_columns: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return a sparse matrix by columns instead of rows; the rows of each column ascend."""
    ends = np.zeros(n_columns + 1, np.int64)
    for column in columns:
        ends[column + 1] += 1
    for column in range(n_columns):
        ends[column + 1] += ends[column]
    starts = ends.copy()
    rows = np.empty(len(columns), np.int32)
    moved = np.empty(len(columns), np.float32)
    for row in range(len(bounds) - 1):
        for position in range(bounds[row], bounds[row + 1]):
            place = starts[columns[position]]
            starts[columns[position]] += 1
            rows[place] = row
            moved[place] = values[position]
    return ends, rows, moved


@njit(cache=True, nogil=True)
def find_strings(
    wanted: NDArray[np.uint8],
    wanted_bounds: NDArray[np.int64],
    text: NDArray[np.uint8],
    bounds: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Return the position of each wanted string among sorted ones, -1 where it is not there."""
    found = np.full(len(wanted_bounds) - 1, -1, np.int32)
    for number in range(len(found)):
        string = wanted[wanted_bounds[number] : wanted_bounds[number + 1]]
        low, high = 0, len(bounds) - 1
        while low < high:
            middle = (low + high) // 2
            order = _compared(text[bounds[middle] : bounds[middle + 1]], string)
            if order == 0:
                found[number] = middle
                break
            if order < 0:
                low = middle + 1
            else:
                high = middle
    return found


@njit(cache=True, nogil=True)
def _compared(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    for position in range(min(len(left), len(right))):
        if left[position] != right[position]:
            return -1 if left[position] < right[position] else 1
    return len(left) - len(right)


@njit(cache=True, nogil=True)
def bound_keys(
    query_bounds: NDArray[np.int64],
    terms: NDArray[np.uint32],
    bounds: NDArray[np.int64],
    most: int,
) -> tuple[NDArray[np.int64], int]:
    """Return where each query's keys may begin, none having more than `most`, and the postings."""
    starts = np.zeros(len(query_bounds), np.int64)
    n_postings = 0
    for query in range(len(query_bounds) - 1):
        n_read = 0
        for position in range(query_bounds[query], query_bounds[query + 1]):
            n_read += bounds[terms[position] + 1] - bounds[terms[position]]
        n_postings += n_read
        starts[query + 1] = starts[query] + min(most, n_read)
    return starts, n_postings


@njit(cache=True, nogil=True)
def best_keys(
    queries: tuple[int, int],
    batch: Any,
    k: int,
    postings: Any,
    n_docs: int,
    starts: NDArray[np.int64],
    keys: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Write the keys of each query's k best documents, and return how many each has.

    A key holds the score above the row, both so that the smaller key is the better document by the
    tie rule. A query's keys are left in no order.

    Args:
        queries: the first query and the one after the last.
        batch: query bounds, term ids ascending for each query, weights.
        k: keys for each query at most.
        postings: bounds, rows and values of the terms.
        n_docs: number of rows.
        starts: where the keys of each query begin.
        keys: where they are written.

    Returns:
        The number of keys of each query; -1 for one that met a row that cannot be.
    """
    query_bounds, terms, weights = batch
    first, last = queries
    found = np.zeros(last - first, np.int64)
    totals = np.full(n_docs, _UNTOUCHED)
    room = np.empty(max(2 * k, _ROOM) + _BLOCK, np.uint64)
    for query in range(first, last):
        of_query = terms[query_bounds[query] : query_bounds[query + 1]]
        n_read = _add_up(of_query, weights[query_bounds[query] :], postings, totals)
        if n_read < 0:
            found[query - first] = -1
            return found
        if n_read * _DENSE > n_docs:
            n_best = _gather_all(totals, k, room)
        else:
            n_best = _gather_read(of_query, postings, totals, k, room)
        keys[starts[query] : starts[query] + n_best] = room[:n_best]
        found[query - first] = n_best
    return found


@njit(cache=True, nogil=True)
def _add_up(
    terms: NDArray[np.uint32],
    weights: NDArray[np.float64],
    postings: Any,
    totals: NDArray[np.float64],
) -> int:
    """Add each term's values to the totals of its documents, and return the postings read."""
    bounds, rows, values = postings
    n_read = 0
    for number in range(len(terms)):
        weight = weights[number]
        start, end = bounds[terms[number]], bounds[terms[number] + 1]
        if _any_beyond(rows[start:end], np.uint32(len(totals))):
            return -1
        for position in range(start, end):
            totals[rows[position]] += weight * values[position] + 0.0  # a sum is never -0.0 then
        n_read += end - start
    return n_read


@njit(cache=True, nogil=True)
def _any_beyond(rows: NDArray[np.uint32], n_docs: np.uint32) -> bool:
    """Return whether a row cannot be. Looked for apart, so that both loops are fast."""
    beyond = False
    for place in range(len(rows)):
        beyond |= rows[place] >= n_docs
    return beyond


# The two ways to gather work alike: keys that can be among the best k come into the room; when it
# is full, the best k stay, and the worst of them is the bar for what comes after. There is no
# branch on a key, because half of such branches would be foretold wrongly.


@njit(cache=True, nogil=True)
def _gather_all(totals: NDArray[np.float64], k: int, room: NDArray[np.uint64]) -> int:
    """Leave the best keys of all documents at the front of the room; clear the totals.

    The k-th of the blocks' highest totals is no higher than the k-th of all totals, so a block that
    does not reach it holds none of the best.
    """
    score = np.empty(1, np.float32)
    bits = score.view(np.uint32)
    touched = totals.view(np.uint64)
    n_blocks = (len(totals) + _BLOCK - 1) // _BLOCK
    highest = np.empty(n_blocks, np.float64)
    for block in range(n_blocks):
        highest[block] = _highest(totals[block * _BLOCK : (block + 1) * _BLOCK])
    floor = _floor(highest, k)
    size, bar = 0, _WORST
    for block in range(n_blocks):
        if highest[block] < floor:
            continue
        for row in range(block * _BLOCK, min((block + 1) * _BLOCK, len(totals))):
            score[0] = totals[row]
            room[size] = _key(bits[0], row)
            size += (room[size] < bar) & (touched[row] != _UNTOUCHED_BITS)
        if size > len(room) - _BLOCK:
            _part(room, size, k)
            size, bar = k, room[k - 1]
    totals[:] = _UNTOUCHED
    return _parted(room, size, k)


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _highest(totals: NDArray[np.float64]) -> float:
    highest = -np.inf
    for place in range(len(totals)):
        highest = max(highest, totals[place])
    return highest


@njit(cache=True, nogil=True)
def _floor(highest: NDArray[np.float64], k: int) -> float:
    """Return a total that the k-th highest of these surely reaches, once rounded to float32."""
    if len(highest) <= k:
        return -np.inf
    score = np.empty(1, np.float32)
    bits = score.view(np.uint32)
    keys = np.empty(len(highest), np.uint64)
    for place in range(len(highest)):
        score[0] = highest[place]
        keys[place] = _key(bits[0], place)
    _part(keys, len(keys), k)
    upper = np.uint32(keys[k - 1] >> _HALF)
    bits[0] = upper if upper & _SIGN else upper ^ _REST
    return np.float64(score[0]) - (abs(np.float64(score[0])) * 2e-7 + 2e-45)


@njit(cache=True, nogil=True)
def _gather_read(
    terms: NDArray[np.uint32],
    postings: Any,
    totals: NDArray[np.float64],
    k: int,
    room: NDArray[np.uint64],
) -> int:
    """Leave the best keys of the terms' documents at the front of the room; clear the totals.

    A document is taken where it is met first; then it is cleared, and so counts as untouched.
    """
    bounds, rows, _ = postings
    score = np.empty(1, np.float32)
    bits = score.view(np.uint32)
    touched = totals.view(np.uint64)
    size, bar = 0, _WORST
    for term in terms:
        for position in range(bounds[term], bounds[term + 1]):
            row = rows[position]
            score[0] = totals[row]
            room[size] = _key(bits[0], row)
            size += (room[size] < bar) & (touched[row] != _UNTOUCHED_BITS)
            totals[row] = _UNTOUCHED
            if size == len(room):
                _part(room, size, k)
                size, bar = k, room[k - 1]
    return _parted(room, size, k)


@njit(cache=True, nogil=True)
def _key(score_bits: np.uint32, row: Any) -> np.uint64:
    upper = score_bits if score_bits & _SIGN else score_bits ^ _REST
    return (np.uint64(upper) << _HALF) | np.uint64(row)


@njit(cache=True, nogil=True)
def _parted(keys: NDArray[np.uint64], size: int, k: int) -> int:
    """Bring the k smallest of so many keys to the front, and return how many these are."""
    if size > k:
        _part(keys, size, k)
    return min(size, k)


@njit(cache=True, nogil=True)
def _part(keys: NDArray[np.uint64], size: int, k: int) -> None:
    """Bring the k smallest keys to the front, the largest of them last (Lomuto's selection)."""
    low, high = 0, size - 1
    while low < high:
        _median_last(keys, low, high)
        pivot = keys[high]
        store = low
        for place in range(low, high):
            key = keys[place]
            keys[place] = keys[store]
            keys[store] = key
            store += key < pivot
        keys[high] = keys[store]
        keys[store] = pivot
        if store == k - 1:
            return
        if store < k - 1:
            low = store + 1
        else:
            high = store - 1


@njit(cache=True, nogil=True)
def _median_last(keys: NDArray[np.uint64], low: int, high: int) -> None:
    """Exchange the last key with the median of the first, the middle and the last."""
    middle = (low + high) // 2
    smaller, larger = min(keys[low], keys[middle]), max(keys[low], keys[middle])
    median = max(smaller, min(larger, keys[high]))
    place = low if median == keys[low] else middle if median == keys[middle] else high
    keys[place], keys[high] = keys[high], keys[place]
