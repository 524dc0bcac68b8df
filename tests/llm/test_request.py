from __future__ import annotations

import dataclasses

import pytest

from limbeck.llm.request import Call, Reply, Request, Sample, encodable
from limbeck.types import Message
from tests.llm.layers import request

_BASE = request(temperature=1.0, top_p=1.0, stop=("\n",), seed=1)


def test_explicit_temperature_zero_is_not_unset():
    zero, unset = request(temperature=0.0), request()
    assert zero.plain()["temperature"] == 0.0
    assert "temperature" not in unset.plain()
    assert zero.key != unset.key


@pytest.mark.parametrize(
    "change",
    [
        {"model": "openai:other"},
        {"revision": "2026-01-01"},
        {"messages": (Message("system", "hello"),)},
        {"messages": (Message("user", "hello "),)},
        {"max_tokens": 11},
        {"temperature": 0.0},
        {"temperature": None},
        {"top_p": 0.9},
        {"stop": ("\n\n",)},
        {"seed": 0},
        {"top_logprobs": 0},
        {"schema": '{"type":"object"}'},
        {"extra": '{"min_p":0.1}'},
    ],
)
def test_key_changes_with_whatever_may_change_the_text(change):
    assert dataclasses.replace(_BASE, **change).key != _BASE.key


def test_key_is_blind_to_the_form_of_json_parameters():
    one = request(extra='{"a": 1, "b": 2}')
    assert one.key == request(extra='{"b":2,"a":1}').key


def test_plain_is_readable_and_holds_only_what_is_set():
    plain = Request("openai:m", (Message("user", "hi"),), 5, temperature=0.0).plain()
    assert plain == {
        "model": "openai:m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "temperature": 0.0,
    }


def test_call_and_reply():
    call = Call(request(), (0, 1, 2))
    assert call.only([2]).indices == (2,)
    one = Reply({0: Sample("a")}, "timeout", 1, 2)
    both = one.joined(Reply({1: Sample("b")}, None, 10, 20))
    assert list(both.samples) == [0, 1]
    assert (both.failure, both.prompt_tokens, both.completion_tokens) == ("timeout", 11, 22)
    assert both.missing(call.indices) == (2,)


def test_lone_surrogates_are_replaced_one_for_one():
    assert encodable("a\ud800b🙂") == "a?b🙂"
