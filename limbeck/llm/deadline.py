"""A deadline for back-ends that keep none: the call goes on in a thread that nobody waits for."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from threading import Event, Thread

from limbeck.llm.backend import Backend, Completions
from limbeck.llm.request import Abandoned, Failed, Request

__all__ = ["Deadline"]


class Deadline:
    """A back-end whose calls end after so many seconds, whatever the wrapped one does.

    A Python thread cannot be stopped: the overdue call's thread lives until the call returns, and
    its text is thrown away.
    """

    def __init__(self, backend: Backend, *, timeout_s: float) -> None:
        """Wrap a back-end."""
        self._backend = backend
        self._timeout_s = timeout_s

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return the wrapped back-end's completions.

        Raises:
            Failed: "timeout".
        """
        overdue = Event()

        def listen_in_time(text: str) -> None:
            if overdue.is_set():
                raise Abandoned
            if listen is not None:
                listen(text)

        made: Future[Completions] = Future()

        def work() -> None:
            try:
                made.set_result(
                    self._backend.complete(request, first, n, listen_in_time if listen else None)
                )
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                made.set_exception(error)

        context = contextvars.copy_context()
        Thread(target=context.run, args=(work,), name="limbeck-llm-call", daemon=True).start()
        try:
            return made.result(self._timeout_s)
        except TimeoutError:
            if made.done():  # it came at the last moment, or the back-end's own error is this one
                return made.result()
            overdue.set()
            raise Failed("timeout") from None

    def close(self) -> None:
        """Close the wrapped back-end."""
        self._backend.close()
