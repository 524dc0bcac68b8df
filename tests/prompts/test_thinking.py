"""What reasoning models think aloud."""

from __future__ import annotations

import pytest

from limbeck.prompts.thinking import without_thinking


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        "<think>no?</think>yes",
        "<THINK>no?\n</THINK>yes",
        "no?</think>yes",
        "<thinking>no?</thinking>yes",
        "<reasoning>A <b>no</b>?</reasoning>yes",
        "<thought>no</thought>yes",
        "<thoughts>no</thoughts>yes",
        "<scratchpad>no</scratchpad>yes",
        "no\n</reasoning>yes",
        "<thinking>is a </think> of theirs?</thinking>yes",
        "<think>no</think>y<think>no</think>es",
        "[THINK]no[/THINK]yes",
        "<|channel|>analysis<|message|>no?<|end|><|start|>assistant<|channel|>final<|message|>yes",
        "<|channel|>analysis<|message|>no<|channel|>final<|message|>yes<|return|>",
        "<|start|>assistant<|channel|>final <|constrain|>json<|message|>yes",
        "analysisThe passage has no... so yes.assistantfinalyes",
    ],
)
def test_only_the_answer_stays(answer):
    """Before, <think> alone was known: a label in other thoughts was read as the answer."""
    assert without_thinking(answer) == "yes"


@pytest.mark.parametrize(
    "answer",
    [
        "<think>yes",
        "<reasoning>yes, or",
        "[THINK]yes",
        "<|channel|>analysis<|message|>yes",
        "<|channel|>commentary<|message|>yes<|end|>",
    ],
)
def test_thoughts_that_are_cut_off_are_no_answer(answer):
    assert without_thinking(answer) == ""


@pytest.mark.parametrize("answer", ["analysis of variance", "a < b and <b>c</b>", "thinking: yes"])
def test_what_is_no_thought_stays(answer):
    assert without_thinking(answer) == answer
