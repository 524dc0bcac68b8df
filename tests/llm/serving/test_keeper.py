"""The program that ends a command once nobody owns it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from limbeck.llm.serving import keeper


def begun() -> tuple[socket.socket, subprocess.Popen[bytes], int]:
    """Return the line to a keeper, the keeper, and the process id of its command."""
    mine, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, keeper.__file__, "2"], stdin=theirs.fileno())
    mine.sendall(json.dumps(["sleep", "600"]).encode() + b"\n")
    return mine, process, int(mine.recv(100))


def test_many_reasons_to_end_at_once_do_not_keep_it_from_ending():
    """Before, a signal could find the lock held that its handler takes, and the command lived on:
    so it was for one keeper of sixteen that was hit so often.
    """
    for _ in range(5):
        kept = [begun() for _ in range(8)]
        try:
            for line, process, _ in kept:
                line.close()
                for _ in range(300):
                    process.send_signal(signal.SIGTERM)
            for _, process, command in kept:
                process.wait(10)
                with pytest.raises(ProcessLookupError):
                    os.kill(command, 0)
        finally:
            for _, process, command in kept:
                process.kill()
                process.wait()
                with suppress(ProcessLookupError):
                    os.kill(command, signal.SIGKILL)
