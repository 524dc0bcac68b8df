"""Ties and missing answers keep the order that was read, in scores too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.agents.placing import STEP, placed, ranks

numbers = st.floats(-1e6, 1e6, width=32)


@given(st.lists(numbers, max_size=200))
def test_the_order_is_a_stable_sort_and_the_scores_say_so(scores):
    order, fallen = placed(scores, [0.0] * len(scores))
    assert order == sorted(range(len(scores)), key=lambda place: -scores[place])
    assert (np.diff(fallen) < 0).all()
    largest = max([1.0, *map(abs, scores)])
    for place, score in zip(order, fallen.tolist(), strict=True):
        assert abs(score - scores[place]) <= (len(scores) + 1) * STEP * largest


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1e-30]) | st.floats(0, 1), max_size=200))
def test_probabilities_stay_probabilities(scores):
    order, fallen = placed(scores, [0.0] * len(scores), unit=True)
    assert order == sorted(range(len(scores)), key=lambda place: -scores[place])
    assert (np.diff(fallen) < 0).all()
    assert not len(scores) or 0.0 <= fallen[-1] <= fallen[0] <= 1.0


@given(st.lists(st.none() | st.integers(0, 3), max_size=60))
def test_a_hit_without_a_score_keeps_its_rank(scores):
    order, fallen = placed(scores, [0.0] * len(scores))
    assert sorted(order) == list(range(len(scores)))
    for rank, place in enumerate(order):
        assert (scores[place] is not None) or rank == place
    told = [place for place in order if scores[place] is not None]
    assert told == sorted(told, key=lambda place: -scores[place])
    assert (np.diff(fallen) < 0).all()


def test_scores_by_hand():
    order, fallen = placed([1.0, None, 3.0, 3.0, None], [9.0] * 5)
    assert order == [2, 1, 3, 0, 4]
    assert fallen.tolist() == pytest.approx([3, 3, 3, 1, 1], abs=1e-5)
    order, fallen = placed([None, 2.0], [0.0, 0.0])
    assert (order, fallen.tolist()) == ([0, 1], pytest.approx([2, 2], abs=1e-5))
    assert placed([], [])[0] == []


def test_hits_of_which_nothing_is_known_are_not_told_no():
    """They had 0 and what just exceeds it, which a threshold takes for a no."""
    assert placed([None, None], [7.0, 3.0])[1].tolist() == [7.0, 3.0]
    fallen = placed([None, None, 0.0, None], [0.5] * 4, unit=True)[1]
    assert fallen.tolist() == pytest.approx([0.5, 0.5, 0, 0], abs=1e-5)
    assert (fallen[:2] >= 0.5).all()


@given(st.lists(st.integers(0, 3), max_size=1000), st.booleans())
def test_what_has_a_grade_still_reaches_it(grades, leave_some_out):
    """Equal ones were lowered once, and of many grades of 2 only the first one was a 2 or more."""
    given = [None if leave_some_out and n % 7 == 0 else grade for n, grade in enumerate(grades)]
    order, scores = placed(given, [0.0] * len(given))
    assert (np.diff(scores) < 0).all()
    for place, score in zip(order, scores.tolist(), strict=True):
        assert given[place] is None or given[place] <= score < given[place] + 0.01


def test_likely_ones_are_lowered_and_unlikely_ones_are_not():
    fallen = placed([1.0, 1.0, 0.5, 0.5], [0.5] * 4, unit=True)[1].tolist()
    assert fallen[0] == 1.0
    assert 0.999 < fallen[1] < 1.0
    assert 0.5 < fallen[2] < 0.501
    assert fallen[3] == 0.5


def test_what_is_apart_already_is_left_as_it_is():
    assert placed([0.25, 3.0, -2.0], [0.0] * 3)[1].tolist() == [3.0, 0.25, -2.0]


def test_ranks_fall_from_the_depth():
    assert ranks([2, 0, 1], 100) == [99.0, 98.0, 100.0]
    assert ranks([], 5) == []
