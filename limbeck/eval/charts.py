"""The geometry of the report's plots, in pixels; the template draws them as SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.eval.results import DatasetResult, PipelineResult

__all__ = [
    "ALPHA",
    "Bars",
    "Histogram",
    "Histograms",
    "Mark",
    "Plot",
    "Tick",
    "amount",
    "difference_bars",
    "histograms",
    "interval_plot",
    "tradeoff_plot",
]

ALPHA = 0.05
"""A corrected p-value below this is drawn as a difference."""

_WIDTH = 760
_ROW = 34
_CHARACTER = 7.2
_LABEL_GAP = 16.0
_N_BINS = 60


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, with its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A pipeline in a plot.

    Attributes:
        low: x of the interval's lower end; `high` of its upper end.
        label_y: y of the text, moved where it would lie on another.
        role: "first", "differs" or "same": its standing against the first pipeline.
    """

    name: str
    x: float
    y: float
    low: float
    high: float
    label_y: float
    text: str
    role: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Marks between axes; the plotting area spans left to right and top to bottom."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    """Differences of all queries to the first pipeline, sorted, as two SVG paths about `zero`."""

    width: float
    height: float
    zero: float
    wins: str
    losses: str
    limit: float


def interval_plot(result: DatasetResult, measure: str) -> Plot:
    """Return a row a pipeline: its mean as a dot, the bootstrap interval as a line."""
    scores = [pipeline.scores[measure] for pipeline in result.pipelines]
    left = _label_width(result.pipelines)
    right = _WIDTH - 70.0
    low, high = min(score.low for score in scores), max(score.high for score in scores)
    steps = _ticks(low, high)
    scale = _Linear(min(low, steps[0]), max(high, steps[-1]), left, right)
    marks = tuple(
        Mark(
            name=pipeline.name,
            x=scale(score.mean),
            y=_ROW * (row + 0.5),
            low=scale(score.low),
            high=scale(score.high),
            label_y=_ROW * (row + 0.5),
            text=f"{score.mean:.4f}",
            role=_role(pipeline, measure, result.baseline),
        )
        for row, (pipeline, score) in enumerate(zip(result.pipelines, scores, strict=True))
    )
    bottom = float(_ROW * len(marks))
    ticks = tuple(Tick(scale(step), _number(step)) for step in steps)
    return Plot(_WIDTH, bottom + 26, left, right, 0.0, bottom, ticks, (), marks)


def tradeoff_plot(result: DatasetResult, measure: str) -> Plot:
    """Return a dot a pipeline: milliseconds a query, on a logarithmic axis, against the measure."""
    pipelines = result.pipelines
    times = [math.log10(max(pipeline.ms_per_query, 1e-3)) for pipeline in pipelines]
    means = [pipeline.scores[measure].mean for pipeline in pipelines]
    left, top, bottom = 52.0, 14.0, 286.0
    right = _WIDTH - _label_width(pipelines)
    decades = range(math.floor(min(times)), math.ceil(max(times) + 1e-9) + 1)
    # Room above and below: pipelines that score alike are drawn alike.
    steps = _ticks(min(means) - 0.01, max(means) + 0.01)
    x = _Linear(decades[0], decades[-1], left, right)
    y = _Linear(min(*means, steps[0]), max(*means, steps[-1]), bottom - 10, top + 10)
    heights = [y(mean) for mean in means]
    labels = _spread(heights)
    marks = tuple(
        Mark(
            name=pipeline.name,
            x=x(time),
            y=height,
            low=x(time),
            high=x(time),
            label_y=label,
            text=f"{pipeline.name}: {mean:.4f} at {amount(pipeline.ms_per_query)} ms a query",
            role=_role(pipeline, measure, result.baseline),
        )
        for pipeline, time, mean, height, label in zip(
            pipelines, times, means, heights, labels, strict=True
        )
    )
    x_ticks = tuple(Tick(x(decade), f"{10.0**decade:g}") for decade in decades)
    y_ticks = tuple(Tick(y(step), _number(step)) for step in steps)
    return Plot(_WIDTH, bottom + 46, left, right, top, bottom, x_ticks, y_ticks, marks)


def difference_bars(
    result: PipelineResult, first: PipelineResult, measure: str, limit: float
) -> Bars:
    """Return the sorted differences of a pipeline to the first one, a bar a query.

    Args:
        result: the pipeline.
        first: the one that it is compared with.
        measure: what is compared.
        limit: the difference that a bar of full height stands for, the same for all pipelines.
    """
    width, height = 340.0, 120.0
    differences = np.sort(result.per_query.of(measure) - first.per_query.of(measure))[::-1]
    step = width / len(differences)
    zero = height / 2
    paths: dict[bool, list[str]] = {True: [], False: []}
    for position, difference in enumerate(differences.tolist()):
        if difference:
            reach = zero - zero * difference / limit
            x, w = position * step, max(step * 0.86, 0.6)
            paths[difference > 0].append(f"M{x:.1f} {zero:g}V{reach:.1f}h{w:.2f}V{zero:g}z")
    return Bars(width, height, zero, "".join(paths[True]), "".join(paths[False]), limit)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values of one group are spread, as an SVG path on a base line.

    Attributes:
        y: of the base line.
        mean: x of their mean.
        text: how many they are, and the mean.
    """

    name: str
    y: float
    path: str
    mean: float
    text: str


@dataclass(frozen=True, slots=True)
class Histograms:
    """Groups below each other, over one axis."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    rows: tuple[Histogram, ...]


def histograms(groups: Mapping[str, NDArray[np.floating]]) -> Histograms:
    """Return a histogram for each group, one below the other; the highest bin of each fills it.

    Args:
        groups: values by name, one at least in each.
    """
    left, right, reach = 190.0, _WIDTH - 10.0, 74.0
    low = float(min(values.min() for values in groups.values()))
    high = float(max(values.max() for values in groups.values()))
    steps = _ticks(low, high)
    scale = _Linear(steps[0], steps[-1], left, right)
    edges = np.linspace(steps[0], steps[-1], _N_BINS + 1)
    rows: list[Histogram] = []
    for number, (name, values) in enumerate(groups.items(), start=1):
        y = number * (reach + 18.0)
        counts = np.histogram(values, edges)[0]
        bins = [
            f"M{scale(a):g} {y:g}V{y - reach * n / counts.max():.1f}H{scale(b) - 1:g}V{y:g}z"
            for a, b, n in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
            if n
        ]
        mean = float(values.mean())
        text = f"{amount(len(values))}, mean {mean:.3g}"
        rows.append(Histogram(name, y, "".join(bins), scale(mean), text))
    bottom = rows[-1].y
    ticks = tuple(Tick(scale(step), _number(step)) for step in steps)
    return Histograms(_WIDTH, bottom + 26, left, right, bottom, ticks, tuple(rows))


def _role(pipeline: PipelineResult, measure: str, baseline: str) -> str:
    if pipeline.name == baseline:
        return "first"
    versus = pipeline.versus.get(measure)
    return "differs" if versus is not None and versus.p_holm < ALPHA else "same"


def _label_width(pipelines: Sequence[PipelineResult]) -> float:
    return 24.0 + _CHARACTER * min(28, max(len(pipeline.name) for pipeline in pipelines))


@dataclass(frozen=True, slots=True)
class _Linear:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def _ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Return about so many round numbers, from `low` or below to `high` or above."""
    span = max(high - low, 1e-3)
    raw = span / wanted
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def amount(value: float) -> str:
    """Return a count in full, a measurement with three digits at least; thousands in groups."""
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:#.3g}"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"


def _spread(heights: Sequence[float]) -> list[float]:
    """Return the heights pushed apart, from the top down, so that texts do not overlap."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    spread = list(heights)
    for upper, lower in itertools.pairwise(order):
        spread[lower] = max(spread[lower], spread[upper] + _LABEL_GAP)
    return spread
