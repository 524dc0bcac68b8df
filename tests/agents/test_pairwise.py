"""Pairwise: both orders, ties, wins."""

from __future__ import annotations

import pytest

from limbeck.agents.pairwise import Pairwise
from limbeck.llm.request import Failed
from limbeck.meter import metered
from tests.agents.oracle import Heard, llm, picks, shown, shuffled, worths


def test_each_pair_is_asked_in_both_orders():
    heard = Heard(picks)
    Pairwise(llm(heard), method="all-pairs")(["what"], run=shuffled(4))
    asked = {tuple(shown_in(prompt)) for prompt in heard.prompts}
    assert len(heard.prompts) == len(asked) == 4 * 3
    assert {pair[::-1] for pair in asked} == asked


def shown_in(prompt: str) -> list[int]:
    from limbeck.types import Message

    return shown([Message("user", prompt)])


@pytest.mark.parametrize("method", ["heap", "sliding", "all-pairs"])
@pytest.mark.parametrize("answer", ["A", "B", "neither"])
def test_a_love_of_one_place_is_a_tie_and_changes_nothing(method, answer):
    run = shuffled(12)
    node = Pairwise(llm(lambda m, s: answer), method=method, best=12)
    assert worths(node(["what"], run=run)) == worths(run)


def test_wins_are_counted_one_and_a_half_for_a_tie():
    def close(messages, sample):
        """Tell passages apart that differ by two or more."""
        one, other = shown(messages)
        return "A" if one - other > -2 else "B"

    found = Pairwise(llm(close), method="all-pairs")(["what"], run=shuffled(4))
    wins = {hit.doc_id: hit.score for hit in found.hits(0)}
    # 47 beats 45 and 44 and ties with 46; 46 beats 44 and ties with 47 and 45; and so on
    wanted = {"d47": 2.5, "d46": 2.0, "d45": 1.0, "d44": 0.5}
    assert wins == pytest.approx(wanted, abs=1e-4)
    assert found.kind == "wins"


def test_an_order_that_failed_is_a_tie_that_is_counted():
    def half(messages, sample):
        one, other = shown(messages)
        if one < other:
            raise Failed("timeout")
        return "A"

    run = shuffled(5)
    with metered() as meter:
        found = Pairwise(llm(half), method="all-pairs")(["what"], run=run)
    assert worths(found) == worths(run)
    assert meter.notes["pairwise: a pair counted as equal (timeout)"] == 10


def test_heap_sort_asks_less_than_all_and_pairs_only_once():
    heard = Heard(picks)
    Pairwise(llm(heard), best=5)(["what"], run=shuffled(40))
    assert len(set(heard.prompts)) == len(heard.prompts)
    assert len(heard.prompts) < 40 * 39 / 5


def test_a_sliding_pass_over_a_sorted_list_is_the_last_that_asks():
    heard = Heard(picks)
    node = Pairwise(llm(heard), method="sliding", best=10)
    run = node(["what"], run=shuffled(15, seed=1))
    sorted_run = Pairwise(llm(picks), method="all-pairs")(["what"], run=run)
    heard.prompts.clear()
    node(["what"], run=sorted_run)
    assert len(heard.prompts) == 2 * 14


def test_ranks_fall_by_one_from_the_depth():
    found = Pairwise(llm(picks), depth=6, best=3)(["what"], run=shuffled(4))
    assert found.scores.tolist() == [6.0, 5.0, 4.0, 3.0]
    assert found.kind == "rank"
