"""Retries: failures that may pass are tried again, waiting longer each time, as the server asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from limbeck.llm.request import Call, Failed, Layer, Reply

if TYPE_CHECKING:
    from tenacity import RetryCallState

__all__ = ["Retry"]

_LONGEST_WAIT_S = 30.0
_LONGEST_RETRY_AFTER_S = 120.0


class Retry:
    """Tries a call again where that may help; after the last try the failure is the reply's."""

    def __init__(
        self,
        inner: Layer,
        *,
        retries: int,
        first_wait_s: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Wrap a layer.

        Args:
            inner: the layer to ask.
            retries: tries after the first one.
            first_wait_s: the longest wait before the second try; it doubles with each one, and a
                random share of it is taken, so that many clients do not come back at once.
            sleep: how to wait.
        """
        self._inner = inner
        self._retries = retries
        self._first_wait_s = first_wait_s
        self._sleep = sleep

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply, or one that holds nothing but the failure."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        heard: list[str] = []

        def listen(text: str) -> None:
            heard.append(text)
            if call.listen is not None:
                call.listen(text)

        def may_help(error: BaseException) -> bool:
            """Text that a listener was told cannot be taken back, so it is not generated again."""
            return isinstance(error, Failed) and _worth(error) and not heard

        attempts = Retrying(
            stop=stop_after_attempt(self._retries + 1),
            wait=self._wait(),
            retry=retry_if_exception(may_help),
            sleep=self._sleep,
            reraise=True,
        )
        told = Call(call.request, call.indices, listen if call.listen else None)
        try:
            return attempts(self._inner, told)
        except Failed as error:
            return Reply(failure=error.reason)

    def _wait(self) -> Callable[[RetryCallState], float]:
        from tenacity import wait_random_exponential

        backoff = wait_random_exponential(multiplier=self._first_wait_s, max=_LONGEST_WAIT_S)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after_s if isinstance(error, Failed) else None
            return backoff(state) if asked is None else asked

        return wait


def _worth(error: Failed) -> bool:
    """A server that asks for minutes is not waited for: the other prompts go on."""
    return error.retry and (error.retry_after_s or 0.0) <= _LONGEST_RETRY_AFTER_S
