"""The openai back-end against a real HTTP server with scripted faults."""

from __future__ import annotations

import email.utils
import json
import logging
import socket
import time
import traceback
from contextlib import closing

import pytest

from limbeck.errors import LLMError, UsageError
from limbeck.llm.model import LLM
from limbeck.llm.refusals import retry_after_s
from limbeck.meter import metered
from tests.llm.conftest import user
from tests.llm.server import Answer, chat

KEY = "sk-planted-0123456789"


def _error(status: int, message: str = "no", headers: dict[str, str] | None = None, **more):
    return Answer(status, {"error": {"message": message, **more}}, headers or {})


def test_the_request_holds_what_was_asked_and_nothing_else(ask):
    llm, server = ask(lambda body, n: chat("a", "b"))
    llm.generate(
        [user("hi")],
        n=2,
        temperature=0,
        max_tokens=9,
        top_p=0.5,
        stop=("\n",),
        seed=4,
        top_logprobs=2,
        schema={"type": "object"},
    )
    assert server.asked[0] == {
        "model": "fake",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "n": 2,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["\n"],
        "seed": 4,
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}},
        },
    }
    llm.generate([user("hi")], max_tokens=9)
    assert set(server.asked[1]) == {"model", "messages", "max_tokens"}


def test_extra_parameters_are_sent(ask):
    llm, server = ask(lambda body, n: chat("a"), extra='{"chat_template_kwargs": {"think": false}}')
    llm.generate([user("hi")])
    assert server.asked[0]["chat_template_kwargs"] == {"think": False}


def test_n_samples_are_one_request_in_the_servers_order(ask):
    def shuffled(body, n):
        answer = chat(*(f"text {i}" for i in range(body["n"])))
        answer.body["choices"].reverse()
        return answer

    llm, server = ask(shuffled)
    (generation,) = llm.generate([user("hi")], n=5)
    assert generation.texts == tuple(f"text {i}" for i in range(5))
    assert generation.failure is None
    assert len(server.asked) == 1
    assert sum(s.completion_tokens for s in generation.samples) == 10
    assert [s.prompt_tokens for s in generation.samples] == [7, 0, 0, 0, 0]


def test_a_server_without_n_is_asked_for_the_rest_with_the_right_seeds(ask):
    llm, server = ask(lambda body, n: chat(f"text {n}"))
    (generation,) = llm.generate([user("hi")], n=3, seed=10)
    assert generation.texts == ("text 0", "text 1", "text 2")
    assert [(body.get("n", 1), body["seed"]) for body in server.asked] == [
        (3, 10),
        (2, 11),
        (1, 12),
    ]


def test_ollama_is_asked_for_samples_one_by_one_and_at_once(ask):
    llm, server = ask(lambda body, n: Answer(body=chat("a b").body, delay_s=0.4), model="ollama:m")
    (generation,) = llm.generate([user("hi")], n=4, seed=0)
    assert len(generation.texts) == 4
    assert sorted(body["seed"] for body in server.asked) == [0, 1, 2, 3]
    assert all("n" not in body for body in server.asked)
    assert server.most_at_once == 4


def test_more_choices_than_asked_are_left(ask):
    llm, _ = ask(lambda body, n: chat("a", "b", "c"))
    assert llm.generate([user("hi")])[0].texts == ("a",)


def test_429_with_retry_after_is_waited_for(ask):
    wait = {"retry-after": "0.3"}
    llm, server = ask(lambda body, n: _error(429, headers=wait) if n == 0 else chat("a"))
    assert llm.generate([user("hi")])[0].texts == ("a",)
    assert server.times[1] - server.times[0] >= 0.3


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_statuses_that_may_pass_are_retried_and_then_a_failure(ask, status):
    llm, server = ask(lambda body, n: _error(status), retries=2)
    with metered() as meter:
        (generation,) = llm.generate([user("hi")], label="hyde")
    assert (generation.texts, generation.failure) == ((), f"http {status}")
    assert len(server.asked) == 3
    assert meter.notes == {f"hyde: LLM call failed (http {status})": 1}
    assert meter.usage.calls == 3


def test_a_failure_costs_its_own_prompt_alone(ask):
    def script(body, n):
        return _error(500) if "bad" in body["messages"][0]["content"] else chat("fine")

    llm, _ = ask(script, retries=1)
    generations = llm.generate([user("a"), user("bad"), user("c")])
    assert [g.texts for g in generations] == [("fine",), (), ("fine",)]
    assert [g.failure for g in generations] == [None, "http 500", None]


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (400, "shorten the prompt"),
        (401, "give a key that may use this model by"),
        (403, "key"),
        (404, "base_url"),
    ],
)
def test_statuses_that_never_pass_end_at_once_with_the_mend(ask, status, mend):
    llm, server = ask(lambda body, n: _error(status, "because"))
    with pytest.raises(LLMError, match=f"(?s)http {status}: .*because.*; .*{mend}") as error:
        llm.generate([user("hi")])
    assert len(server.asked) == 1
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "This model's maximum context length is 4096 tokens. However, you requested", 400),
        (400, "the request exceeds the available context size, try increasing it", 400),
        (400, "The decoder prompt is longer than the maximum model length of 4096.", None),
        (400, "no", "context_length_exceeded"),
        (413, "Payload Too Large", None),
    ],
)
def test_a_prompt_that_is_too_long_costs_itself_alone(ask, status, message, code):
    """One such prompt ended the batch, and with it an evaluation; here it even comes first."""

    def script(body, n):
        long = "long" in body["messages"][0]["content"]
        return _error(status, message, code=code) if long else chat("fine")

    llm, server = ask(script, concurrency=1)
    generations = llm.generate([user("long"), user("a"), user("b")])
    assert [g.failure for g in generations] == ["prompt too long", None, None]
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_costs_its_own_prompt_alone_once_another_was_answered(ask, status):
    """It ended the batch, whatever had been answered before."""

    def script(body, n):
        return _error(status) if "bad" in body["messages"][0]["content"] else chat("fine")

    llm, _ = ask(script, concurrency=1)
    with pytest.raises(LLMError, match=f"http {status}"):
        llm.generate([user("bad"), user("a")])
    generations = llm.generate([user("a"), user("bad"), user("b")])
    assert [g.failure for g in generations] == [None, f"http {status}", None]


def test_a_refused_parameter_stops_at_once_though_others_were_answered(ask):
    def script(body, n):
        return _error(400, "unknown parameter") if "seed" in body else chat("fine")

    llm, _ = ask(script)
    assert llm.generate([user("a")])[0].failure is None
    with pytest.raises(LLMError, match="mend or drop the parameter that it names"):
        llm.generate([user("a"), user("b")], seed=1)


def test_a_run_with_a_refused_prompt_ends_as_well_from_its_cassette(ask, tmp_path):
    """With all others recorded, the refused prompt is the only one that is asked again."""

    def script(body, n):
        return _error(400) if "bad" in body["messages"][0]["content"] else chat("fine")

    for _ in range(2):
        llm, server = ask(script, concurrency=1, cassette=tmp_path / "tape")
        assert [g.failure for g in llm.generate([user("a"), user("bad")])] == [None, "http 400"]
        llm.close()
    assert len(server.asked) == 1


def test_what_a_server_without_a_key_says_is_told_whole(ask):
    told = "tool_choice must be auto or none"
    llm, _ = ask(lambda body, n: Answer(400, {"error": {"message": told}}))
    with pytest.raises(LLMError, match=told):
        llm.generate([user("hi")])


def test_an_empty_account_is_not_retried(ask):
    llm, server = ask(lambda body, n: _error(429, code="insufficient_quota"))
    with pytest.raises(LLMError, match="top up the account"):
        llm.generate([user("hi")])
    assert len(server.asked) == 1


def test_a_content_filter_costs_its_own_prompt_alone(ask):
    def script(body, n):
        bad = "bad" in body["messages"][0]["content"]
        return _error(400, code="content_filter") if bad else chat("fine")

    llm, _ = ask(script)
    generations = llm.generate([user("bad"), user("good")])
    assert [g.failure for g in generations] == ["content filter", None]


def test_a_server_that_hangs_is_left_in_time(ask):
    llm, server = ask(lambda body, n: Answer(body={}, delay_s=3.0), timeout_s=0.2, retries=1)
    started = time.monotonic()
    (generation,) = llm.generate([user("hi")])
    assert generation.failure == "timeout"
    assert time.monotonic() - started < 2.0
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [200, 500])
def test_a_server_that_trickles_is_left_in_time(ask, status):
    def script(body, n):
        return Answer(status, chat("a" * 500).body, trickle_s=0.02)

    llm, _ = ask(script, timeout_s=0.3, retries=0)
    started = time.monotonic()
    assert llm.generate([user("hi")])[0].failure == "timeout"
    assert time.monotonic() - started < 2.0


@pytest.mark.parametrize(
    "body",
    [
        b"<html>busy</html>",
        b"",
        b'{"choices": [',
        b"\xff\xfe",
        {},
        [],
        None,
        {"choices": None},
        {"choices": {}},
        {"choices": [{}]},
        {"choices": [None]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": 7}}]},
        {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{}]}}]},
    ],
)
def test_nonsense_is_retried_and_then_a_failure(ask, body):
    llm, server = ask(lambda _, n: Answer(body=body), retries=1)
    failure = llm.generate([user("hi")])[0].failure
    assert failure in {"nonsense answer", "no choices in the answer"}
    assert len(server.asked) == 2


def test_no_choices(ask):
    llm, _ = ask(lambda body, n: chat() if n == 0 else chat("a"))
    assert llm.generate([user("hi")])[0].texts == ("a",)


@pytest.mark.parametrize("blank", ["", " \n\t", None])
def test_empty_content_is_asked_for_once_more_and_then_a_failure(ask, blank):
    llm, server = ask(lambda body, n: chat(blank))
    assert llm.generate([user("hi")])[0].failure == "empty answer"
    assert len(server.asked) == 2
    llm, server = ask(lambda body, n: chat(blank) if n == 0 else chat("text"))
    assert llm.generate([user("hi")])[0].texts == ("text",)


def test_content_in_parts_is_joined(ask):
    answer = chat("x")
    answer.body["choices"][0]["message"]["content"] = [{"type": "text", "text": "a"}, {"text": "b"}]
    llm, _ = ask(lambda body, n: answer)
    assert llm.generate([user("hi")])[0].texts == ("ab",)


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    llm = LLM("openai:m", base_url=f"http://127.0.0.1:{port}/v1", retries=1, first_wait_s=0.01)
    assert llm.generate([user("hi")])[0].failure == "no connection"
    llm.close()


def test_missing_usage_is_counted_and_marked(ask):
    llm, _ = ask(lambda body, n: chat("some words here", usage=False))
    with metered() as meter:
        (generation,) = llm.generate([user("hello there")])
    assert generation.samples[0].estimated
    assert meter.usage.prompt_tokens == (2 + 2) + 4 + 3
    assert meter.usage.completion_tokens == 1 + 2 + 1
    llm, _ = ask(lambda body, n: chat("some words here"))
    assert not llm.generate([user("hello there")])[0].samples[0].estimated


def test_log_probabilities(ask):
    answer = chat("yes")
    told = {"token": "yes", "logprob": -0.1, "top_logprobs": [{"token": "no", "logprob": -3}]}
    answer.body["choices"][0]["logprobs"] = {"content": [told]}
    llm, _ = ask(lambda body, n: answer)
    (generation,) = llm.generate([user("hi")], top_logprobs=1)
    assert generation.logprobs == ((("yes", -0.1, (("no", -3.0),)),),)


def test_lone_surrogates_on_both_sides(ask):
    answer = Answer(
        body=b'{"choices": [{"message": {"content": "half \\ud83d"}}],'
        b' "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    )
    llm, server = ask(lambda body, n: answer)
    assert llm.generate([user("a\ud800")])[0].texts == ("half ?",)
    assert server.asked[0]["messages"][0]["content"] == "a?"


def test_keys_are_resolved_when_the_connection_opens(ask, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    llm, server = ask(lambda body, n: chat("a"), api_key="${env:MY_KEY}")
    with pytest.raises(UsageError, match="environment variable MY_KEY; it is not set; run: export"):
        llm.generate([user("hi")])
    monkeypatch.setenv("MY_KEY", KEY)
    llm.generate([user("hi")])
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert llm.api_key == "${env:MY_KEY}"


def test_a_key_with_a_line_end_is_the_key(ask, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY + "\n")
    llm, server = ask(lambda body, n: chat("a"), api_key="${env:MY_KEY}")
    assert llm.generate([user("hi")])[0].texts == ("a",)
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["“sk-quoted”", "sk-two\nlines"])
def test_a_key_that_no_header_can_hold_is_told_with_the_mend(ask, monkeypatch, key):
    monkeypatch.setenv("SOME_KEY", key)
    llm, _ = ask(lambda body, n: chat("x"), api_key="${env:SOME_KEY}")
    with pytest.raises(UsageError, match="printable ASCII characters") as error:
        llm.generate([user("hi")])
    assert "sk-" not in str(error.value)


def test_a_base_url_that_is_none_is_told_with_the_mend():
    with pytest.raises(UsageError, match="needs a base_url such as"):
        LLM("openai:m", base_url="http://[::bad/v1").generate([user("hi")])


def test_openais_key_is_not_told_to_another_server(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    llm, server = ask(lambda body, n: chat("a"))
    llm.generate([user("hi")])
    assert KEY not in str(server.headers)


def test_families_have_keys_of_their_own(ask, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY + "-azure")
    for model, key, bound in (
        ("vllm:m", KEY, "max_tokens"),
        ("azure:m", KEY + "-azure", "max_completion_tokens"),
    ):
        llm, server = ask(lambda body, n: chat("a"), model=model)
        llm.generate([user("hi")])
        assert server.headers[0]["authorization"] == f"Bearer {key}"
        assert bound in server.asked[0]


def test_no_key_is_an_error_before_any_call(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="openai:m needs the environment variable OPENAI_API_KEY"):
        LLM("openai:m").generate([user("hi")])


def test_a_planted_key_shows_nowhere(ask, monkeypatch, tmp_path, caplog, capfd):
    """Not in errors, failures, notes, cassettes, representations, fingerprints, logs or output."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PLANTED", KEY)
    echo = f"Incorrect API key provided: {KEY}. Header: Bearer {KEY}"
    statuses = iter([500, 429, 200, 401])

    def script(body, n):
        status = next(statuses)
        return chat("fine") if status == 200 else _error(status, echo)

    llm, server = ask(script, api_key="${env:PLANTED}", cassette=tmp_path / "tape", retries=5)
    with metered() as meter:
        generations = llm.generate([user("a")])
        with pytest.raises(LLMError) as error:
            llm.generate([user("b")])
    llm.close()
    assert KEY in server.headers[0]["authorization"], "the key was in use"
    shown = "".join(traceback.format_exception(error.value))
    out, err = capfd.readouterr()
    seen = [
        repr(llm), str(llm.fingerprint), repr(generations), repr(meter), caplog.text, out, err,
        str(error.value), repr(error.value), shown, repr(llm.problems()),
        *(path.read_text() for path in tmp_path.iterdir()),
    ]  # fmt: skip
    assert "Incorrect API key provided: ***" in str(error.value)
    assert any("fine" in text for text in seen)
    for text in seen:
        assert KEY not in text


def test_retry_after_in_all_its_forms():
    assert retry_after_s({"retry-after": "2"}) == 2.0
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "2"}) == 0.25
    assert retry_after_s({"retry-after": "-5"}) == 0.0
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 25 < (retry_after_s({"retry-after": soon}) or 0) <= 30
    for nothing in ({}, {"retry-after": "soon"}, {"retry-after": ""}):
        assert retry_after_s(nothing) is None


def test_nan_is_no_wait():
    assert retry_after_s({"retry-after": "nan"}) in {None, 0.0}


def test_what_cannot_be_counted_is_estimated_and_not_lost(serve):
    """Before, a server without usage and tokenizer lost its answers, and a broken stream said that
    a tokenizer is missing.
    """

    def script(body: dict, number: int) -> Answer:
        if "messages" not in body:
            return Answer(404, {})
        if body.get("stream"):
            delta = {"index": 0, "delta": {"content": "half an"}, "finish_reason": None}
            return Answer(body=f"data: {json.dumps({'choices': [delta]})}\n\n".encode())
        return chat("an answer", usage=False)

    with closing(LLM("vllm:not/here", base_url=serve(script).base_url, retries=0)) as llm:
        (generation,) = llm.generate([user("q")])
        assert generation.texts == ("an answer",)
        assert generation.samples[0].estimated
        with pytest.raises(LLMError, match="stream broken off"):
            list(llm.stream(user("q")))
