"""Work of compiled code, shared out among threads that are kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TypeVar

__all__ = ["n_threads", "share"]

_T = TypeVar("_T")


def n_threads(worth: int) -> int:
    """Return how many threads compiled code should use, one at least.

    Args:
        worth: how many the work is worth; no more are used than there are processors, nor than
            NUMBA_NUM_THREADS says.
    """
    import numba

    allowed = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return max(1, min(allowed, os.cpu_count() or 1, worth))


def share(work: Callable[[tuple[int, int]], _T], n_items: int, n_parts: int) -> list[_T]:
    """Return what is made of consecutive ranges of items, each in a thread, in their order.

    Args:
        work: makes one range, from a first item to the one behind its last, without the GIL.
        n_items: how many there are.
        n_parts: how many ranges; an empty one only where there are no items.
    """
    own, *others = _parts(n_items, n_parts)
    waited = [_helpers().submit(work, part) for part in others]
    return [work(own), *(future.result() for future in waited)]


@cache
def _helpers() -> ThreadPoolExecutor:
    """Return threads that are kept: new ones cost as much as a small batch."""
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # a child process has none of them
    n_helpers = max(1, (os.cpu_count() or 1) - 1)
    return ThreadPoolExecutor(n_helpers, thread_name_prefix="limbeck-worker")


def _parts(n_items: int, n_parts: int) -> list[tuple[int, int]]:
    """Return consecutive ranges, at least one and none but that one empty."""
    n = min(n_parts, max(n_items, 1))
    return list(pairwise(n_items * i // n for i in range(n + 1)))
