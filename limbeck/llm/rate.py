"""The rate limit: requests are spaced evenly, so that a minute never holds more than allowed."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from limbeck.llm.request import Call, Layer, Reply

__all__ = ["RateLimit"]


class RateLimit:
    """Starts requests at least 60 / requests_per_minute seconds apart, and never in a burst."""

    def __init__(
        self,
        inner: Layer,
        *,
        requests_per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wrap a layer."""
        self._inner = inner
        self._gap_s = 60.0 / requests_per_minute
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()
        self._lock = Lock()

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply, asked at this call's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._free_at)
            self._free_at = turn + self._gap_s
        if turn > now:
            self._sleep(turn - now)
        return self._inner(call)
