"""vLLM's engine in this process: one thread owns it, and calls from many threads wait for answers.

vLLM's own engine is not safe to be used from several threads, and a step of it cannot be stopped.
So whoever asks waits apart from it, and is answered in any case: by the engine, when the time is
over, when the engine is closed, dies or falls silent.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from threading import Condition, Event, Lock, Thread
from typing import Any, Protocol

from limbeck.errors import LimbeckError, LLMError, told_by
from limbeck.llm.backend import Completions
from limbeck.llm.request import Failed

__all__ = ["CLOSED", "Asked", "VLLMEngine"]

CLOSED = "closed"
"""The failure of a call whose LLM was closed before it was answered."""

_SILENT_S = 600.0
"""A step of vLLM takes a fraction of a second, the first ones, which may compile, some minutes."""

_GRACE_S = 30.0
"""How long a closed engine may take to end its last step."""

_numbers = itertools.count()


class Job(Protocol):
    """What is asked of the engine, in vLLM's terms."""

    def add(self, llm: Any, number: str) -> None:
        """Put it into vLLM's queue.

        Raises:
            Failed, LLMError: it is refused; others are not touched by it.
        """
        ...

    def completions(self, output: Any) -> Completions:
        """Return what vLLM made of it.

        Raises:
            Failed: it made nothing of use.
        """
        ...


class Asked:
    """A job, and its answer once there is one; the first answer stands."""

    def __init__(self, job: Job) -> None:
        """Give the job the number that vLLM knows it by."""
        self.job = job
        self.number = str(next(_numbers))
        self.answer: Future[Completions] = Future()

    def answered(self, completions: Completions) -> None:
        """Hand over what was made."""
        with contextlib.suppress(InvalidStateError):
            self.answer.set_result(completions)

    def failed(self, error: BaseException) -> None:
        """Raise an error where the answer is waited for."""
        with contextlib.suppress(InvalidStateError):
            self.answer.set_exception(error)


class VLLMEngine:
    """The engine of one model: loaded for the first job, and anew for the next one if it died."""

    def __init__(self, load: Callable[[], Any]) -> None:
        """Keep the function that loads a `vllm.LLM`; nothing is loaded yet."""
        self._load = load
        self._lock = Lock()
        self._run: _Run | None = None
        self._open = True

    def ask(self, asked: Asked, *, timeout_s: float | None) -> Completions | None:
        """Return what came of a job, None where the engine is closed and took no notice of it.

        Args:
            asked: the job.
            timeout_s: seconds it may take once the model is loaded, waiting for others included.

        Raises:
            Failed: "timeout", or the job's own failure.
            LLMError: the engine cannot be loaded, died or hangs, or the job is refused.
        """
        try:
            run = self._taken_by(asked)
            return None if run is None else run.result(asked, timeout_s)
        finally:
            self._leave(asked)

    def close(self) -> None:
        """Give back the model's memory; whoever still waits is told so."""
        with self._lock:
            self._open = False
            run = self._run
        if run is not None:
            run.close()

    def _taken_by(self, asked: Asked) -> _Run | None:
        """Return the run that took a job, None where there will be none any more."""
        with self._lock:
            if not self._open:
                return None
            if self._run is None or not self._run.take(asked):
                self._run = _Run(self._load)
                self._run.take(asked)
            self._run.start()
            return self._run

    def _leave(self, asked: Asked) -> None:
        """Have a job aborted that nobody waits for any more: it took too long, or Ctrl-C came."""
        with self._lock:
            run = self._run
        if run is not None:
            run.drop(asked)


class _Run:
    """The engine from its loading to its end, and the thread that owns it.

    What a lock guards here is moved under it from one place to the next, so that a job is at each
    moment in one of them, or answered; after the end none is taken.
    """

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self._changed = Condition()
        self._over = False
        self._new: dict[str, Asked] = {}
        self._under_way: dict[str, Asked] = {}
        self._dropped: list[str] = []
        self._loaded = Event()
        self._llm: Any = None
        self._moved_at = -math.inf
        self._thread = Thread(target=self._work, name="limbeck-vllm", daemon=True)

    def start(self) -> None:
        """Load, and answer until the end, unless that was begun."""
        if self._thread.ident is not None:
            return
        _before_threads_are_joined(self._when_interrupted)
        self._thread.start()

    def take(self, asked: Asked) -> bool:
        """Take a job; return False where this run is over."""
        with self._changed:
            if not self._over:
                self._new[asked.number] = asked
                self._changed.notify()
            return not self._over

    def result(self, asked: Asked, timeout_s: float | None) -> Completions:
        """Return what came of a job that was taken."""
        self._loaded.wait()
        began = time.monotonic()
        ends_at = math.inf if timeout_s is None else began + timeout_s
        while True:
            wait_until = min(ends_at, self._silent_at(began))
            with contextlib.suppress(TimeoutError):
                return asked.answer.result(max(0.0, wait_until - time.monotonic()))
            if time.monotonic() >= ends_at and not asked.answer.done():
                raise Failed("timeout")
            if time.monotonic() >= self._silent_at(began):
                self._give_up()

    def drop(self, asked: Asked) -> None:
        """Take a job back; nothing is done where it was answered."""
        with self._changed:
            self._new.pop(asked.number, None)
            if self._under_way.pop(asked.number, None) is not None:
                self._dropped.append(asked.number)
                self._changed.notify()

    def close(self) -> None:
        """End, and return when the memory is given back, or when the engine does not end in time.

        One that is being loaded ends once it is.
        """
        self._end(Failed(CLOSED, retry=False))
        if self._thread.is_alive():
            self._thread.join(_GRACE_S)
        if self._thread.is_alive():
            self._force_down()

    def _silent_at(self, began: float) -> float:
        """Return when the engine will have been silent for too long."""
        return max(began, self._moved_at) + _SILENT_S

    def _give_up(self) -> None:
        self._force_down()
        self._end(
            LLMError(
                f"vLLM must answer; nothing came of it for {_SILENT_S:g} s; look at what it wrote "
                "above, and at the machine"
            )
        )

    def _end(self, error: BaseException) -> None:
        """Take nothing any more, and tell all who wait."""
        with self._changed:
            self._over = True
            waiting = [*self._new.values(), *self._under_way.values()]
            self._changed.notify()
        self._loaded.set()
        for asked in waiting:
            asked.failed(error)

    def _when_interrupted(self) -> None:
        """Let a program end that was interrupted: Python waits for the threads of its pools."""
        if getattr(sys, "last_type", None) is KeyboardInterrupt:
            self._end(Failed(CLOSED, retry=False))

    def _work(self) -> None:
        try:
            self._llm = self._load()
            self._moved_at = time.monotonic()
            self._loaded.set()
            while not self._over:
                self._turn()
        except BaseException as error:  # noqa: BLE001 - whoever waits must be told of anything
            self._shut_down()  # first: who is told may load it again at once
            self._end(_told(error))
        self._shut_down()

    def _turn(self) -> None:
        """Hand to vLLM what came and what was dropped, let it step once, hand over its answers."""
        new, dropped = self._waited()
        engine = self._llm.llm_engine
        if dropped:
            engine.abort_request(dropped)
        for asked in new:
            self._add(asked)
        outputs = engine.step() if self._under_way else ()
        self._moved_at = time.monotonic()
        for output in outputs:
            if output.finished:
                self._answer(output)

    def _waited(self) -> tuple[Iterable[Asked], list[str]]:
        """Return the jobs that came and the numbers that were dropped, once there is work."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._new or self._dropped or self._under_way or self._over
            )
            new, self._new = self._new, {}
            dropped, self._dropped = self._dropped, []
            self._under_way |= new
            return new.values(), dropped

    def _add(self, asked: Asked) -> None:
        self._moved_at = time.monotonic()
        try:
            asked.job.add(self._llm, asked.number)
        except (Failed, LLMError) as refused:
            self._out(asked.number)
            asked.failed(refused)

    def _answer(self, output: Any) -> None:
        asked = self._out(output.request_id)
        if asked is None:
            return
        try:
            asked.answered(asked.job.completions(output))
        except Failed as error:
            asked.failed(error)

    def _out(self, number: str) -> Asked | None:
        with self._changed:
            return self._under_way.pop(number, None)

    def _force_down(self) -> None:
        """Shut down what may be within a step; that may hang too."""
        forced = Thread(target=self._shut_down, daemon=True)
        forced.start()
        forced.join(_GRACE_S)

    def _shut_down(self) -> None:
        """End the engine's own processes, which hold the memory."""
        with self._changed:
            llm, self._llm = self._llm, None
        if llm is not None:
            with contextlib.suppress(Exception):  # of an engine that died nothing better is to come
                llm.llm_engine.engine_core.shutdown()


def _told(error: BaseException) -> LimbeckError:
    if isinstance(error, LimbeckError):
        return error
    return LLMError(
        f"vLLM must stay up to answer; it ended: {told_by(error)}; look at what it wrote above"
    )


def _before_threads_are_joined(work: Callable[[], None]) -> None:
    """Have some work done when the program ends, before Python waits for the threads of pools.

    `atexit` comes after that, and would wait with them; what `concurrent.futures` itself uses has
    no public name.
    """
    register: Callable[[Callable[[], None]], None] = getattr(threading, "_register_atexit")  # noqa: B009
    with contextlib.suppress(RuntimeError):  # the program is ending
        register(work)
