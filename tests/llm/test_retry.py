from __future__ import annotations

import pytest

from limbeck.errors import LLMError
from limbeck.llm.request import Call, Failed, Reply, Sample
from limbeck.llm.retry import Patience, Retry
from tests.llm.layers import call


class Fails:
    """Raises the given errors, one a call, and then answers."""

    def __init__(self, *errors: Exception, say: str | None = None) -> None:
        self.errors = list(errors)
        self.n_calls = 0
        self.say = say

    def __call__(self, call: Call) -> Reply:
        self.n_calls += 1
        if self.say is not None and call.listen is not None:
            call.listen(self.say)
        if self.errors:
            raise self.errors.pop(0)
        return Reply({0: Sample("done")})


def _retry(inner: Fails, retries: int = 5) -> tuple[Retry, list[float]]:
    waits: list[float] = []
    patience = Patience(retries=retries, first_wait_s=1.0, sleep=waits.append)
    return Retry(inner, patience), waits


def test_failures_that_may_pass_are_tried_again_with_growing_bounds():
    inner = Fails(*[Failed("http 500")] * 5)
    layer, waits = _retry(inner)
    assert layer(call()).samples[0].text == "done"
    assert inner.n_calls == 6
    assert len(waits) == 5
    assert all(0.0 <= wait <= 2.0**n for n, wait in enumerate(waits))
    assert len(set(waits)) == 5, "waits are drawn at random"


def test_waits_have_a_bound():
    layer, waits = _retry(Fails(*[Failed("timeout")] * 20), retries=20)
    layer(call())
    assert max(waits) <= 30.0


def test_retry_after_is_honoured():
    layer, waits = _retry(Fails(Failed("http 429", retry_after_s=7.5), Failed("timeout")))
    assert layer(call()).samples
    assert waits[0] == 7.5
    assert waits[1] <= 2.0


def test_a_server_that_asks_for_an_hour_is_not_waited_for():
    inner = Fails(Failed("http 429", retry_after_s=3600.0))
    layer, waits = _retry(inner)
    assert layer(call()).failure == "http 429"
    assert (inner.n_calls, waits) == (1, [])


def test_after_the_last_try_the_failure_is_the_replys():
    inner = Fails(*[Failed("http 503")] * 9)
    layer, _ = _retry(inner, retries=2)
    reply = layer(call())
    assert (reply.failure, dict(reply.samples), inner.n_calls) == ("http 503", {}, 3)


def test_no_retry_where_none_helps():
    inner = Fails(Failed("budget", retry=False))
    layer, waits = _retry(inner)
    assert layer(call()).failure == "budget"
    assert (inner.n_calls, waits) == (1, [])


def test_errors_that_are_no_failures_of_one_call_are_raised_at_once():
    inner = Fails(LLMError("http 401"))
    layer, _ = _retry(inner)
    with pytest.raises(LLMError, match="401"):
        layer(call())
    assert inner.n_calls == 1


def test_text_that_was_heard_is_never_generated_again():
    inner = Fails(Failed("connection broken"), say="half")
    layer, _ = _retry(inner)
    heard: list[str] = []
    reply = layer(Call(call().request, (0,), heard.append))
    assert (reply.failure, heard, inner.n_calls) == ("connection broken", ["half"], 1)


def test_before_any_text_a_stream_is_retried():
    inner = Fails(Failed("http 500"))
    layer, _ = _retry(inner)
    assert layer(Call(call().request, (0,), [].append)).samples
    assert inner.n_calls == 2


def _timed(inner, **settings):
    """A layer and a clock that only waiting moves."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    settings = {"retries": 2, "first_wait_s": 1.0, **settings}
    return Retry(inner, Patience(sleep=sleep, clock=lambda: now[0], **settings)), now


def test_a_server_that_went_away_is_waited_for():
    """A vLLM server that is started anew takes half a minute: longer than all retries."""
    inner = Fails()
    layer, now = _timed(inner, reconnect_s=60.0)
    assert layer(call()).samples
    inner.errors = [Failed("no connection")] * 12
    assert layer(call()).samples
    assert 0.0 < now[0] <= 60.0


def test_a_server_that_stays_away_is_given_up_once():
    inner = Fails()
    layer, now = _timed(inner, reconnect_s=60.0)
    layer(call())
    inner.errors = [Failed("no connection")] * 1000
    assert layer(call()).failure == "no connection"
    assert 60.0 <= now[0] <= 70.0
    before, tried = now[0], inner.n_calls
    assert layer(call()).failure == "no connection"
    assert (now[0], inner.n_calls) == (before, tried + 1)


def test_a_server_that_never_answered_is_not_waited_for():
    inner = Fails(*[Failed("no connection")] * 1000)
    layer, now = _timed(inner, reconnect_s=600.0)
    assert layer(call()).failure == "no connection"
    assert (inner.n_calls, now[0] <= 4.0) == (3, True)


def test_while_a_server_is_dead_each_call_is_tried_once():
    """Before, each of a thousand prompts cost all retries: an hour and a half of waiting."""
    inner = Fails(*[Failed("timeout")] * 5)
    layer, _ = _timed(inner)
    assert [layer(call()).failure for _ in range(3)] == ["timeout"] * 3
    assert inner.n_calls == 3 + 1 + 1
    assert layer(call()).samples
    inner.errors = [Failed("timeout")] * 2
    assert layer(call()).samples, "once it answers, failures are tried again"


def test_what_a_server_itself_refuses_for_now_is_tried_again_also_after_it_could_not_be_reached():
    """Before, a 429 behind a call that timed out was final: the server was taken for dead."""
    inner = Fails(*[Failed("timeout")] * 3)
    layer, _ = _timed(inner)
    assert layer(call()).failure == "timeout"
    inner.errors = [Failed("http 429", retry_after_s=1.0), Failed("http 503")]
    assert layer(call()).samples


def test_a_call_that_timed_out_ends_nobody_else_s_wait_for_a_server_that_went_away():
    inner = Fails()
    layer, now = _timed(inner, reconnect_s=60.0)
    layer(call())
    inner.errors = [Failed("timeout")] * 3
    assert layer(call()).failure == "timeout"
    inner.errors = [Failed("no connection")] * 12
    began = now[0]
    assert layer(call()).samples
    assert now[0] > began
