"""Templates: data, filled once, never read again."""

from __future__ import annotations

import pytest

from limbeck.errors import UsageError
from limbeck.fingerprint import fingerprint
from limbeck.prompts.template import Template, load_template, task_names
from limbeck.types import Message


def test_places_are_filled_once():
    template = Template(user="Q: {query} P: {passages}")
    (message,) = template.render(query="{passages} {x} {{", passages="{query}")
    assert message == Message("user", "Q: {passages} {x} {{ P: {query}")


def test_a_system_message_comes_first_and_only_where_there_is_one():
    assert [m.role for m in Template(user="u", system="s").render()] == ["system", "user"]
    assert [m.role for m in Template(user="u").render()] == ["user"]


def test_a_place_that_nothing_fills_is_refused():
    with pytest.raises(UsageError, match=r"\{passages\}"):
        Template(user="{query} {passages}").render(query="x")


def test_a_template_must_have_the_places_of_its_node():
    own = Template(user="{query} {colour}")
    with pytest.raises(UsageError, match=r"must have the places \{passages\}, \{query\}"):
        own.require(frozenset({"query", "passages"}), frozenset(), where="lamer")
    with pytest.raises(UsageError, match=r"it has \{colour\}, \{query\}"):
        own.require(frozenset({"query"}), frozenset(), where="hyde")
    own.require(frozenset({"query"}), frozenset({"colour"}), where="hyde")


@pytest.mark.parametrize("method", ["hyde", "lamer", "mugi", "query2doc"])
def test_every_template_fills(method):
    for task in task_names(method):
        template = load_template(method, task)
        values = dict.fromkeys(template.fields, "VALUE")
        assert "query" in template.fields
        for alone in {False, bool(template.alone)}:
            text = template.render(alone=alone, **values)[-1].content
            assert "VALUE" in text
            assert "{" not in text
            assert not text.startswith("\n")


def test_the_papers_tasks_are_there():
    hyde = {"web", "dbpedia", "scifact", "arguana", "trec-covid", "fiqa", "trec-news"}
    languages = {"swahili", "korean", "japanese", "bengali"}
    assert hyde | languages | {"climate-fever"} == set(task_names("hyde"))
    assert hyde == set(task_names("lamer"))


def test_lamer_says_that_most_candidates_are_wrong():
    for task in task_names("lamer"):
        assert "wrong" in load_template("lamer", task).user
        assert "wrong" not in load_template("lamer", task).alone


def test_an_unknown_task_names_the_known_ones():
    with pytest.raises(UsageError, match=r"scifact.*got 'sci'"):
        load_template("hyde", "sci")


def test_a_changed_word_is_another_fingerprint():
    template = load_template("hyde", "web")
    other = Template(user=template.user.replace("Write", "Please write"))
    assert fingerprint(template) != fingerprint(other)
