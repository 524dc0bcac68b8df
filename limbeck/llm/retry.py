"""Retries: failures that may pass are tried again, waiting longer each time, as the server asks.

A server that answered and went away may be starting again, and is waited for. One that nobody
reaches in all tries is tried once by each later call, until it answers: a dead server costs a stage
its retries once, and not each of a thousand prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from limbeck.llm.request import Call, Failed, Layer, Reply

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["Patience", "Retry"]

_Made = TypeVar("_Made")

_LONGEST_WAIT_S = 30.0
_LONGEST_RETRY_AFTER_S = 120.0
_LOOK_AGAIN_S = 5.0
"""Longest wait between two looks for a server that went away."""

_AWAY = "no connection"
_UNREACHED = frozenset({_AWAY, "connection broken", "timeout"})


class Patience:
    """How long one server is waited for, known to all that ask it. Calls come from many threads."""

    def __init__(
        self,
        *,
        retries: int,
        first_wait_s: float,
        reconnect_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with a server that nobody asked yet.

        Args:
            retries: tries after the first one.
            first_wait_s: the longest wait before the second try; it doubles with each one, and a
                random share of it is taken, so that many clients do not come back at once.
            reconnect_s: how long a server is waited for that answered before and now refuses
                connections.
            sleep: how to wait.
            clock: seconds, from anywhere.
        """
        self._retries = retries
        self._first_wait_s = first_wait_s
        self._reconnect_s = reconnect_s
        self._sleep = sleep
        self._clock = clock
        self._answered = False
        self._unreached = False

    def answered(self) -> None:
        """Take note that the server answered, though to somebody else."""
        self._answered, self._unreached = True, False

    def __call__(
        self, ask: Callable[[], _Made], *, again: Callable[[], bool] = lambda: True
    ) -> _Made:
        """Return what the server was asked for.

        Args:
            ask: asks it.
            again: whether it may be asked another time.

        Raises:
            Failed: the last try's failure.
        """
        from tenacity import Retrying, retry_if_exception

        def may_help(error: BaseException) -> bool:
            return isinstance(error, Failed) and _worth(error) and again()

        attempts = Retrying(
            stop=self._stop(),
            wait=self._wait(),
            retry=retry_if_exception(may_help),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            made = attempts(ask)
        except Failed as error:
            self._unreached = error.reason in _UNREACHED or self._unreached
            self._answered = self._answered and error.reason != _AWAY
            raise
        self.answered()
        return made

    def _stop(self) -> Callable[[RetryCallState], bool]:
        """Return what says of a failed try whether it was the last one."""
        left, once = self._retries, self._unreached
        away_since: float | None = None

        def stop(state: RetryCallState) -> bool:
            nonlocal left, away_since
            reason = _reason(state)
            if reason == _AWAY and self._answered and self._reconnect_s > 0:
                away_since = self._clock() if away_since is None else away_since
                return self._clock() - away_since >= self._reconnect_s
            left -= 1
            return left < 0 or (once and reason in _UNREACHED)

        return stop

    def _wait(self) -> Callable[[RetryCallState], float]:
        from tenacity import wait_random_exponential

        backoff = wait_random_exponential(multiplier=self._first_wait_s, max=_LONGEST_WAIT_S)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after_s if isinstance(error, Failed) else None
            if asked is not None:
                return asked
            longest = _LOOK_AGAIN_S if _reason(state) == _AWAY else _LONGEST_WAIT_S
            return min(backoff(state), longest)

        return wait


class Retry:
    """Tries a call again where that may help; after the last try the failure is the reply's."""

    def __init__(self, inner: Layer, patience: Patience) -> None:
        """Wrap a layer."""
        self._inner = inner
        self._patience = patience

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply, or one that holds nothing but the failure."""
        told, heard = call.overheard()
        try:  # text that a listener was told cannot be taken back, so it is not generated again
            return self._patience(lambda: self._inner(told), again=lambda: not heard)
        except Failed as error:
            return Reply(failure=error.reason)


def _reason(state: RetryCallState) -> str:
    error = state.outcome.exception() if state.outcome else None
    return error.reason if isinstance(error, Failed) else ""


def _worth(error: Failed) -> bool:
    """A server that asks for minutes is not waited for: the other prompts go on."""
    return error.retry and (error.retry_after_s or 0.0) <= _LONGEST_RETRY_AFTER_S
