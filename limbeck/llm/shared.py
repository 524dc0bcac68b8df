"""What several in this process use together, and the last one to leave it closes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Lease", "Shared"]

_Key = TypeVar("_Key", bound=Hashable)
_Thing = TypeVar("_Thing")


class Shared(Generic[_Key, _Thing]):
    """Things by their keys: one for all who want the same, for as long as somebody does."""

    def __init__(self, make: Callable[[_Key], _Thing], close: Callable[[_Thing], None]) -> None:
        """Make a thing when the first one wants it, close it when the last one lets it go.

        Args:
            make: is quick: all others wait for it.
            close: may take its time; the thing is nobody's by then.
        """
        self._make = make
        self._close = close
        self._changed = Condition()
        self._closing: set[_Key] = set()
        self._held: dict[_Key, tuple[_Thing, list[Lease[_Key, _Thing]]]] = {}

    def lease(self, key: _Key) -> Lease[_Key, _Thing]:
        """Return a lease on a thing, which is not made yet."""
        return Lease(self, key)

    def take(self, lease: Lease[_Key, _Thing]) -> _Thing:
        """Return the thing of a lease, which holds it from now on.

        One that is being closed is waited for: two may not fit on one GPU.
        """
        with self._changed:
            self._changed.wait_for(lambda: lease.key not in self._closing)
            if lease.key not in self._held:
                self._held[lease.key] = (self._make(lease.key), [])
            thing, holders = self._held[lease.key]
            if lease not in holders:
                holders.append(lease)
            return thing

    def let_go(self, lease: Lease[_Key, _Thing]) -> None:
        """Let a lease hold nothing; a thing that nobody holds any more is closed."""
        with self._changed:
            thing, holders = self._held.get(lease.key, (None, []))
            if lease not in holders:
                return
            holders.remove(lease)
            if holders or thing is None:
                return
            del self._held[lease.key]
            self._closing.add(lease.key)
        try:
            self._close(thing)
        finally:
            with self._changed:
                self._closing.discard(lease.key)
                self._changed.notify_all()


class Lease(Generic[_Key, _Thing]):
    """One user's hold on a thing; it can be released, and taken again."""

    def __init__(self, shared: Shared[_Key, _Thing], key: _Key) -> None:
        """Keep what is wanted; nothing is held yet."""
        self._shared = shared
        self.key = key

    def held(self) -> _Thing:
        """Return the thing; it stays open until this lease, among others, is released."""
        return self._shared.take(self)

    def release(self) -> None:
        """Let the thing go; `held` takes it, or another one, again."""
        self._shared.let_go(self)
