"""Bounded concurrency: never more requests under way than there are slots."""

from __future__ import annotations

from threading import BoundedSemaphore

from limbeck.llm.request import Call, Layer, Reply

__all__ = ["Slots"]


class Slots:
    """Lets so many calls through at once; a call that waits between retries holds no slot."""

    def __init__(self, inner: Layer, *, concurrency: int) -> None:
        """Wrap a layer."""
        self._inner = inner
        self._slots = BoundedSemaphore(concurrency)

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply, asked once a slot is free."""
        with self._slots:
            return self._inner(call)
