"""Many calls at once in threads, each in a copy of the caller's context."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from limbeck.progress import track

__all__ = ["spread"]

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def spread(
    work: Callable[[_Given], _Made], items: Sequence[_Given], *, concurrency: int, label: str
) -> list[_Made]:
    """Return what the work makes of each item, in order.

    Meters and other context variables of the caller are seen by the work. The first exception is
    raised once the work under way has ended, Ctrl-C at once; what had not begun is not begun.
    """
    if len(items) <= 1:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(min(concurrency, len(items)), thread_name_prefix="limbeck-llm")
    futures = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
    ended = True
    try:
        for future in track(as_completed(futures), label=label, total=len(futures)):
            future.result()
    except KeyboardInterrupt:
        ended = False
        raise
    finally:
        pool.shutdown(wait=ended, cancel_futures=True)
    return [future.result() for future in futures]
