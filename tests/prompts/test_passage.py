"""What chat models say around a passage, and what must stay."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.prompts.passage import clean_passage

PASSAGE = "Statins lower cholesterol. They block an enzyme of the liver."


@pytest.mark.parametrize(
    "answer",
    [
        PASSAGE,
        f"  {PASSAGE}\n",
        f'"{PASSAGE}"',
        f"“{PASSAGE}”",
        f"Passage: {PASSAGE}",
        f"**Passage:** {PASSAGE}",
        f"### Passage:\n{PASSAGE}",
        f"Certainly! Here is a passage that answers the question:\n\n{PASSAGE}",
        f"Sure, here's a passage:\n{PASSAGE}",
        f"Here is a correct answering passage for the question:  ---  {PASSAGE}",
        f"Certainly! Here is a **correct answering passage** for the question:\n\n---\n\n{PASSAGE}",
        f"Of course! {PASSAGE}",
        f"**Question:** What do statins do?  **Correct Answering Passage:**  {PASSAGE}",
        f"Question: What do statins do?\nAnswer: {PASSAGE}",
        f"Claim: Statins lower cholesterol.\n{PASSAGE}",
        f"```\n{PASSAGE}\n```",
        f"```text\n{PASSAGE}",
        f"<think>They want a passage: I write one.</think>{PASSAGE}",
        f"They want a passage.\nPassage: what do I write?\n</think>\n\n{PASSAGE}",
        f"{PASSAGE}\n\nLet me know if you need anything else!",
        f"{PASSAGE}\nI hope this helps.",
        f'""**  ---  {PASSAGE}',
        f"Certainly! Here is the passage:\n```\n{PASSAGE}\n```",
    ],
)
def test_only_the_passage_stays(answer):
    assert clean_passage(answer) == PASSAGE


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 42: no more, no less.",
        "Here in the north, winters are long.",
        "Surely not every certain thing is certain.",
        "Okayama is a city in Japan.",
        "1. First step\n2. Second step",
        "A passage in a wall may be narrow.",
        "Questions of taste: a history",
    ],
)
def test_a_plain_text_stays_as_it_is(text):
    assert clean_passage(text) == text


@pytest.mark.parametrize(
    "nothing",
    ["", "  \n", '"', "**", "---", "Certainly!", "Passage:", "<think>and so on", "```\n```"],
)
def test_an_answer_that_says_nothing_is_empty(nothing):
    assert clean_passage(nothing) == ""


@given(st.text())
def test_cleaning_twice_is_cleaning_once_and_never_fails(text):
    once = clean_passage(text)
    assert clean_passage(once) == once


@pytest.mark.parametrize(
    "text",
    ["Water" + "\n" * 20_000 + "wets", "Water" + " " * 20_000 + "wets", '"' * 5_000 + "Water"],
    ids=["line ends", "spaces", "quotes"],
)
def test_a_model_that_repeats_itself_is_read_in_no_time(text):
    """What each took when a run was looked through from each of its marks: 100, 48 and 190 s."""
    started = time.perf_counter()
    assert clean_passage(text) == text
    assert time.perf_counter() - started < 5.0


@pytest.mark.collections
def test_no_preamble_of_real_answers_is_left(shared):
    for name in ("lamer.gpt-4.1", "lamer.qwen2.5-7b"):
        path = shared / "data" / "generations" / "scifact" / f"{name}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines()
        texts = [text for line in lines for text in json.loads(line)["text"]]
        raw = sum(text.lstrip().startswith("Certainly") for text in texts)
        cleaned = [clean_passage(text) for text in texts]
        assert raw > len(texts) // 5
        assert not [text for text in cleaned if "ertainly!" in text[:60]]
