"""Progress of long work, told to whoever listens: the command line draws bars, others need not.

Work calls `track` around its loop, or `teller` where it has more to say, and `announcer` for what
takes long without steps, such as the start of a server. Nothing is shown unless `listening(...)` is
open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["Listener", "announcer", "listening", "teller", "track"]

_T = TypeVar("_T")

Listener = Callable[[str, int, int, str], None]
"""Called with a label, the units done, the units in all, and what else is to be said of them."""

_listener: ContextVar[Listener | None] = ContextVar("limbeck_progress", default=None)
_hearer: ContextVar[Callable[[str], None]] = ContextVar("limbeck_news", default=lambda _: None)


@contextmanager
def listening(listener: Listener, hear: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Send the progress of all work inside the block to a listener.

    Args:
        listener: told how far work is.
        hear: told in a line what begins that may take long; calls may come from any thread.
    """
    token, heard = _listener.set(listener), _hearer.set(hear)
    try:
        yield
    finally:
        _listener.reset(token)
        _hearer.reset(heard)


def announcer() -> Callable[[str], None]:
    """Return what tells a line to whoever listens now, from any thread and at any time."""
    return _hearer.get()


def track(items: Iterable[_T], *, label: str, total: int) -> Iterator[_T]:
    """Yield the items, and tell the listener after each one."""
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    listener(label, 0, total, "")
    for done, item in enumerate(items, start=1):
        yield item
        listener(label, done, total, "")


def teller() -> Listener:
    """Return what tells whoever listens now how far work is, for loops that say more than that."""
    return _listener.get() or (lambda *_: None)
