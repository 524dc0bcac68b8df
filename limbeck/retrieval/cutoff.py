"""Score cut-offs: fewer but surer hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, Problem, UsageError
from limbeck.pipeline import Given, Reranker
from limbeck.types import UNIT_KINDS, Query, Run

__all__ = ["Cutoff"]

_NEVER_NEGATIVE = UNIT_KINDS | {"bm25", "rrf"}
"""Score kinds with a true zero, so that a share of the best score means something.

By the formula "robertson", bm25 falls below it where more than half of all documents hold a term.
"""


@dataclass(frozen=True)
class Cutoff(Reranker):
    """The first hits of each query, as long as they pass every rule; scores stay as they are.

    Attributes:
        least: a hit must have this score. Which score is good depends on the score kind and on the
            model. A query may end without hits, which is an answer too.
        kind: the score kind that `least` was chosen for; a run of another one is refused.
        share: a hit must have this share of the query's best score, in (0, 1]. For score kinds
            without negative scores only, but for bm25, which the formula "robertson" lets fall
            below 0: a hit may lie as far below a negative best score, in proportion to its size, as
            it may below a positive one. The best hit stays.
        drop: the ranking ends where the score falls most between two neighbours, if that fall is
            this share or more of the way from the best hit to the last one, in (0, 1]. It fits
            every score kind; the last hit is part of the measure, so put a `top` before it.
        keep: so many hits of each query stay whatever the rules say; `drop` looks behind them.
    """

    name: ClassVar[str] = "cutoff"

    least: float | None = field(default=None, kw_only=True)
    kind: str | None = field(default=None, kw_only=True)  # the run's own, as the family has it
    share: float | None = field(default=None, kw_only=True)
    drop: float | None = field(default=None, kw_only=True)
    keep: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.least is None and self.share is None and self.drop is None:
            raise UsageError("cutoff must have a rule; got none; give least, share or drop")
        for name, value in (("share", self.share), ("drop", self.drop)):
            if value is not None and not 0.0 < value <= 1.0:
                raise UsageError(f"{name} of cutoff must lie in (0, 1]; got {value}")
        if self.least is not None and not np.isfinite(self.least):
            raise UsageError(f"least of cutoff must be a finite number; got {self.least}")
        if self.least is None and self.kind is not None:
            raise UsageError(
                f"kind belongs to least; got kind {self.kind!r} without it; leave it out"
            )
        if self.keep < 0:
            raise UsageError(f"keep of cutoff must be 0 or more; got {self.keep}")

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine also whether the rules fit the run's score kind."""
        if given.kind is not None:
            problems.extend(Problem(place, *found) for found in self._misfits(given.kind))
        super().examine(given, place, problems)
        return given

    def _misfits(self, kind: str) -> list[tuple[str, str]]:
        """Return what does not fit a score kind, each with its mend."""
        found = []
        if self.kind not in {None, kind}:
            message = f"least {self.least:g} was chosen for {self.kind} scores; the run has {kind}"
            found.append((message, "choose it anew, and say so in `kind`"))
        if self.share is not None and kind not in _NEVER_NEGATIVE:
            message = f"share needs scores that are never negative; {kind} scores may be"
            found.append((message, "use drop, or least"))
        return found

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:  # noqa: ARG002 - the family's form
        """Return the hits that stay.

        Raises:
            DataError: a rule does not fit the run's score kind.
        """
        for message, mend in self._misfits(run.kind):
            raise DataError(f"cutoff: {message}; {mend}")
        n_kept = [self._n_kept(run.scores[run.segment(i)]) for i in range(len(run))]
        lengths = np.diff(run.bounds)
        rank = np.arange(len(run.rows)) - np.repeat(run.bounds[:-1], lengths)
        return run.select(rank < np.repeat(np.array(n_kept, dtype=np.int64), lengths))

    def _n_kept(self, scores: NDArray[np.float32]) -> int:
        """Return how many of a query's hits stay; scores fall from the first."""
        exact = scores.astype(np.float64)
        n_kept = len(exact)
        if not n_kept:
            return 0
        if self.least is not None:
            n_kept = min(n_kept, int(np.count_nonzero(scores >= np.float32(self.least))))
        if self.share is not None:
            least = _share_of(exact[0], self.share)
            n_kept = min(n_kept, max(1, int(np.count_nonzero(exact >= least))))
        if self.drop is not None:
            n_kept = min(n_kept, _before_drop(exact, self.drop, max(self.keep, 1)))
        return max(n_kept, self.keep)


def _share_of(best: float, share: float) -> float:
    """Return the score that is below the best one by 1 - share of its size."""
    return min(share * best, (2.0 - share) * best)


def _before_drop(scores: NDArray[np.float64], drop: float, keep: int) -> int:
    """Return how many hits stand before the largest fall behind the first `keep` of them.

    All where that fall is less than the share `drop` of the way from the first score to the last.
    """
    falls = -np.diff(scores)[keep - 1 :]
    way = scores[0] - scores[-1]
    if not len(falls) or not way or falls.max() < drop * way:
        return len(scores)
    return keep + int(np.argmax(falls))
