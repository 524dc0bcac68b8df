"""Prompts that are written once, in the words of each task."""

from __future__ import annotations

import pytest

from limbeck.errors import UsageError
from limbeck.prompts.tasks import load_for_task

TASKS = ("web", "dbpedia", "scifact", "trec-covid", "arguana", "fiqa", "trec-news", "climate-fever")
PLACES = {
    "pointwise-yes-no": {"query", "passage"},
    "pointwise-graded": {"query", "passage"},
    "pointwise-query-likelihood": {"passage"},
    "pairwise": {"query", "first", "second"},
    "setwise": {"query", "passages"},
    "listwise": {"query", "passages", "n"},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", PLACES)
def test_every_prompt_is_whole_in_every_task(method, task):
    template = load_for_task(method, task)
    assert template.fields == PLACES[method]
    text = template.render(**dict.fromkeys(template.fields, "VALUE"))[-1].content
    assert "{" not in text
    assert "VALUE" in text
    assert not text.startswith("\n")


def test_a_prompt_reads_as_a_person_would_write_it():
    user = load_for_task("pointwise-yes-no", "scifact").user
    assert user == (
        "The claim: {query}\n"
        "The passage of a scientific paper: {passage}\n"
        "Does the passage of a scientific paper support or refute the claim? "
        "Answer with one word, yes or no."
    )


def test_steps_end_with_a_score_and_the_plain_form_asks_for_a_digit():
    assert "##final score:" in load_for_task("pointwise-graded", "web", form="steps").user
    assert load_for_task("pointwise-graded", "web").user.endswith("Answer with one digit.")


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(UsageError, match=r"task of setwise must be one of web.*; got 'x'"):
        load_for_task("setwise", "x")
