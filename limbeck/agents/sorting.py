"""Sorting by questions to an LLM: heap sort and bubble sort that stop when the best are in order.

Items are the numbers 0, 1, 2, ... in the order in which the first stage ranked them. A pick says
which of a few items is the best; it is given them in that order and returns the first where it
cannot tell, so that an LLM that says nothing leaves the order as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from limbeck.agents.rounds import Steps, together

__all__ = [
    "Pick",
    "bubble_sorted",
    "champion",
    "heap_sorted",
    "most_bubble_picks",
    "most_heap_picks",
    "remembered",
]

Pick = Callable[[Sequence[int]], Steps[int]]
"""Returns the best of two or more items, which are given in first-stage order."""


def remembered(pick: Pick) -> Pick:
    """Return a pick that asks about the same items once: a pass that changes nothing is free."""
    known: dict[tuple[int, ...], int] = {}

    def picked(items: Sequence[int]) -> Steps[int]:
        key = tuple(items)
        if key not in known:
            known[key] = yield from pick(items)
        return known[key]

    return picked


def champion(pair: Pick) -> Pick:
    """Return the pick that is made of a pick of two: the best so far meets each item in turn."""

    def picked(items: Sequence[int]) -> Steps[int]:
        best = items[0]
        for other in items[1:]:
            best = yield from pair(sorted((best, other)))
        return best

    return picked


def heap_sorted(n: int, best: int, width: int, pick: Pick) -> Steps[list[int]]:
    """Return n items, the `best` first ones in order, the others as they came.

    Parts of the heap that do not touch are built side by side.

    Args:
        n: how many items.
        best: how many are put in order.
        width: children of each node; a pick is of one more.
        pick: asked at each node.
    """
    heap = list(range(n))
    for level in _levels(n, width):
        yield from together([_sifted(heap, parent, width, pick) for parent in level])
    order: list[int] = []
    while heap and len(order) < best:
        order.append(heap[0])
        last = heap.pop()
        if heap:
            heap[0] = last
            if len(order) < best:
                yield from _sifted(heap, 0, width, pick)
    return order + sorted(heap)


def _levels(n: int, width: int) -> list[range]:
    """Return the nodes that have children, level by level, the lowest first."""
    n_parents = math.ceil((n - 1) / width) if n > 1 else 0
    levels: list[range] = []
    start, size = 0, 1
    while start < n_parents:
        levels.append(range(start, min(start + size, n_parents)))
        start, size = start + size, size * width
    return levels[::-1]


def _sifted(heap: list[int], at: int, width: int, pick: Pick) -> Steps[None]:
    """Let the item of a node sink until it is the best of its subtree."""
    while _depth_below(at, len(heap), width):
        first = width * at + 1
        places = [at, *range(first, min(first + width, len(heap)))]
        winner = yield from pick(sorted(heap[place] for place in places))
        place = next(place for place in places if heap[place] == winner)
        if place == at:
            return
        heap[at], heap[place] = heap[place], heap[at]
        at = place


def _depth_below(at: int, n: int, width: int) -> int:
    """Return how many levels of a heap of n items lie below a node."""
    depth = 0
    while (at := width * at + 1) < n:
        depth += 1
    return depth


def most_heap_picks(n: int, best: int, width: int) -> int:
    """Return how often a heap sort picks at most."""
    building = sum(
        _depth_below(parent, n, width) for level in _levels(n, width) for parent in level
    )
    taking = sum(_depth_below(0, n - taken, width) for taken in range(1, min(best, n)))
    return building + taking


def bubble_sorted(n: int, best: int, size: int, pick: Pick) -> Steps[list[int]]:
    """Return n items, the `best` first ones in order, the others nearly as they came.

    Each pass carries the best item that is left upward: the best of a window moves to its front,
    which is the end of the next window.

    Args:
        n: how many items.
        best: how many passes are made.
        size: items in a window.
        pick: asked at each window.
    """
    order = list(range(n))
    for top in range(min(best, n - 1)):
        end = n
        while end - top > 1:
            start = max(top, end - size)
            window = order[start:end]
            winner = yield from pick(sorted(window))
            order[start:end] = [winner, *(item for item in window if item != winner)]
            end = start + 1
    return order


def most_bubble_picks(n: int, best: int, size: int) -> int:
    """Return how often a bubble sort picks at most."""
    return sum(math.ceil((n - 1 - top) / (size - 1)) for top in range(min(best, n - 1)))
