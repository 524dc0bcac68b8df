from __future__ import annotations

from limbeck.llm.blank import NotBlank
from limbeck.llm.request import Failed, Reply, Sample
from tests.llm.layers import Spoken, call


def test_text_passes():
    inner = Spoken()
    assert NotBlank(inner)(call(2)).failure is None
    assert inner.calls == [(0, 1)]


def test_blank_samples_alone_are_asked_for_once_more():
    said = iter(["a", " \n", "c", "b"])
    inner = Spoken(lambda _: next(said))
    reply = NotBlank(inner)(call(3))
    assert [reply.samples[i].text for i in range(3)] == ["a", "b", "c"]
    assert reply.failure is None
    assert inner.calls == [(0, 1, 2), (1,)]
    assert (reply.prompt_tokens, reply.completion_tokens) == (6, 16), "both calls were paid for"


def test_blank_twice_is_missing():
    inner = Spoken(lambda index: "" if index == 1 else "x")
    reply = NotBlank(inner)(call(2))
    assert list(reply.samples) == [0]
    assert reply.failure == "empty answer"
    assert inner.calls == [(0, 1), (1,)]


def test_a_failure_of_the_second_try_is_told():
    replies = iter([Reply({0: Sample("")}), Reply(failure="timeout")])
    reply = NotBlank(lambda _: next(replies))(call())
    assert (dict(reply.samples), reply.failure) == ({}, "timeout")


def test_failures_pass():
    assert NotBlank(lambda _: Reply(failure=Failed("budget").reason))(call()).failure == "budget"
