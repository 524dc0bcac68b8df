from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from limbeck.llm import orphans

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")

PROGRAM = """
import subprocess, sys, time
from limbeck.llm.orphans import guard
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
guard([child.pid])
print(child.pid, flush=True)
time.sleep(600)
"""


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _wait_until_gone(pid: int) -> None:
    ends_at = time.monotonic() + 20.0
    while _lives(pid):
        assert time.monotonic() < ends_at, "it outlives the program"
        time.sleep(0.05)


def test_a_program_that_is_killed_leaves_nothing():
    """vLLM's core went on, and held the GPU's memory."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE
    ) as program:
        child = int(program.stdout.readline())
        assert _lives(child)
        program.send_signal(signal.SIGKILL)
    _wait_until_gone(child)


def test_the_guard_ends_with_what_it_guards():
    child = subprocess.Popen(["sleep", "600"])
    orphans.guard([child.pid])
    guarding = orphans._guards[-1]
    assert guarding.poll() is None
    child.kill()
    child.wait()
    assert guarding.wait(20.0) == 0
    orphans.guard([])
    assert guarding not in orphans._guards
    guarding.stdin.close()
