from __future__ import annotations

import threading
import time

import pytest

from limbeck.llm.spread import spread
from limbeck.meter import Usage, charge, metered
from limbeck.progress import listening


def test_order_concurrency_context_and_progress():
    together = threading.Barrier(4, timeout=5)

    def work(item: int) -> int:
        together.wait()
        charge(Usage(calls=1))
        return item * item

    told: list[tuple[str, int, int]] = []
    with metered() as meter, listening(lambda *what: told.append(what)):
        assert spread(work, range(8), concurrency=4, label="x") == [n * n for n in range(8)]
    assert meter.usage.calls == 8
    assert told[0] == ("x", 0, 8, "")
    assert told[-1] == ("x", 8, 8, "")


def test_nothing_and_one():
    assert spread(str, [], concurrency=4, label="x") == []
    assert spread(lambda _: threading.current_thread(), [1], concurrency=4, label="x") == [
        threading.current_thread()
    ]


def test_the_first_error_is_raised_and_what_had_not_begun_is_not_begun():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError("first")
        time.sleep(0.05)
        return item

    with pytest.raises(ValueError, match="first"):
        spread(work, range(100), concurrency=2, label="x")
    assert len(begun) < 50
