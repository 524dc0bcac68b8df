"""Logs of servers: one for each, few of those that ended, all of those that live."""

from __future__ import annotations

import os
from pathlib import Path

from limbeck.artifact import cache_folder
from limbeck.llm.serving.logs import new_log

ENDED = 99_999_999
"""No process has this number."""


def _aged(name: str, age_s: int) -> Path:
    log = cache_folder("servers") / name
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    os.utime(log, (10_000 - age_s, 10_000 - age_s))
    return log


def test_old_logs_go():
    logs = [_aged(f"m.{ENDED}.{age}.log", age) for age in range(30)]
    new_log("m")
    assert [log.exists() for log in logs] == [True] * 20 + [False] * 10


def test_the_log_of_a_quiet_server_that_lives_is_kept():
    """Before, twenty younger logs were enough, and nothing told why the server died in the end."""
    living = _aged(f"m.{os.getpid()}.1.log", 9_999)
    for age in range(30):
        _aged(f"m.{ENDED}.{age}.log", age)
    new_log("m")
    assert living.exists()


def test_a_log_that_another_process_removed_meanwhile_costs_nothing():
    """Before, FileNotFoundError came out of `generate`."""
    _aged(f"m.{ENDED}.1.log", 1)
    (cache_folder("servers") / "gone.log").symlink_to("nowhere")
    new_log("m")


def test_two_servers_of_a_model_in_one_process_have_two_logs():
    assert new_log("org/m").parent == cache_folder("servers")
    assert new_log("org/m") != new_log("org/m")
