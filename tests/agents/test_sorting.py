"""Sorting by questions, beside Python's own sort, and how many questions it takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.agents.rounds import driven, together
from limbeck.agents.sorting import (
    bubble_sorted,
    champion,
    heap_sorted,
    most_bubble_picks,
    most_heap_picks,
    remembered,
)
from limbeck.llm.model import Generation
from limbeck.types import Message


class Knows:
    """A pick that asks once and knows the worth of each item; equal ones: the first is picked."""

    def __init__(self, worths: list[int]) -> None:
        self.worths = worths
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, items):
        assert list(items) == sorted(set(items)), "in first-stage order"
        assert len(items) > 1
        self.asked.append(tuple(items))
        yield [(Message("user", str(items)),)]
        return max(items, key=lambda item: (self.worths[item], -item))


def _driven(steps):
    rounds = []

    def ask(prompts):
        rounds.append(len(prompts))
        return [Generation(("x",)) for _ in prompts]

    return driven(steps, ask), rounds


lists = st.lists(st.integers(0, 9), max_size=30)


@settings(deadline=None)
@given(lists, st.integers(1, 35), st.integers(2, 6), st.booleans())
def test_the_best_are_in_order_and_the_bounds_hold(worths, best, size, heap):
    n, pick = len(worths), Knows(worths)
    right = sorted(range(n), key=lambda item: -worths[item])  # equal ones as they came
    if heap:
        steps, most = heap_sorted(n, best, size - 1, pick), most_heap_picks(n, best, size - 1)
    else:
        steps, most = bubble_sorted(n, best, size, pick), most_bubble_picks(n, best, size)
    order, _ = _driven(steps)
    assert order[:best] == right[:best]
    assert sorted(order) == list(range(n))
    assert len(pick.asked) <= most
    assert not heap or order[best:] == sorted(order[best:])


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_a_sorted_list_takes_the_most_bubble_picks_and_stays(size):
    pick = Knows(list(range(20, 0, -1)))
    order, _ = _driven(bubble_sorted(20, 6, size, pick))
    assert order == list(range(20))
    assert len(pick.asked) == most_bubble_picks(20, 6, size)


def test_the_most_heap_picks_by_hand():
    # seven items in a binary heap: nodes 1 and 2 sink one level, the root two
    assert most_heap_picks(7, 1, 2) == 4
    # the best two: the second is found by one more way down a heap of six
    assert most_heap_picks(7, 2, 2) == 6
    assert most_heap_picks(1, 5, 2) == most_heap_picks(0, 5, 2) == 0


def test_a_pass_that_changes_nothing_asks_nothing_again():
    pick = Knows(list(range(30, 0, -1)))
    order, _ = _driven(bubble_sorted(30, 10, 2, remembered(pick)))
    assert order == list(range(30))
    assert len(pick.asked) == 29


def test_parts_of_a_heap_are_built_in_one_round():
    worths = list(range(100))  # upside down: every node sinks to the bottom
    _, rounds = _driven(heap_sorted(100, 1, 2, Knows(worths)))
    assert rounds[0] >= 18  # of the parents of leaves, all on a level
    assert len(rounds) <= 1 + 2 + 3 + 4 + 5 + 6


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8))
def test_a_champion_beats_all_by_pairs(worths):
    pair = Knows(worths)
    (best,), _ = _driven(together([champion(pair)(range(len(worths)))]))
    assert best == worths.index(max(worths))
    assert len(pair.asked) == len(worths) - 1
