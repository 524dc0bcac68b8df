"""Progress where there is no terminal: a line when work takes long, and now and then after that."""

from __future__ import annotations

import time

import pytest

from limbeck.cli.progress import shown_progress
from limbeck.progress import announcer, teller


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose only number is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_long_work_is_told_of_after_5_s_and_then_every_30_s(clock, capsys):
    with shown_progress():
        tell = teller()
        for second in range(70):
            clock[0] = 100.0 + second
            tell("reading", second, 100, "so far so good")
        announcer()("something begins")
        tell("short work", 0, 2, "")
        tell("short work", 1, 2, "")
    assert capsys.readouterr().err.splitlines() == [
        "reading: 5 of 100, so far so good, 2 min left",
        "reading: 35 of 100, so far so good, 65 s left",
        "reading: 65 of 100, so far so good, 35 s left",
        "something begins",
    ]


def test_work_that_begins_again_and_again_is_told_of_as_one(clock, capsys):
    """A label of its own five seconds each would never be told of."""
    with shown_progress():
        for second in range(40):
            clock[0] = 100.0 + second
            teller()("encoding", second % 2, 2, "")
    assert len(capsys.readouterr().err.splitlines()) == 2
