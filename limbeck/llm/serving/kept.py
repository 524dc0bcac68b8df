"""A process of ours under a keeper, its log, and its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO

from limbeck.artifact import writing
from limbeck.llm.secrets import Scrubber
from limbeck.llm.serving import keeper
from limbeck.llm.serving.command import Command

__all__ = ["GRACE_S", "Kept"]

GRACE_S = 10.0
"""What a server has to finish when it is asked to stop, before it is killed."""

_TOLD_LINES = 6
_ERROR = re.compile(
    r"^(?!.*WARNING)(?!.*root cause above).*(?:(?:Error|Exception)(?:: |$)|\berror:)"
)
"""vLLM's last error is mostly one that points to another, a hundred lines higher."""

_TAIL_BYTES = 64_000


class Kept:
    """A command that runs in a process group of its own.

    It ends with this process, however that ends (`limbeck.llm.serving.keeper`), and with the thread
    that made it.
    """

    def __init__(
        self, command: Command, *, log: Path, scrub: Scrubber, listen: Callable[[str], None] | None
    ) -> None:
        """Run the command.

        Args:
            command: what is run.
            log: file that what it writes is added to.
            scrub: takes keys out of what it writes.
            listen: told each line of that, None where nobody is.

        Raises:
            ArtifactError: the log cannot be written.
        """
        self._log = log
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            self._began_at = log.stat().st_size if log.exists() else 0
            told = log.open("a", encoding="utf-8")
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, keeper.__file__, str(GRACE_S)],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | command.environment,
                start_new_session=True,  # Ctrl-C reaches us alone, and we decide
            )
        self._writer = Thread(
            target=_write, args=(self._process.stdout, told, scrub, listen), daemon=True
        )
        self._writer.start()
        self.pid = self._begun(command.argv)

    def _begun(self, argv: tuple[str, ...]) -> int | None:
        """Return the command's process, None where the keeper could not start it."""
        with suppress(OSError), self._line.makefile("rwb") as line:
            line.write(json.dumps(argv).encode() + b"\n")
            line.flush()
            return int(line.readline() or 0) or None
        return None

    def status(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """Stop the process and all that it started; nothing happens where that is done."""
        with suppress(OSError):
            self._process.terminate()
        self._line.close()
        try:
            self._process.wait(2 * GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode < 0:
            self._kill_group()
        self._writer.join(GRACE_S)  # its last words say why it ended

    def _kill_group(self) -> None:
        """Do what a keeper that was killed did not; one that ended by itself has done it."""
        pid, self.pid = self.pid, None
        if pid is not None:
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def tail(self) -> str:
        """Return the end of what it wrote, without keys."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(self._began_at, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def last_words(self) -> str:
        """Return the lines of the log that most likely say what went wrong."""
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        errors = [place for place, line in enumerate(lines) if _ERROR.search(line)]
        begins = errors[-1] if errors else -_TOLD_LINES
        told = " / ".join(line[:300] for line in lines[begins:][:_TOLD_LINES])
        return told or "it wrote nothing"


def _write(
    lines: IO[bytes], log: IO[str], scrub: Scrubber, listen: Callable[[str], None] | None
) -> None:
    """Write what a process says into its log, without keys, until it ends.

    It is read to its end even if the disk is full or the listener's terminal gone: a process whose
    pipe is full stands still.
    """
    with lines, log:
        for line in lines:
            told = scrub(line.decode("utf-8", "replace"))
            with suppress(OSError):
                log.write(told)
                log.flush()
            if listen is not None:
                with suppress(Exception):
                    listen(told)
