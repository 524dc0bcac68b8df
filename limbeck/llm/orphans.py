"""Ends processes of ours once this one is gone, however it ended: vLLM's core would go on.

`guard` starts this file as a program of its own, `python orphans.py PID...`. Its standard input is
a pipe, whose other end the system closes when we end. It ends with the last of the processes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable

__all__ = ["guard"]

_GRACE_S = 10.0

_guards: list[subprocess.Popen[bytes]] = []


def guard(pids: Iterable[int]) -> None:
    """Have processes ended once this one is gone, where the system has handles of processes."""
    for ended in [running for running in _guards if running.poll() is not None]:
        _guards.remove(ended)
        assert ended.stdin is not None
        ended.stdin.close()
    told = [str(pid) for pid in pids]
    if told and hasattr(os, "pidfd_open"):  # Linux; a number alone may be another's by then
        _guards.append(
            subprocess.Popen(  # noqa: S603 - it is this file
                [sys.executable, "-I", __file__, *told],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        )


def _watch(pids: Iterable[int]) -> None:
    """Wait until all of the processes have ended, or standard input has: then end them."""
    running: set[int] = set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            running.add(os.pidfd_open(pid))
    while running:
        ended, _, _ = select.select([0, *running], [], [])
        if 0 in ended:
            break
        running -= set(ended)
    _send(running, signal.SIGTERM)
    for handle in running:
        select.select([handle], [], [], _GRACE_S)
    _send(running, signal.SIGKILL)


def _send(handles: Iterable[int], number: signal.Signals) -> None:
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


if __name__ == "__main__":
    _watch(map(int, sys.argv[1:]))
