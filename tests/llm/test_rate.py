from __future__ import annotations

from limbeck.llm.rate import RateLimit
from tests.llm.layers import Spoken, call


def test_requests_are_spaced_and_an_idle_hour_allows_no_burst():
    now = [0.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    layer = RateLimit(Spoken(), requests_per_minute=120, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        layer(call())
    assert waits == [0.5, 0.5]
    now[0] += 3600.0
    for _ in range(3):
        layer(call())
    assert waits == [0.5] * 4


def test_threads_that_come_together_have_turns_of_their_own():
    waits: list[float] = []
    layer = RateLimit(Spoken(), requests_per_minute=60, clock=lambda: 0.0, sleep=waits.append)
    for _ in range(4):
        layer(call())
    assert waits == [1.0, 2.0, 3.0]
