from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from limbeck.llm.shared import Shared


class Things:
    def __init__(self) -> None:
        self.made: list[str] = []
        self.closed: list[str] = []
        self.shared: Shared[str, list[str]] = Shared(self._make, self._close)

    def _make(self, key: str) -> list[str]:
        self.made.append(key)
        return [key]

    def _close(self, thing: list[str]) -> None:
        assert len(self.made) - len(self.closed) == 1, "another is made while one is closed"
        time.sleep(0.01)
        self.closed += thing


@pytest.fixture
def things() -> Things:
    return Things()


def test_it_is_made_for_the_first_and_closed_by_the_last(things):
    one, two = things.shared.lease("a"), things.shared.lease("a")
    assert things.made == []
    assert one.held() is one.held() is two.held()
    one.release()
    one.release()
    assert things.closed == []
    two.release()
    assert (things.made, things.closed) == (["a"], ["a"])
    one.release()
    assert things.closed == ["a"]


def test_it_is_made_anew_for_who_comes_back(things):
    lease = things.shared.lease("a")
    first = lease.held()
    lease.release()
    assert lease.held() is not first
    assert things.made == ["a", "a"]


def test_another_key_is_another_thing():
    closed: list[list[str]] = []
    shared: Shared[str, list[str]] = Shared(lambda key: [key], closed.append)
    a, b = shared.lease("a"), shared.lease("b")
    assert (a.held(), b.held()) == (["a"], ["b"])
    a.release()
    assert closed == [["a"]]


def test_one_that_is_closing_is_waited_for(things):
    """Two models at once may not fit on one GPU; `_close` looks."""

    def use(_: int) -> None:
        lease = things.shared.lease("a")
        lease.held()
        lease.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(64)))
    assert len(things.made) == len(things.closed) >= 1


def test_a_thing_that_fails_to_close_is_gone():
    def close(_: object) -> None:
        raise RuntimeError("no")

    shared: Shared[str, object] = Shared(lambda _: object(), close)
    lease = shared.lease("a")
    first = lease.held()
    with pytest.raises(RuntimeError):
        lease.release()
    assert lease.held() is not first
