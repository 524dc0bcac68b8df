from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest

from limbeck.llm import deadline
from limbeck.llm.backend import Completion, Completions
from limbeck.llm.deadline import Deadline
from limbeck.llm.request import Abandoned, Failed
from limbeck.llm.scripted import Scripted
from limbeck.meter import Usage, charge, metered
from tests.llm.layers import request


def test_calls_in_time_pass_with_their_context():
    def says(messages, index):
        charge(Usage(calls=1))
        return f"{messages[0].content} {index}"

    with metered() as meter:
        made = Deadline(Scripted(says), timeout_s=5).complete(request("hi"), 2, 1, None)
    assert made.completions[0].text == "hi 2"
    assert meter.usage.calls == 1


def test_an_overdue_call_fails_in_time_and_its_late_text_is_heard_by_nobody():
    go_on, ended = threading.Event(), threading.Event()
    heard: list[str] = []

    class Late:
        def complete(self, request, first, n, listen):
            try:
                go_on.wait(5)
                listen("late")
            except Abandoned:
                ended.set()
                raise
            return Completions((Completion("late"),))

        def close(self):
            pass

    started = time.monotonic()
    with pytest.raises(Failed, match="timeout"):
        Deadline(Late(), timeout_s=0.05).complete(request(), 0, 1, heard.append)
    assert time.monotonic() - started < 2
    go_on.set()
    assert ended.wait(5)
    assert heard == []


def test_a_call_that_ends_at_the_deadline_is_in_time(monkeypatch):
    class Late(Future):
        def result(self, timeout=None):
            super().result(5)
            if timeout is None:
                return super().result()
            raise TimeoutError

    monkeypatch.setattr(deadline, "Future", Late)
    made = Deadline(Scripted(lambda *_: "just"), timeout_s=1).complete(request(), 0, 1, None)
    assert made.completions[0].text == "just"


def test_errors_pass():
    def fails(messages, index):
        raise Failed("http 500")

    with pytest.raises(Failed, match="http 500"):
        Deadline(Scripted(fails), timeout_s=5).complete(request(), 0, 1, None)
