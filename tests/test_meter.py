"""The meter and the progress listener."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor

from limbeck.meter import Usage, charge, metered, note
from limbeck.progress import listening, track


def test_every_open_meter_sees_a_charge():
    with metered() as outer:
        charge(Usage(calls=1, usd=0.5))
        with metered() as inner:
            charge(Usage(calls=2, saved_calls=1))
        charge(Usage(calls=4))
    charge(Usage(calls=8))
    assert outer.usage == Usage(calls=7, usd=0.5, saved_calls=1)
    assert inner.usage == Usage(calls=2, saved_calls=1)


def test_charges_from_many_threads_are_all_counted():
    with metered() as meter, ThreadPoolExecutor(8) as pool:
        for _ in range(200):
            pool.submit(contextvars.copy_context().run, charge, Usage(calls=1, prompt_tokens=3))
            pool.submit(contextvars.copy_context().run, note, "kept")
    assert (meter.usage.calls, meter.usage.prompt_tokens) == (200, 600)
    assert meter.notes == {"kept": 200}


def test_progress_reaches_the_listener_and_nobody_else():
    heard = []
    with listening(lambda *event: heard.append(event)):
        assert list(track("ab", label="read", total=2)) == ["a", "b"]
    assert list(track("cd", label="read", total=2)) == ["c", "d"]
    assert heard == [("read", 0, 2), ("read", 1, 2), ("read", 2, 2)]
