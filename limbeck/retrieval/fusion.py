"""Fusion of rankings: reciprocal ranks, and normalised scores in linear combination."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, Problem, UsageError
from limbeck.pipeline import Fusion, Given, Node, require_one_corpus
from limbeck.types import UNIT_KINDS, Run

__all__ = ["Fuse"]

Method = Literal["rrf", "linear"]
Normalise = Literal["minmax", "zscore", "none"]

Credit = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Of one list: the credit of each hit, shape (n_hits,), and that of a missing one, (n_queries,)."""

_RRF_CONSTANT = 60.0


@dataclass(frozen=True)
class Fuse(Fusion):
    """One ranking from the rankings of several branches, documents told apart by their id.

    rrf adds weight / (constant + rank), rank from 1. linear adds weight x normalised score; a
    document that a list does not hold takes that list's minimum. A list of weight 0 is left out.

    Attributes:
        of: the branches.
        method: "rrf" or "linear".
        weights: one a branch, in their order; equal where none are given (linear: they sum to 1).
        normalise: how linear brings each list to one scale, for each query: "minmax" to [0, 1],
            "zscore" to mean 0 and standard deviation 1, "none" as it is. It must be said unless
            all branches have scores in [0, 1] already.
        constant: the constant of rrf; 60 where none is given.
        depth: hits taken from each list.
        k: hits returned.

    Paper: Cormack, Clarke, Büttcher, SIGIR 2009 (rrf, constant 60). Where all scores of a list are
    equal, min-max gives 1 and a missing document 0, z-score gives 0: our choice.
    """

    name: ClassVar[str] = "fuse"

    _: KW_ONLY
    method: Method = "rrf"
    weights: tuple[float, ...] | None = None
    normalise: Normalise | None = None
    constant: float | None = None
    depth: int = 1000
    k: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in {"rrf", "linear"}:
            raise UsageError(f"method must be rrf or linear; got {self.method!r}")
        if self.normalise not in {None, "minmax", "zscore", "none"}:
            raise UsageError(f"normalise must be minmax, zscore or none; got {self.normalise!r}")
        if self.method == "rrf" and self.normalise is not None:
            raise UsageError(
                f"normalise belongs to method linear; got {self.normalise!r} with rrf, which reads "
                "ranks alone; take it out, or say method: linear"
            )
        if self.method == "linear" and self.constant is not None:
            raise UsageError(
                f"constant belongs to method rrf; got {self.constant} with linear; take it out"
            )
        if min(self.k, self.depth) < 1 or not (self.constant or 0.0) >= 0.0:
            raise UsageError(
                f"k and depth must be 1 or more and constant 0 or more; got k {self.k}, "
                f"depth {self.depth}, constant {self.constant}"
            )
        self._check_weights()

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        sound = all(math.isfinite(weight) and weight >= 0 for weight in self.weights)
        if len(self.weights) != len(self.of) or not sound or not any(self.weights):
            raise UsageError(
                f"weights must be {len(self.of)} numbers of 0 or more, one a branch and not all 0; "
                f"got {list(self.weights)}"
            )

    @property
    def kind(self) -> str:
        """rrf; normalised where min-max scores have weights that sum to 1; else linear."""
        if self.method == "rrf":
            return "rrf"
        convex = math.isclose(sum(self._weights()), 1.0)
        return "normalised" if convex and self.normalise == "minmax" else "linear"

    def _weights(self) -> tuple[float, ...]:
        if self.weights is not None:
            return self.weights
        share = 1.0 if self.method == "rrf" else 1.0 / len(self.of)
        return (share,) * len(self.of)

    def examine_ends(self, ends: Sequence[Given], place: str, problems: list[Problem]) -> None:
        """Refuse a linear combination of scores that have no common scale."""
        kinds = [end.kind for end in ends if end.kind is not None]
        if self._is_unscaled(kinds):
            problems.append(
                Problem(
                    place,
                    f"linear fusion adds scores that have no common scale ({', '.join(kinds)})",
                    "say normalise: minmax or zscore (or none, to add them as they are)",
                )
            )

    def _is_unscaled(self, kinds: Sequence[str]) -> bool:
        linear = self.method == "linear" and self.normalise is None
        return linear and not UNIT_KINDS.issuperset(kinds)

    def top(self, k: int) -> Node:
        """Return this fusion asked for no more than k hits."""
        return dataclasses.replace(self, k=min(k, self.k))

    def fuse(self, runs: Sequence[Run]) -> Run:
        """Return the fused run.

        Raises:
            DataError: the runs have other queries or corpora, or scores with no common scale.
        """
        require_one_corpus(runs)
        kinds = [run.kind for run in runs]
        if self._is_unscaled(kinds):
            raise DataError(
                f"linear fusion must be told how to normalise {', '.join(kinds)} scores; "
                "say normalise='minmax', 'zscore' or 'none'"
            )
        weighted = [
            (run.top(self.depth), weight)
            for run, weight in zip(runs, self._weights(), strict=True)
            if weight
        ]
        credit = (
            self._reciprocal if self.method == "rrf" else _NORMALISERS[self.normalise or "none"]
        )
        return _summed([(run, weight, *credit(run)) for run, weight in weighted], self.kind).top(
            self.k
        )

    def _reciprocal(self, run: Run) -> Credit:
        constant = _RRF_CONSTANT if self.constant is None else self.constant
        lengths = np.diff(run.bounds)
        rank = np.arange(1, len(run.rows) + 1) - np.repeat(run.bounds[:-1], lengths)
        credit: NDArray[np.float64] = 1.0 / (constant + rank.astype(np.float64))
        return credit, np.zeros(len(run))


def _as_they_are(run: Run) -> Credit:
    lowest, _ = _extremes(run)
    return run.scores.astype(np.float64), lowest


def _min_max(run: Run) -> Credit:
    lowest, highest = _extremes(run)
    scores = run.scores.astype(np.float64)
    spread = highest - lowest
    flat = spread == 0.0
    lengths = np.diff(run.bounds)
    step = np.where(flat, 1.0, spread)
    scaled = (scores - np.repeat(lowest, lengths)) / np.repeat(step, lengths)
    return np.where(np.repeat(flat, lengths), 1.0, scaled), np.zeros(len(run))


def _z_score(run: Run) -> Credit:
    lengths = np.diff(run.bounds)
    n_hits = np.maximum(lengths, 1)
    scores = run.scores.astype(np.float64)
    mean = _sums(scores, run) / n_hits
    centred = scores - np.repeat(mean, lengths)
    deviation = np.sqrt(_sums(centred**2, run) / n_hits)
    deviation[deviation == 0.0] = 1.0
    lowest, _ = _extremes(run)
    missing = np.where(lengths > 0, (lowest - mean) / deviation, 0.0)
    return centred / np.repeat(deviation, lengths), missing


_NORMALISERS: dict[str, Callable[[Run], Credit]] = {
    "none": _as_they_are,
    "minmax": _min_max,
    "zscore": _z_score,
}


def _extremes(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest score of each query, 0 where it has no hit."""
    lowest = np.zeros(len(run))
    highest = np.zeros(len(run))
    some = np.diff(run.bounds) > 0
    highest[some] = run.scores[run.bounds[:-1][some]]
    lowest[some] = run.scores[run.bounds[1:][some] - 1]
    return lowest, highest


def _sums(values: NDArray[np.float64], run: Run) -> NDArray[np.float64]:
    """Return the sum of each query's values, of which those of other queries change no bit."""
    totals = np.zeros(len(run))
    some = np.diff(run.bounds) > 0
    totals[some] = np.add.reduceat(values, run.bounds[:-1][some]) if some.any() else 0.0
    return totals


def _summed(
    lists: Sequence[tuple[Run, float, NDArray[np.float64], NDArray[np.float64]]], kind: str
) -> Run:
    """Return the run of the summed credits; a list that misses a document adds its missing credit.

    The credits of a document are added in order of their size, so that the order of the lists
    cannot change a bit of the sum.
    """
    first = lists[0][0]
    n_docs = len(first.corpus)
    keys, credits_, bases = [], [], []
    for run, weight, credit, missing in lists:
        lengths = np.diff(run.bounds)
        segment = np.repeat(np.arange(len(run), dtype=np.int64), lengths)
        keys.append(segment * n_docs + run.rows)
        credits_.append(weight * (credit - np.repeat(missing, lengths)))
        bases.append(weight * missing)
    key, credit = np.concatenate(keys), np.concatenate(credits_)
    order = np.lexsort((credit, key))
    key, credit = key[order], credit[order]
    base = np.sort(np.stack(bases), axis=0).sum(axis=0)
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    totals = np.add.reduceat(credit, starts) if len(starts) else credit
    segment, rows = np.divmod(key[starts], n_docs)
    bounds = np.searchsorted(segment, np.arange(len(first) + 1))
    return Run.ranked(
        first.query_ids,
        bounds,
        rows.astype(np.int32),
        (totals + base[segment]).astype(np.float32),
        kind=kind,
        corpus=first.corpus,
    )
