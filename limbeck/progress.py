"""Progress of long work, told to whoever listens: the command line draws bars, others need not.

Work calls `track` around its loop. Nothing is shown unless `listening(...)` is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["Listener", "listening", "track"]

_T = TypeVar("_T")

Listener = Callable[[str, int, int], None]
"""Called with a label, the units done, and the units in all."""

_listener: ContextVar[Listener | None] = ContextVar("limbeck_progress", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of all work inside the block to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def track(items: Iterable[_T], *, label: str, total: int) -> Iterator[_T]:
    """Yield the items, and tell the listener after each one."""
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    listener(label, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        listener(label, done, total)
