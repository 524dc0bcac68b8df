"""A server process of our own: started when first needed, watched, started anew, stopped."""

from __future__ import annotations

import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from threading import Condition, Thread
from typing import NamedTuple
from urllib.parse import urlsplit
from weakref import WeakMethod

from limbeck.errors import LimbeckError, LLMError
from limbeck.llm.secrets import Scrubber
from limbeck.llm.serving.command import Command
from limbeck.llm.serving.kept import Kept
from limbeck.llm.serving.pulse import Pulse

__all__ = ["Server", "State", "Upkeep"]

_TICK_S = 0.2
_WINDOW_S = 600.0


class State(StrEnum):
    """What a server is doing.

        stopped -> starting -> healthy <-> suspect
                      |  ^        |           |
                      v  +--------+-----------+  it died or hangs, and may be started again
                   failed <-------+-----------+  it may not

    `close` leads from each of them to closing, and on to stopped.
    """

    STOPPED = "stopped"
    STARTING = "starting"
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    FAILED = "failed"
    CLOSING = "closing"


_UP = frozenset({State.HEALTHY, State.SUSPECT})


class _Closed(Exception):  # noqa: N818 - it is none
    """Ends the owner's work, wherever it waits."""


class _Trouble(NamedTuple):
    """Why a server must be started again, in two words and in a sentence's part."""

    short: str
    told: str


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """How long is waited for a server, and how often it is started.

    Attributes:
        start_timeout_s: how long it may take until it is healthy.
        restarts: how often it is started anew within ten minutes, once it was healthy.
        look_every_s: between two looks at whether it hangs; unless given, only `suspect` looks.
        patience_s: how long its engine may do nothing.
        pause_s: before it is started anew: a GPU's memory is not free at once.
    """

    start_timeout_s: float
    restarts: int
    look_every_s: float = math.inf
    patience_s: float = 180.0
    pause_s: float = 3.0


class Server:
    """A command that serves HTTP, with /health. Calls come from many threads.

    One thread, the owner, makes all transitions, from the first `ready` to the end of `close`; the
    others tell it what they want and wait until the state is one that answers them.
    """

    def __init__(
        self,
        command: Callable[[], Command],
        *,
        log: Path,
        key: str,
        upkeep: Upkeep,
        listen: Callable[[str], None] | None = None,
        changed: Callable[[Server, str], None] | None = None,
    ) -> None:
        """Keep what a start needs; nothing is started.

        Args:
            command: returns what is run; it is asked at each start, so that each may choose a port.
            log: file that what it writes is added to.
            key: sent when it is looked at, and taken out of what it writes.
            upkeep: how long and how often.
            listen: told each line that it writes, None where nobody is.
            changed: told by the owner, at each change of state, what led to it.
        """
        self.log = log
        self._command = command
        self._key = key
        self._scrub = Scrubber((key,))
        self._upkeep = upkeep
        self._listen = listen
        self._heard = changed
        self._retired = False
        self._failure = ""
        self._kept: Kept | None = None
        self._title = "the server"
        self._address = ""
        self._pulse: Pulse | None = None
        self._begin()
        os.register_at_fork(after_in_child=partial(_begin_anew, WeakMethod(self._begin)))

    def _begin(self) -> None:
        """Be stopped; so begins a forked process, which lacks the owner and who held locks."""
        self._changed = Condition()
        self._forget()

    def _forget(self) -> None:
        """Set what holds of a server that is stopped."""
        self._state = State.STOPPED
        self._owner: Thread | None = None
        self._closing = False
        self._doubted = False
        self._starts = 0
        self._restarted_at: deque[float] = deque()

    @property
    def state(self) -> State:
        """What the server is doing."""
        return self._state

    @property
    def address(self) -> str:
        """Where it listens, or last did; another start may choose another port."""
        return self._address

    @property
    def starts(self) -> int:
        """How often it was started since `ready` first was asked for."""
        return self._starts

    @property
    def pid(self) -> int | None:
        """The process that serves, which leads its process group."""
        return None if self._kept is None else self._kept.pid

    def ready(self) -> str:
        """Return the address once the server is healthy, after starting it if it is stopped.

        Raises:
            LLMError: it did not start or stay up, and will not before it is closed; or it was
                closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._closing)
            if self._retired:
                raise self._was_closed()
            owner = self._owner = self._owner or self._new_owner()
            self._changed.wait_for(lambda: self._is_settled(owner))
            if self._owner is not owner or self._closing:
                raise self._was_closed()
            if self._state is State.FAILED:
                raise LLMError(self._failure)
            return self._address

    def suspect(self) -> None:
        """Return when the server was looked at; if it is ill or hangs it is being started anew."""
        with self._changed:
            if self._state is State.HEALTHY and not self._closing:
                self._doubted = True
                self._changed.notify_all()
            self._changed.wait_for(lambda: not self._doubted)

    def wait(self) -> None:
        """Return when the server is stopped.

        Raises:
            LLMError: it failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._owner is None or self._state is State.FAILED)
            if self._state is State.FAILED:
                raise LLMError(self._failure)

    def running(self) -> bool:
        """Return whether the process is there, healthy or not."""
        return self._kept is not None and self._kept.status() is None

    def close(self) -> None:
        """Stop the server; a later call of `ready` starts it again."""
        with self._changed:
            owner = self._owner
            if owner is None:
                return
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._owner is not owner)

    def retire(self) -> None:
        """Stop the server for good: whoever still holds it starts none that nobody would stop."""
        with self._changed:
            self._retired = True
        self.close()

    def tail(self) -> str:
        """Return the end of what the server wrote since it was last started, without keys."""
        return "" if self._kept is None else self._kept.tail()

    def _is_settled(self, owner: Thread) -> bool:
        if self._owner is not owner or self._closing or self._state is State.FAILED:
            return True
        return self._state in _UP and self.running()

    def _was_closed(self) -> LLMError:
        return LLMError(
            f"{self._title} must be left open while it is waited for; it was closed; another call "
            "starts it again"
        )

    def _new_owner(self) -> Thread:
        owner = Thread(target=self._own, name="limbeck-server", daemon=True)
        owner.start()
        return owner

    # What follows is the owner's.

    def _own(self) -> None:
        """Lead the server through its states, until it is closed."""
        try:
            self._lead()
        except _Closed:
            self._to(State.CLOSING, "stopping")
        finally:
            self._end()
            with self._changed:
                self._forget()
                self._changed.notify_all()

    def _lead(self) -> None:
        try:
            self._to(State.STARTING, "starting")
            self._start()
            while True:
                self._start_again(self._trouble())
        except _Closed:
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self._end()
            known = isinstance(error, LimbeckError)
            self._failure = str(error) if known else self._must("start", self._scrub(repr(error)))
            self._to(State.FAILED, self._failure)
            while True:
                self._pause(None)

    def _to(self, state: State, why: str) -> None:
        """Make a transition; a doubt is settled by any but the look that it asks for."""
        with self._changed:
            is_told = state is not self._state or state is State.STARTING
            self._state = state
            if state is not State.SUSPECT:
                self._doubted = False
            self._changed.notify_all()
        if is_told and self._heard is not None:
            with suppress(Exception):  # a terminal that is gone ends no server
                self._heard(self, why)

    def _start(self) -> None:
        """Run the command and wait until it is healthy.

        Raises:
            LLMError: it ends before, or takes too long.
        """
        self._starts += 1
        command = self._command()
        self._title = command.title
        _require_free(command)
        self._pulse = Pulse(command, key=self._key, patience_s=self._upkeep.patience_s)
        self._kept = Kept(command, log=self.log, scrub=self._scrub, listen=self._listen)
        ends_at = time.monotonic() + self._upkeep.start_timeout_s
        while not self._asked(self._pulse.healthy):
            if not self.running():
                raise LLMError(self._must("start", self._ended()))
            if time.monotonic() > ends_at:
                late = (
                    f"it was not ready in {self._upkeep.start_timeout_s:g} s: {self._last_words()}"
                )
                raise LLMError(self._must("start", late))
            self._pause(_TICK_S)
        self._address = command.address
        self._to(State.HEALTHY, "ready")

    def _trouble(self) -> _Trouble:
        """Return why the server must be started again, as soon as it must."""
        assert self._pulse is not None
        looked_at = time.monotonic()
        while self.running():
            if self._doubted or time.monotonic() > looked_at + self._upkeep.look_every_s:
                if self._doubted:
                    self._to(State.SUSPECT, "a call failed")
                if self._asked(self._pulse.hangs) and self.running():
                    told = f"it is ill, or its engine did nothing for {self._upkeep.patience_s:g} s"
                    return _Trouble("it hangs", f"{told}: {self._last_words()}")
                looked_at = time.monotonic()
                self._to(State.HEALTHY, "it answers")
            self._pause(_TICK_S)
        return _Trouble("it died", self._ended())

    def _start_again(self, trouble: _Trouble) -> None:
        """Start it anew, as often as may be.

        Restarts of long ago are forgotten where it was healthy since, not between failing ones:
        those of a large model may be ten minutes apart, and must end.

        Raises:
            LLMError: it may not be started any more; what it says is why it ended the last time.
        """
        while self._restarted_at and time.monotonic() - self._restarted_at[0] > _WINDOW_S:
            self._restarted_at.popleft()
        failure = self._must("stay up", trouble.told)
        short = trouble.short
        while len(self._restarted_at) < self._upkeep.restarts:
            self._restarted_at.append(time.monotonic())
            self._to(State.STARTING, f"{short}: starting again")
            self._end()
            self._pause(self._upkeep.pause_s)
            try:
                return self._start()
            except LimbeckError as error:
                short, failure = "it did not start", str(error)
        raise LLMError(
            f"{failure}; it may be started again {self._upkeep.restarts} times in ten minutes"
        )

    def _asked(self, question: Callable[[], bool]) -> bool:
        """Return the answer to a question that may take long, unless the server is closed."""
        answer: Future[bool] = Future()
        answer.add_done_callback(lambda _: self._wake())
        Thread(target=_answer, args=(question, answer), daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: self._closing or answer.done())
        self._pause(0.0)
        return answer.result()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _pause(self, seconds: float | None) -> None:
        """Wait so long, or until there is a doubt; None is for ever.

        Raises:
            _Closed: the server is to be closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._doubted, seconds)
            if self._closing:
                raise _Closed

    def _end(self) -> None:
        if self._kept is not None:
            self._kept.end()

    def _ended(self) -> str:
        """Return with which status it ended, and its last words."""
        assert self._kept is not None
        status = self._kept.status()
        self._end()
        return f"it ended with status {status}: {self._last_words()}"

    def _last_words(self) -> str:
        return "" if self._kept is None else self._kept.last_words()

    def _must(self, do: str, what: str) -> str:
        return (
            f"{self._title} must {do} to answer; {what}; mend what it says; its log is {self.log}"
        )


def _begin_anew(begin: WeakMethod[Callable[[], None]]) -> None:
    found = begin()
    if found is not None:
        found()


def _answer(question: Callable[[], bool], answer: Future[bool]) -> None:
    try:
        answer.set_result(question())
    except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
        answer.set_exception(error)


def _require_free(command: Command) -> None:
    """Raise LLMError if somebody else's server listens there: it would be taken for ours."""
    there = urlsplit(command.address)
    try:
        socket.create_connection((there.hostname or "", there.port or 80), 1.0).close()
    except OSError:
        return
    raise LLMError(
        f"{command.title} needs a port that nobody listens on; got {there.port}, which "
        "somebody uses; stop that server, or take another port"
    )
