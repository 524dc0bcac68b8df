from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from limbeck.llm.budget import Budget, Limits
from limbeck.llm.request import Failed, Reply
from limbeck.llm.tokenizer import FALLBACK, count_prompt
from tests.llm.layers import Spoken, call, request

PROMPT = count_prompt(FALLBACK, request().messages)
MOST = PROMPT + 10  # the prompt as counted, and max_tokens of `layers.request`
TAKEN = 3 + 4  # what `Spoken` reports


def _budget(inner=None, price=None, **limits) -> Budget:
    return Budget(
        inner or Spoken(), limits=Limits(**limits), price=price, tokenizer=lambda: FALLBACK
    )


def _fits(layer: Budget, n: int = 1) -> bool:
    try:
        layer(call(n))
    except Failed as error:
        return (error.reason, error.retry) != ("budget", False)
    return True


def test_calls():
    layer = _budget(calls=2)
    assert [_fits(layer) for _ in range(4)] == [True, True, False, False]


def test_tokens_are_refused_before_the_call_by_what_it_may_take():
    layer = _budget(tokens=TAKEN + MOST)
    assert [_fits(layer) for _ in range(3)] == [True, True, False]
    assert not _fits(_budget(tokens=MOST - 1))
    assert _fits(_budget(tokens=MOST))


def test_a_smaller_call_may_still_fit():
    layer = _budget(tokens=PROMPT + 20)
    assert not _fits(layer, n=3)
    assert _fits(layer, n=2)


def test_usd():
    price = (1e6, 1e6)  # a dollar a token
    layer = _budget(price=price, usd=float(MOST + TAKEN))
    assert [_fits(layer) for _ in range(3)] == [True, True, False]


def test_a_zero_budget_allows_nothing():
    assert not _fits(_budget(calls=0))
    assert not _fits(_budget(usd=0.0, price=(1.0, 1.0)))


def test_a_failed_call_is_counted_as_a_call_and_gives_its_tokens_back():
    def fails(_):
        raise Failed("http 500")

    layer = _budget(fails, calls=3, tokens=MOST)
    for _ in range(3):
        with pytest.raises(Failed, match="http 500"):
            layer(call())
    assert not _fits(layer)


def test_what_is_in_flight_counts():
    started, go_on = threading.Barrier(3, timeout=5), threading.Event()

    def waits(_):
        started.wait()
        go_on.wait(5)
        return Reply({}, None, 0, 0)

    layer = _budget(waits, tokens=2 * MOST)
    with ThreadPoolExecutor(2) as pool:
        flying = [pool.submit(layer, call()) for _ in range(2)]
        started.wait()
        assert not _fits(layer), "two calls in flight hold all there is"
        go_on.set()
        for future in flying:
            future.result()


def test_many_threads_never_use_more_than_the_budget():
    inner = Spoken()
    layer = _budget(inner, calls=10)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: _fits(layer), range(50)))
    assert sum(done) == len(inner.calls) == 10
