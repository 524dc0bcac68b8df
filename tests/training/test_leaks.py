"""The leak guard: a test query, or one all but equal, is never taught."""

from __future__ import annotations

import pytest

from limbeck.errors import UsageError
from limbeck.training.leaks import LeakGuard
from limbeck.types import Query

APART = {
    "test": [
        Query("t1", "Obesity decreases life quality."),
        Query("t2", "Crossover hot spots are not found within gene promoters in yeast."),
        Query("t3", "to be or not to be"),
    ],
    "dev": [Query("v1", "Statins lower the risk of stroke")],
}
GUARD = LeakGuard(APART)


@pytest.mark.parametrize(
    ("text", "split", "like"),
    [
        ("obesity DECREASES the life's quality", "test", "t1"),
        ("Crossover hot spots are found within gene promoters in yeast.", "test", "t2"),
        ("risk of stroke: statins lower it", "dev", "v1"),
        ("To be or not to be", "test", "t3"),
        ("How does obesity decrease life quality?", "test", "t1"),
        ("Question: do statins lower the risk of stroke, please?", "dev", "v1"),
    ],
)
def test_the_same_words_leak_in_any_order_and_form(text, split, like):
    leak = GUARD.leak(Query("x", text))
    assert leak is not None
    assert (leak.split, leak.like.query_id) == (split, like)
    assert leak.similarity == 1.0
    assert f"is 1.00 like '{like}' of {split}" in str(leak)


def test_the_same_claim_with_one_other_word_leaks():
    """So are many of scifact's training claims: what answers both is one document."""
    leak = GUARD.leak(Query("x", "Crossover hot spots are found within gene bodies in yeast."))
    assert leak is not None
    assert leak.similarity == pytest.approx(7 / 9)


@pytest.mark.parametrize(
    "text",
    [
        "Crossover hot spots are found",
        "The authors say that crossover hot spots are not found within gene promoters in yeast, "
        "but in mammals they lie elsewhere, as far as anybody knows",
    ],
)
def test_a_part_of_a_claim_and_what_holds_it_whole_leak(text):
    """Both were taught: the share of all their terms is small."""
    leak = GUARD.leak(Query("x", text))
    assert leak is not None
    assert (leak.like.query_id, leak.similarity) == ("t2", 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "Obesity increases the risk of diabetes",
        "Statins lower the risk of a heart attack",
        "spots",
        "",
        "entirely other matters",
    ],
)
def test_what_is_about_something_else_does_not(text):
    assert GUARD.leak(Query("x", text)) is None


def test_how_alike_is_too_alike_is_a_parameter():
    query = Query("x", "Statins lower the risk of a heart attack")
    assert LeakGuard(APART, at_least=0.4).leak(query).like.query_id == "v1"
    assert [leak.query for leak in LeakGuard(APART, at_least=0.4).leaks([query])] == [query]
    for at_least in (0.0, 1.5):
        with pytest.raises(UsageError, match=r"must lie in \(0, 1\]"):
            LeakGuard(APART, at_least=at_least)


def test_the_most_alike_one_is_named():
    guard = LeakGuard(
        {"test": [Query("a", "red blue"), Query("b", "red blue green")]}, at_least=0.5
    )
    assert guard.leak(Query("x", "green red blue")).like.query_id == "b"
    assert len(guard) == 2
