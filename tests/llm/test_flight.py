from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from limbeck.errors import LLMError
from limbeck.llm.flight import SingleFlight
from limbeck.llm.request import ABANDONED, Abandoned, Call, Reply
from limbeck.meter import metered
from tests.llm.layers import Spoken, call, request


class Held:
    """Answers only when let go, so that calls overlap for certain."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.go_on = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, call: Call) -> Reply:
        self.entered.release()
        assert self.go_on.wait(5)
        return self.inner(call)


def _wait_until_waiting(futures) -> None:
    """Give threads that have nothing but a future to wait for the time to reach it."""
    import time

    time.sleep(0.1)
    assert not any(future.done() for future in futures)


def test_identical_calls_under_way_are_made_once_and_saved_for_the_others():
    spoken = Spoken()
    held = Held(spoken)
    layer = SingleFlight(held, price=(1.0, 1.0))

    def ask():
        with metered() as meter:
            return layer(call(2)), meter.usage

    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(ask) for _ in range(5)]
        held.entered.acquire()
        _wait_until_waiting(futures)
        held.go_on.set()
        done = [future.result(5) for future in futures]
    assert spoken.calls == [(0, 1)]
    assert {tuple(s.text for s in reply.samples.values()) for reply, _ in done} == {
        ("0 of hello", "1 of hello")
    }
    assert sorted(usage.saved_calls for _, usage in done) == [0, 1, 1, 1, 1]
    assert sorted(usage.saved_completion_tokens for _, usage in done) == [0, 8, 8, 8, 8]


def test_overlapping_samples_are_shared_and_no_two_calls_wait_for_each_other():
    spoken = Spoken()
    held = Held(spoken)
    layer = SingleFlight(held, price=None)
    r = request()
    with ThreadPoolExecutor(3) as pool:
        one = pool.submit(layer, Call(r, (0, 1)))
        held.entered.acquire()
        two = pool.submit(layer, Call(r, (1, 2)))
        held.entered.acquire()
        three = pool.submit(layer, Call(r, (2, 0)))
        _wait_until_waiting([one, two, three])
        held.go_on.set()
        assert sorted(one.result(5).samples) == [0, 1]
        assert sorted(two.result(5).samples) == [1, 2]
        assert sorted(three.result(5).samples) == [0, 2]
    assert sorted(spoken.calls) == [(0, 1), (2,)]


def test_errors_and_failures_are_shared_and_nothing_stays_behind():
    errors = iter([LLMError("http 401")])

    def fails(_):
        raise next(errors)

    held = Held(fails)
    layer = SingleFlight(held, price=None)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(layer, call()) for _ in range(2)]
        held.entered.acquire()
        _wait_until_waiting(futures)
        held.go_on.set()
        for future in futures:
            with pytest.raises(LLMError, match="401"):
                future.result(5)
    held.inner = lambda _: Reply(failure="timeout")
    assert layer(call()).failure == "timeout"
    held.inner = Spoken()
    assert layer(call()).samples[0].text == "0 of hello"


def test_one_after_the_other_are_two_calls():
    spoken = Spoken()
    layer = SingleFlight(spoken, price=None)
    layer(call())
    layer(call())
    assert spoken.calls == [(0,), (0,)]


def test_who_waits_with_a_listener_hears_the_whole_text():
    held = Held(Spoken())
    layer = SingleFlight(held, price=None)
    heard: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(layer, call())
        held.entered.acquire()
        second = pool.submit(layer, Call(call().request, (0,), heard.append))
        _wait_until_waiting([first, second])
        held.go_on.set()
        second.result(5)
    assert heard == ["0 of hello"]


@pytest.mark.parametrize("raises", [False, True])
def test_what_another_listener_left_is_asked_for_again(raises):
    """A replayed text is told at once, and the listener may be gone: that raises."""
    spoken = Spoken()

    def left_and_then_spoken(asked):
        held.inner = spoken
        if raises:
            raise Abandoned
        return Reply(failure=ABANDONED)

    held = Held(left_and_then_spoken)
    layer = SingleFlight(held, price=None)
    with ThreadPoolExecutor(2) as pool:
        gone = pool.submit(layer, call(2))
        held.entered.acquire()
        waiting = pool.submit(layer, call(2))
        _wait_until_waiting([gone, waiting])
        held.go_on.set()
        assert (gone.result(5).samples, gone.result().failure) == ({}, ABANDONED)
        assert (sorted(waiting.result(5).samples), waiting.result().failure) == ([0, 1], None)
    assert spoken.calls == [(0, 1)]
