"""The weight of a hybrid of two rankings, found on queries that are not the test's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from limbeck.errors import UsageError
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.retrieval.fusion import Fuse
from limbeck.types import Run

__all__ = ["Weighed", "weighed"]

_SHARES = tuple(n / 20 for n in sorted(range(1, 20), key=lambda n: abs(n - 10)))
_FACTORS = tuple(2.0 ** (n / 2) for n in sorted(range(-8, 9), key=abs))
"""What is tried, the most even first: of equal ones the first is taken."""


@dataclass(frozen=True)
class Weighed:
    """What was found.

    Attributes:
        fuse: the fusion with the best weights; of equal ones the most even.
        tried: the mean of the measure by the second branch's weight, rising.
    """

    fuse: Fuse
    tried: Mapping[float, float]


def weighed(
    fuse: Fuse,
    dataset: Dataset,
    *,
    measure: str = "nDCG@10",
    runs: Sequence[Run] | None = None,
) -> Weighed:
    """Find the weights of a linear fusion of two branches on a dataset's queries.

    Scores that are normalised get weights 1 - a and a, a from .05 to .95. Scores as they are get 1
    and lambda, as DPR's hybrid has it (Karpukhin et al., arXiv 2004.04906, section 5): the ratio of
    the branches' spreads within a query, times powers of the root of 2 from 1/16 to 16.

    Args:
        fuse: of two branches; its own weights do not matter.
        dataset: of a dev split, or of training queries.
        measure: what is to be highest on average.
        runs: of the branches, where they were run already.

    Raises:
        UsageError: the fusion is another one.
    """
    if fuse.method != "linear" or len(fuse.of) != 2:
        raise UsageError(
            f"weights are found for a linear fusion of 2 branches; got {fuse.method} of "
            f"{len(fuse.of)}; give Fuse([a, b], method='linear', normalise=...)"
        )
    if runs is None:
        runs = [branch.bind(dataset.corpus)(dataset.queries) for branch in fuse.of]
    tried: dict[float, float] = {}
    candidates: dict[float, Fuse] = {}
    for weights in _pairs(fuse, runs):
        candidate = candidates[weights[1]] = dataclasses.replace(fuse, weights=weights)
        run = candidate.fuse(runs).without_excluded(dataset.queries)
        tried[weights[1]] = float(evaluate(run, dataset.qrels, (measure,)).of(measure).mean())
    best = max(tried, key=tried.__getitem__)
    return Weighed(candidates[best], dict(sorted(tried.items())))


def _pairs(fuse: Fuse, runs: Sequence[Run]) -> list[tuple[float, float]]:
    if fuse.normalise in {"minmax", "zscore"}:
        return [(1.0 - share, share) for share in _SHARES]
    first, second = (_spread(run) for run in runs)
    return [(1.0, factor * first / second) for factor in _FACTORS]


def _spread(run: Run) -> float:
    """Return the mean standard deviation of a query's scores; 1 where all are equal."""
    parts = (run.scores[run.segment(query)] for query in range(len(run)))
    mean = float(np.mean([part.std() for part in parts if len(part)] or [0.0]))
    return mean or 1.0
