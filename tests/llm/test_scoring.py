"""Scoring a text that is given: what is sent, what is read, what is kept."""

from __future__ import annotations

import dataclasses

import pytest

from limbeck.errors import UsageError
from limbeck.llm.backend import Completion
from limbeck.llm.model import LLM
from limbeck.llm.request import Token
from limbeck.meter import metered
from limbeck.types import Message
from tests.llm.server import Answer, chat

PROMPT = [Message("user", "Write a question."), Message("assistant", "what is it")]


def _told(*tokens: tuple[str, float], **more: object) -> Answer:
    """Return vLLM's answer: the first token has no log-probability, each other one a rival."""
    entries = [
        {"7": {"logprob": p, "rank": 3, "decoded_token": t}, "8": {"logprob": -0.1, "rank": 1}}
        for t, p in tokens
    ]
    return chat("x", prompt_logprobs=[None, *entries], **more)


def _scored(ask, answer: Answer, prompt=PROMPT, **fields):
    llm, server = ask(lambda body, number: answer, model="vllm:m", retries=0, **fields)
    (generation,) = llm.score([prompt])
    return generation, server


def test_the_last_message_is_left_open_and_its_tokens_come_back(ask):
    answer = _told(("<|im_start|>", -9.0), ("\n", -8.0), ("what", -1.0), (" is", -2.0), (" it", -3))
    generation, server = _scored(ask, answer, extra='{"priority": 1}')
    assert generation.texts == ("what is it",)
    assert generation.logprobs == ((Token("what", -1.0), Token(" is", -2.0), Token(" it", -3.0)),)
    assert server.asked == [
        {
            "model": "m",
            "messages": [{"role": r, "content": c} for r, c in PROMPT],
            "max_tokens": 1,
            "prompt_logprobs": 1,
            "add_generation_prompt": False,
            "continue_final_message": True,
            "priority": 1,
        }
    ]


@pytest.mark.parametrize(
    ("text", "tokens", "own"),
    [
        ("what is it", ["is", "what", "is", "it"], 3),  # decoded one by one, blanks are lost
        ("aa a", ["a", "aa", " a"], 2),
        ("水は何", ["\n", "\ufffd", "\ufffd", "\ufffd", "は", "何"], 5),
        ("is 水", ["x", "is", " ", "\ufffd\ufffd", "\ufffd"], 4),
        ("né", ["\n", "n", "\ufffd", "\ufffd"], 3),
        ("a (b) [c]*", ["assistant", "a", " (b", ") [", "c]*"], 4),
    ],
)
def test_the_texts_own_tokens_are_found_from_the_end(ask, text, tokens, own):
    answer = _told(*((token, -1.0) for token in tokens))
    generation, _ = _scored(ask, answer, [PROMPT[0], Message("assistant", text)])
    assert [token.text for token in generation.logprobs[0]] == tokens[-own:]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (_told(("what", -1.0), (" was", -2.0)), "the prompt's tokens do not end with"),
        (_told(("so what is it", -1.0)), "the prompt's tokens do not end with"),
        (chat("x"), "no log-probabilities of the prompt"),
        (chat("x", prompt_logprobs=None), "no log-probabilities of the prompt"),
        (chat("x", prompt_logprobs=[None, {}]), "no log-probabilities of the prompt"),
        (chat("x", prompt_logprobs=["a"]), "no log-probabilities of the prompt"),
        (Answer(body=[1]), "no log-probabilities of the prompt"),
    ],
)
def test_an_answer_that_scores_something_else_is_a_failure_of_its_own_prompt(ask, answer, failure):
    with metered() as meter:
        generation, server = _scored(ask, answer)
    assert generation.failure.startswith(failure)
    assert generation.texts == ()
    assert len(server.asked) == 1  # another try would say the same
    assert meter.notes == {f"llm: LLM call failed ({generation.failure})": 1}


def test_scores_are_recorded_replayed_and_kept_apart_from_completions(ask, tmp_path):
    answer = _told(("what", -1.0), (" is it", -2.0))
    first, server = _scored(ask, answer, cassette=tmp_path / "t")
    again = LLM("vllm:m", cassette=tmp_path / "t", cassette_mode="strict", base_url=server.base_url)
    with metered() as meter:
        assert again.score([PROMPT]) == [first]
    assert meter.usage.saved_prompt_tokens == 7
    assert dataclasses.replace(again, cassette_mode="replay").generate([PROMPT], max_tokens=1)[
        0
    ].failure == ("not in the cassette")


def test_a_scripted_model_scores_where_it_is_said_to():
    def script(messages, sample):
        text = messages[-1].content
        return Completion(text, "stop", tuple(Token(word, -1.0) for word in text.split()))

    llm = LLM.scripted(script)
    with pytest.raises(UsageError, match="must support prompt_logprobs"):
        llm.score([PROMPT])
    llm = dataclasses.replace(llm, supports=("prompt_logprobs",))
    with metered() as meter:
        (generation,) = llm.score([PROMPT])
    assert len(generation.logprobs[0]) == 3
    assert meter.usage.prompt_tokens > 0
    assert meter.usage.completion_tokens == 0  # nothing was generated
    assert llm.score([]) == []


@pytest.mark.parametrize(
    "prompt", [[PROMPT[0]], [*PROMPT, Message("user", "x")], [Message("assistant", " ")]]
)
def test_a_prompt_to_score_ends_with_the_assistants_text(prompt):
    with pytest.raises(UsageError, match="must end with an assistant's message"):
        LLM("vllm:m").score([prompt])


@pytest.mark.parametrize("model", ["openai:m", "llamacpp:smollm2", "ollama:m"])
def test_chat_completions_score_nothing_that_is_given(model):
    with pytest.raises(UsageError, match="must support prompt_logprobs"):
        LLM(model).score([PROMPT])
