from __future__ import annotations

import dataclasses
import json
import threading
import time

import pytest

from limbeck.errors import BudgetError, LLMError
from limbeck.llm.backend import Completion, Completions
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed
from limbeck.meter import Usage, metered
from tests.llm.conftest import user
from tests.llm.server import Answer, chat


def _without_time(usage: Usage) -> Usage:
    return dataclasses.replace(usage, seconds=0.0)


def _stop(messages, index):
    raise Failed("http 500")


def test_deltas_that_add_up_and_usage_as_without_streaming(ask):
    """Known defects 10 and 22."""
    llm, server = ask(lambda body, n: chat("one two three"), price=(1.0, 2.0))
    with metered() as streamed:
        pieces = list(llm.stream(user("hi"), temperature=0.0))
    assert pieces == ["one", " two", " three"]
    with metered() as plain:
        (generation,) = llm.generate([user("hi")], temperature=0.0)
    assert "".join(pieces) == generation.texts[0]
    assert _without_time(streamed.usage) == _without_time(plain.usage)
    assert streamed.usage.completion_tokens == 3
    assert server.asked[0]["stream_options"] == {"include_usage": True}


def test_usage_that_a_stream_does_not_tell_is_counted(ask):
    llm, _ = ask(lambda body, n: chat("one two three", usage=False))
    with metered() as streamed:
        list(llm.stream(user("hi")))
    with metered() as plain:
        llm.generate([user("hi")])
    assert _without_time(streamed.usage) == _without_time(plain.usage)
    assert streamed.usage.completion_tokens > 0


def test_a_stream_is_recorded_and_replayed_as_one_piece(ask, tmp_path):
    llm, server = ask(lambda body, n: chat("one two"), cassette=tmp_path / "x")
    assert "".join(llm.stream(user("hi"))) == "one two"
    with metered() as meter:
        assert list(llm.stream(user("hi"))) == ["one two"]
        assert llm.generate([user("hi")])[0].texts == ("one two",)
    assert len(server.asked) == 1
    assert (meter.usage.calls, meter.usage.saved_calls) == (0, 2)


def test_pieces_come_while_the_model_writes():
    heard_first = threading.Event()

    class Waits:
        def complete(self, request, first, n, listen):
            listen("a")
            assert heard_first.wait(10), "the first piece came only with the last"
            listen("b")
            return Completions((Completion("ab"),), 1, 2)

        def close(self):
            pass

    stream = LLM("scripted:slow", backend=Waits()).stream(user("hi"))
    assert next(stream) == "a"
    heard_first.set()
    assert list(stream) == ["b"]


def test_who_stops_listening_is_charged_for_what_was_heard_and_nothing_is_recorded(tmp_path):
    generated: list[str] = []

    class Endless:
        def complete(self, request, first, n, listen):
            while True:
                generated.append("word ")
                listen("word ")
                time.sleep(0.001)

        def close(self):
            pass

    llm = LLM("scripted:endless", backend=Endless(), cassette=tmp_path / "x")
    with metered() as meter:
        stream = llm.stream(user("hi"))
        for _ in range(3):
            next(stream)
        stream.close()
    n = len(generated)
    assert meter.usage.calls == 1
    assert 3 <= meter.usage.completion_tokens <= n
    time.sleep(0.05)
    assert len(generated) == n, "the model was stopped"
    llm.close()
    assert not (tmp_path / "x.jsonl").exists()


def test_failures_are_errors():
    llm = dataclasses.replace(LLM.scripted(_stop), retries=1, first_wait_s=0.01)
    with pytest.raises(LLMError, match="must answer to the end; it did not: http 500"):
        list(llm.stream(user("hi")))


def test_a_used_up_budget_is_an_error():
    llm = LLM("scripted:", replies=("a",), max_calls=1)
    assert list(llm.stream(user("hi"))) == ["a"]
    with pytest.raises(BudgetError, match="raise max_usd, max_calls or max_tokens"):
        list(llm.stream(user("hi")))


def test_before_the_first_piece_a_stream_is_retried(ask):
    error = Answer(500, {"error": {"message": "no"}})
    llm, server = ask(lambda body, n: error if n == 0 else chat("a b"))
    assert list(llm.stream(user("hi"))) == ["a", " b"]
    assert len(server.asked) == 2


def test_a_stream_that_breaks_after_text_is_not_begun_again(ask):
    delta = {"id": "x", "choices": [{"index": 0, "delta": {"content": "half"}}]}
    broken = f"data: {json.dumps(delta)}\n\ndata: {{nonsense\n\n".encode()
    llm, server = ask(lambda body, n: Answer(body=broken))
    heard: list[str] = []
    with metered() as meter, pytest.raises(LLMError, match="nonsense answer"):
        heard.extend(llm.stream(user("hi")))
    assert heard == ["half"]
    assert meter.usage.completion_tokens == 1, "what was heard is charged"
    assert len(server.asked) == 1


def test_a_stream_that_ends_without_a_word_is_broken_and_not_recorded(ask, tmp_path):
    delta = {"id": "x", "choices": [{"index": 0, "delta": {"content": "half"}}]}
    body = f"data: {json.dumps(delta)}\n\n".encode()
    llm, _ = ask(lambda _, n: Answer(body=body), cassette=tmp_path / "x")
    with pytest.raises(LLMError, match="stream broken off"):
        list(llm.stream(user("hi")))
    llm.close()
    assert not (tmp_path / "x.jsonl").exists()


def test_an_error_event_inside_a_stream_is_a_failure(ask):
    body = b'data: {"error": {"message": "overloaded"}}\n\n'
    llm, _ = ask(lambda _, n: Answer(body=body), retries=0)
    with pytest.raises(LLMError, match="error in the stream: overloaded"):
        list(llm.stream(user("hi")))
