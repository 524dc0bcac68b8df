from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from limbeck.errors import LLMError, UsageError
from limbeck.llm.model import LLM
from limbeck.meter import metered
from limbeck.types import Message
from tests.llm.conftest import user


class Recording(GenericFakeChatModel):
    """A fake that keeps what it was given."""

    given: list[Any]

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.given.append((messages, stop, kwargs))
        return super()._generate(messages, stop=stop, run_manager=run_manager)


def _recording(*messages: AIMessage) -> Recording:
    return Recording(messages=iter(messages), given=[])


def test_any_chat_model_answers():
    llm = LLM.from_langchain(FakeListChatModel(responses=["a", "b", "c"]))
    llm = dataclasses.replace(llm, concurrency=1)
    assert llm.generate([user("x")], n=3)[0].texts == ("a", "b", "c")


def test_messages_parameters_and_usage():
    answer = AIMessage(
        "hello",
        usage_metadata={"input_tokens": 11, "output_tokens": 5, "total_tokens": 16},
        response_metadata={"finish_reason": "length"},
    )
    model = _recording(answer)
    prompt = [Message("system", "be short"), Message("user", "hi")]
    with metered() as meter:
        (generation,) = LLM.from_langchain(model).generate(
            [prompt], temperature=0, top_p=0.5, max_tokens=9, stop=("x",)
        )
    ((messages, stop, kwargs),) = model.given
    assert [(m.type, m.content) for m in messages] == [("system", "be short"), ("human", "hi")]
    assert stop == ["x"]
    assert kwargs == {"temperature": 0.0, "top_p": 0.5, "max_tokens": 9}
    assert generation.samples[0].finish == "length"
    assert (meter.usage.prompt_tokens, meter.usage.completion_tokens) == (11, 5)
    assert not generation.samples[0].estimated


def test_sampling_may_be_the_models_own():
    model = _recording(AIMessage("hello"))
    llm = LLM.from_langchain(model, sampling=False)
    (generation,) = llm.generate([user("hi")], temperature=0.5)
    assert model.given[0][2] == {}
    assert generation.samples[0].estimated


def test_content_blocks_are_text():
    model = _recording(AIMessage([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]))
    assert LLM.from_langchain(model).generate([user("hi")])[0].texts == ("ab",)


def test_streams_deltas():
    llm = LLM.from_langchain(GenericFakeChatModel(messages=iter([AIMessage("one two three")])))
    pieces = list(llm.stream(user("hi")))
    assert len(pieces) > 1
    assert "".join(pieces) == "one two three"


def test_streamed_usage_is_summed():
    class Streams(FakeListChatModel):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs) -> Iterator:
            for text, n in (("a", 0), ("b", 3)):
                usage = {"input_tokens": n, "output_tokens": n, "total_tokens": 2 * n}
                yield ChatGenerationChunk(message=AIMessageChunk(text, usage_metadata=usage))

    llm = LLM.from_langchain(Streams(responses=["unused"]))
    with metered() as meter:
        assert list(llm.stream(user("hi"))) == ["a", "b"]
    assert (meter.usage.prompt_tokens, meter.usage.completion_tokens) == (3, 3)


class _StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__("provider says no to sk-planted-0123456789")
        self.status_code = status_code


class _APITimeoutError(Exception):
    pass


def _failing(*errors: Exception) -> tuple[LLM, list[int]]:
    left, calls = list(errors), []

    class Fails(FakeListChatModel):
        def _call(self, *args, **kwargs):
            calls.append(1)
            if left:
                raise left.pop(0)
            return "fine"

    llm = LLM.from_langchain(Fails(responses=["x"]))
    return dataclasses.replace(llm, first_wait_s=0.01, retries=2), calls


@pytest.mark.parametrize(
    "error", [_StatusError(429), _StatusError(503), _APITimeoutError(), ConnectionError("reset")]
)
def test_what_may_pass_is_retried(error):
    llm, calls = _failing(error, error)
    assert llm.generate([user("hi")])[0].texts == ("fine",)
    assert len(calls) == 3


def test_after_the_last_try_it_is_a_failure():
    assert _failing(*[_StatusError(503)] * 9)[0].generate([user("hi")])[0].failure == "http 503"
    assert _failing(*[_APITimeoutError()] * 9)[0].generate([user("hi")])[0].failure == "timeout"


@pytest.mark.parametrize("error", [_StatusError(401), TypeError("unexpected keyword 'top_p'")])
def test_what_never_passes_ends_at_once_with_the_mend(error):
    llm, calls = _failing(error)
    with pytest.raises(LLMError, match=r"must take the call.*sampling=False") as caught:
        llm.generate([user("hi")])
    assert len(calls) == 1
    assert "planted" not in str(caught.value)


def test_a_refusal_costs_its_own_prompt_alone_once_another_was_answered():
    """A provider's 400 for one prompt ended the batch."""
    llm, _ = _failing(_StatusError(413))
    assert llm.generate([user("long")])[0].failure == "prompt too long"
    llm, _ = _failing(_StatusError(400))
    with pytest.raises(LLMError, match="http 400"):
        llm.generate([user("bad")])
    answers = iter(["fine", _StatusError(400)])

    class Refuses(FakeListChatModel):
        def _call(self, *args, **kwargs):
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    llm = LLM.from_langchain(Refuses(responses=["x"]))
    assert llm.generate([user("good")])[0].failure is None
    assert llm.generate([user("bad")])[0].failure == "http 400"


def test_a_model_that_hangs_is_left_in_time():
    slow = FakeListChatModel(responses=["x"], sleep=0.5)
    llm = dataclasses.replace(LLM.from_langchain(slow), timeout_s=0.05, retries=0)
    assert llm.generate([user("hi")])[0].failure == "timeout"


def test_name_fingerprint_and_cassette(tmp_path):
    class Named(FakeListChatModel):
        model_name: str = "m-1"

    llm = LLM.from_langchain(Named(responses=["a"]))
    assert llm.model == "langchain:Named/m-1"
    other = LLM.from_langchain(Named(responses=["a"], model_name="m-2"))
    assert llm.fingerprint != other.fingerprint
    taped = dataclasses.replace(llm, cassette=tmp_path / "x")
    taped.generate([user("hi")])
    taped.close()
    replay = LLM("langchain:Named/m-1", cassette=tmp_path / "x", cassette_mode="strict")
    assert replay.generate([user("hi")])[0].texts == ("a",)


def test_a_seed_is_refused_unless_the_model_is_said_to_take_it():
    model = _recording(AIMessage("a"), AIMessage("b"))
    llm = LLM.from_langchain(model)
    with pytest.raises(UsageError, match="must support seed"):
        llm.generate([user("hi")], seed=1)
    dataclasses.replace(llm, supports=("seed",)).generate([user("hi")], seed=1)
    assert model.given[0][2]["seed"] == 1
