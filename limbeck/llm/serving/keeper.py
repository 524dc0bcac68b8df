"""Runs a command, and ends it with all its children once whoever started it is gone.

A program of its own that needs nothing but Python: `python keeper.py GRACE_S`. Its standard input
is a socket: the owner writes the command, a line of JSON, is told the command's process id, and
holds its end open. The system closes that end when the owner ends, however it ends; the command is
then asked to stop, and after GRACE_S seconds killed. What it leaves behind when it dies itself,
such as a process that holds a GPU, is killed too. A process that the owner forked holds its end
open as well, so SIGTERM means the same, and on Linux the system sends it when the owner ends; and
it kills the command when the keeper is killed. That the command is not among the keeper's own
arguments keeps `pkill -f` from it. The exit status is the command's, or 128 and the number of the
signal that ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from functools import partial
from queue import SimpleQueue
from threading import Thread

__all__ = ["keep"]

_PR_SET_PDEATHSIG = 1


def keep(grace_s: float, command: list[str]) -> int:
    """Run a command until it ends or is to end, and return its exit status."""
    over: SimpleQueue[None] = SimpleQueue()  # an Event's lock may be held when a signal sets it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.put(None))
    child = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=partial(_end_with_parent, signal.SIGKILL),  # noqa: PLW1509 - no thread runs yet
    )
    with contextlib.suppress(OSError):
        os.write(0, b"%d\n" % child.pid)
    Thread(target=_when_closed, args=(over,), daemon=True).start()
    Thread(target=_when_ended, args=(child, over), daemon=True).start()
    over.get()
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # it leads its group, which may outlive it
    status = child.wait()
    return 128 - status if status < 0 else status


def _end_with_parent(number: int) -> None:
    """Have the system send this process a signal when its parent ends, where it is Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _line() -> bytes:
    """Return the first line of standard input; a buffer would be locked while a thread reads."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def _when_closed(over: SimpleQueue[None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    over.put(None)


def _when_ended(child: subprocess.Popen[bytes], over: SimpleQueue[None]) -> None:
    child.wait()
    over.put(None)


if __name__ == "__main__":
    _end_with_parent(signal.SIGTERM)
    sys.exit(keep(float(sys.argv[1]), json.loads(_line())))
