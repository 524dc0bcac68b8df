"""Plots: what is drawn where, from the numbers."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.eval.charts import (
    _spread,
    _ticks,
    amount,
    difference_bars,
    interval_plot,
    tradeoff_plot,
)
from limbeck.eval.experiment import Experiment
from tests.eval.fakes import Upside, Words, dataset


@pytest.fixture(scope="module")
def result(mini_corpus):
    pipelines = {"words": Words(), "upside": Words() >> Upside(), "double": Words(weight=2.0)}
    return Experiment(pipelines, [dataset(mini_corpus)]).run().datasets[0]


def test_dots_lie_where_the_numbers_say(result) -> None:
    plot = interval_plot(result, "nDCG@10")
    assert [mark.name for mark in plot.marks] == ["words", "upside", "double"]
    assert [mark.role for mark in plot.marks] == [
        "first",
        "same",
        "same",
    ]  # 4 queries decide nothing
    per_unit = (plot.x_ticks[-1].at - plot.x_ticks[0].at) / (
        float(plot.x_ticks[-1].text) - float(plot.x_ticks[0].text)
    )
    words, upside, double = plot.marks
    scores = {p.name: p.scores["nDCG@10"] for p in result.pipelines}
    moved = scores["upside"].mean - scores["words"].mean
    assert upside.x - words.x == pytest.approx(moved * per_unit, abs=0.1)
    assert double.x == words.x
    width = (scores["words"].high - scores["words"].low) * per_unit
    assert words.high - words.low == pytest.approx(width, abs=0.1)
    assert (
        plot.left <= min(m.low for m in plot.marks) <= max(m.high for m in plot.marks) <= plot.right
    )


def test_time_is_drawn_on_a_logarithmic_axis(result) -> None:
    plot = tradeoff_plot(result, "nDCG@10")
    powers = [float(tick.text) for tick in plot.x_ticks]
    assert [b / a for a, b in itertools.pairwise(powers)] == pytest.approx(
        [10.0] * (len(powers) - 1)
    )
    for mark, pipeline in zip(plot.marks, result.pipelines, strict=True):
        share = (mark.x - plot.left) / (plot.right - plot.left)
        decades = np.log10(powers[-1] / powers[0])
        assert share * decades == pytest.approx(
            np.log10(pipeline.ms_per_query / powers[0]), abs=0.02
        )
        assert plot.top <= mark.y <= plot.bottom


def test_a_bar_stands_for_each_query_that_differs(result) -> None:
    first, upside, double = result.pipelines
    bars = difference_bars(upside, first, "nDCG@10", 1.0)
    versus = upside.versus["nDCG@10"]
    assert bars.wins.count("z") == versus.wins
    assert bars.losses.count("z") == versus.losses > 0
    reaches = [float(y) for y in re.findall(r"V([\d.]+)h", bars.losses)]
    d = upside.per_query.of("nDCG@10") - first.per_query.of("nDCG@10")
    assert max(reaches) - bars.zero == pytest.approx(-d.min() * bars.zero, abs=0.06)
    same = difference_bars(double, first, "nDCG@10", 1.0)
    assert same.wins == same.losses == ""


@given(st.floats(0, 1), st.floats(0, 1))
def test_ticks_are_few_round_and_span_the_numbers(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = _ticks(low, high)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low + 1e-6
    assert ticks[-1] >= high - 1e-6
    assert len({round(b - a, 9) for a, b in itertools.pairwise(ticks)}) == 1


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_labels_keep_their_order_and_their_distance(heights: list[float]) -> None:
    spread = sorted(_spread(heights))
    assert all(b - a >= 15.99 for a, b in itertools.pairwise(spread))
    assert all(moved >= height for moved, height in zip(_spread(heights), heights, strict=True))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1675, "1\u202f675"), (0.0551, "0.0551"), (2.0, "2.00"), (1234.5, "1\u202f234")],
)
def test_amounts(value: float, text: str) -> None:
    assert amount(value) == text
