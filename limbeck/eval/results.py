"""The numbers of an evaluation: scores, their intervals, and each pipeline against the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import PerQuery, evaluate
from limbeck.eval.outcome import Outcome
from limbeck.eval.significance import bootstrap_intervals, detectable_difference, holm, paired_p

__all__ = ["DatasetResult", "PipelineResult", "Report", "Score", "Versus", "compare", "judge"]

_EQUAL = 1e-12
"""Two scores of a query that differ by less are rounding apart: a tie."""


@dataclass(frozen=True, slots=True)
class Score:
    """The mean of a measure over the queries, and the bootstrap interval of that mean."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Versus:
    """A pipeline against the first one, on one measure, query by query.

    Attributes:
        difference: this pipeline's mean less the first one's.
        p: two-sided p-value of the paired randomisation test.
        p_holm: the same, corrected for the number of pipelines that are compared.
        wins: queries on which this pipeline is better; `losses`: worse; `ties`: equal.
        detectable: the smallest difference that the test finds with power .8, or None.
    """

    difference: float
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int
    detectable: float | None


@dataclass(frozen=True, eq=False)
class PipelineResult:
    """A pipeline on a dataset: what it did, what it scored, how it compares.

    Attributes:
        scores: by measure.
        versus: by measure; empty for the first pipeline, and where the first one failed.
    """

    name: str
    outcome: Outcome
    per_query: PerQuery
    scores: Mapping[str, Score]
    versus: Mapping[str, Versus]

    @property
    def ms_per_query(self) -> float:
        """Milliseconds of all steps for one query, in a batch of all."""
        return 1000.0 * self.outcome.seconds / max(1, len(self.per_query.query_ids))


@dataclass(frozen=True, eq=False)
class DatasetResult:
    """All pipelines on one dataset.

    Attributes:
        baseline: the name of the first pipeline, against which the others are compared.
        failed: the error of each pipeline that did not finish, by its name.
    """

    dataset: Dataset
    baseline: str
    pipelines: tuple[PipelineResult, ...]
    failed: Mapping[str, str]

    def best(self, measure: str) -> float:
        """Return the highest mean that a pipeline reached, 0 if none finished."""
        return max((pipeline.scores[measure].mean for pipeline in self.pipelines), default=0.0)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader must know: notes on the data, degradations, what was not run anew."""
        degraded = (
            f"{pipeline.name}: {message} ({times} times)"
            for pipeline in self.pipelines
            for message, times in pipeline.outcome.notes.items()
        )
        reused = ", ".join(p.name for p in self.pipelines if p.outcome.reused)
        said = (f"taken from an earlier evaluation into this folder: {reused}",) if reused else ()
        return (*self.dataset.notes, *degraded, *said)


@dataclass(frozen=True, eq=False)
class Report:
    """An evaluation, ready to be written; `limbeck.eval.report` does that.

    Attributes:
        settings: what the numbers depend on beside pipelines and data.
    """

    datasets: tuple[DatasetResult, ...]
    measures: tuple[str, ...]
    settings: Mapping[str, object]

    @property
    def failures(self) -> tuple[str, ...]:
        """One line for each pipeline that did not finish; the command line exits with 1 if any."""
        return tuple(
            f"{result.dataset.name}, pipeline {name}: {error}"
            for result in self.datasets
            for name, error in result.failed.items()
        )


def judge(
    name: str, outcome: Outcome, dataset: Dataset, *, measures: Sequence[str], seed: int
) -> PipelineResult:
    """Return an outcome with its scores and intervals, not yet compared."""
    per_query = evaluate(outcome.run, dataset.qrels, measures)
    intervals = bootstrap_intervals(per_query.values, seed=seed).tolist()
    scores = {
        measure: Score(mean, low, high)
        for (measure, mean), (low, high) in zip(per_query.means().items(), intervals, strict=True)
    }
    return PipelineResult(name, outcome, per_query, scores, {})


def compare(results: Sequence[PipelineResult], baseline: str, *, seed: int) -> list[PipelineResult]:
    """Return the results, each but the baseline compared with it; as they are without it."""
    first = next((result for result in results if result.name == baseline), None)
    if first is None:
        return list(results)
    others = [result for result in results if result is not first]
    versus: dict[str, dict[str, Versus]] = {other.name: {} for other in others}
    for measure in first.per_query.measures:
        base = first.per_query.of(measure)
        differences = [_differences(other.per_query.of(measure), base) for other in others]
        p_values = [paired_p(d, seed=seed) for d in differences]
        corrected = holm(p_values)
        for other, d, p, p_holm in zip(others, differences, p_values, corrected, strict=True):
            versus[other.name][measure] = _versus(d, p, p_holm)
    return [replace(result, versus=versus.get(result.name, {})) for result in results]


def _differences(values: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    differences = values - base
    return np.where(np.abs(differences) < _EQUAL, 0.0, differences)


def _versus(differences: NDArray[np.float64], p: float, p_holm: float) -> Versus:
    return Versus(
        difference=float(differences.mean()),
        p=p,
        p_holm=p_holm,
        wins=int(np.count_nonzero(differences > 0)),
        ties=int(np.count_nonzero(differences == 0)),
        losses=int(np.count_nonzero(differences < 0)),
        detectable=detectable_difference(differences),
    )
