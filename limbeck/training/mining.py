"""Hard negatives from any run: what a retriever, or a whole pipeline, finds besides the positives.

Unlabelled passages that are relevant stand high in every good run. Guards leave out what scores as
high as a positive, and what a cross-encoder holds relevant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.retrieval.scorer import Scorer
from limbeck.training.examples import Examples
from limbeck.types import Query, Run

__all__ = ["Guard", "Mined", "Pick", "mined"]

Pick = Literal["top", "random", "stratified"]

_MISSING = "hard negatives: one of those asked for was not to be had"
_UNJUDGED = "hard negatives: a margin judged no hit of a query whose positive was not found"


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Which candidates are too close to a positive to be called negatives.

    A candidate is left out that scores above p - absolute, or above p - relative * |p|, where p is
    the score of the query's best positive: the margin is right for negative scores too. The scores
    are those of the run, or of the scorer, such as a cross-encoder, which scores the positives too.
    Without a scorer, and where the run found no positive, there is no p, and a margin judges
    nothing: what stands before a positive that was not found may be anything.

    Papers: Qu et al., RocketQA, arXiv 2010.08191 (a cross-encoder's check); de Souza P. Moreira et
    al., NV-Retriever, arXiv 2407.15831 (margins from the positive's score).

    Attributes:
        above: candidates above this score are left out, whatever the positive has.
        scorer: scores all candidates and positives anew, whatever its depth is.
    """

    absolute: float | None = None
    relative: float | None = None
    above: float | None = None
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        for name in ("absolute", "relative"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UsageError(f"{name} of a guard must be 0 or more; got {value}")

    @property
    def goes_by_units(self) -> bool:
        """Whether it asks for more than the order and the ratios of the run's own scores."""
        return self.scorer is None and (self.absolute, self.above) != (None, None)

    def passing(self, candidates: Run, positive: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which candidates are far enough from the positives, shape (n_hits,).

        Args:
            candidates: with scores of the positives' kind.
            positive: of each query's best positive, shape (n_queries,); NaN where there is none.
        """
        scores = candidates.scores.astype(np.float64)
        nearest = np.repeat(positive, np.diff(candidates.bounds))
        close = np.zeros(len(scores), dtype=bool)
        if self.absolute is not None:
            close |= scores > nearest - self.absolute
        if self.relative is not None:
            close |= scores > nearest - self.relative * np.abs(nearest)
        if self.above is not None:
            close |= scores > self.above
        return ~close


class Mined(NamedTuple):
    """Negatives, and what was not to be had.

    Attributes:
        run: the negatives of each query.
        n_missing: negatives that were asked for besides.
        n_unjudged: queries whose candidates passed a margin because no positive has a score.
    """

    run: Run
    n_missing: int
    n_unjudged: int

    @property
    def notes(self) -> dict[str, int]:
        """What there is to say of it, and how many times."""
        told = {_MISSING: self.n_missing, _UNJUDGED: self.n_unjudged}
        return {message: times for message, times in told.items() if times}


def mined(
    run: Run,
    examples: Examples,
    *,
    n: int,
    depth: int,
    pick: Pick = "top",
    guard: Guard | None = None,
    seed: int = 0,
) -> Mined:
    """Return up to n negatives of each query out of a run.

    Args:
        run: what was found, best first.
        examples: the queries of the run, in its order; what they spare is never among the
            negatives.
        n: negatives of a query.
        depth: they are among the first so many hits, what is never among them not counted.
        pick: the best ones; any at random; or one of each of n equal parts of the range of scores
            from the best to the last candidate, the empty parts filled from the best.
        guard: what is left out besides.
        seed: of the draws, each query's own: they do not depend on the batch.

    Raises:
        UsageError: an argument is out of range.
    """
    if n < 1 or pick not in get_args(Pick):
        raise UsageError(
            f"n must be 1 or more and pick one of {', '.join(get_args(Pick))}; got {n}, {pick!r}"
        )
    candidates = run.select(~_among(run, examples.spared)).top(depth)
    n_unjudged = 0
    if guard:
        candidates, n_unjudged = _guarded(candidates, guard, run, examples)
    negatives = _drawn(candidates, n, pick, seed)
    return Mined(negatives, n * len(run) - len(negatives.rows), n_unjudged)


def _among(run: Run, rows: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Return which hits are among the rows given for their query, shape (n_hits,)."""
    among = np.zeros(len(run.rows), dtype=bool)
    for query, own in enumerate(rows):
        where = run.segment(query)
        among[where] = np.isin(run.rows[where], own)
    return among


def _guarded(
    candidates: Run,
    guard: Guard,
    run: Run,
    examples: Examples,
) -> tuple[Run, int]:
    """Return the candidates that a guard lets pass, and how many queries its margin cannot judge.

    Args:
        candidates: of the run.
        guard: which has them and the positives scored, or takes the scores of the run.
        run: all that was found.
        examples: the queries with their positives.
    """
    if guard.scorer:
        candidates = _scored(candidates, examples.queries, guard.scorer)
        known = _scored(_as_run(run, examples.positives), examples.queries, guard.scorer)
    else:
        known = run.select(_among(run, examples.positives))
    positive = _best(known)
    has_margin = guard.absolute is not None or guard.relative is not None
    is_unjudged = has_margin & np.isnan(positive) & (np.diff(candidates.bounds) > 0)
    return candidates.select(guard.passing(candidates, positive)), int(is_unjudged.sum())


def _as_run(run: Run, rows: Sequence[NDArray[np.int64]]) -> Run:
    """Return rows of each query of a run as a run, which has no scores yet."""
    bounds = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    given = np.concatenate([np.zeros(0, dtype=np.int32), *rows]).astype(np.int32)
    scores = np.zeros(len(given), dtype=np.float32)
    return Run.ranked(run.query_ids, bounds, given, scores, kind=run.kind, corpus=run.corpus)


def _scored(run: Run, queries: Sequence[Query], scorer: Scorer) -> Run:
    """Return all hits of a run in the order of a scorer, which by itself would cut it."""
    scores = scorer.scores(queries, run)
    kind = scorer.kind or run.kind
    return Run.ranked(run.query_ids, run.bounds, run.rows, scores, kind=kind, corpus=run.corpus)


def _best(run: Run) -> NDArray[np.float64]:
    """Return the score of each query's first hit, NaN where it has none, shape (n_queries,)."""
    best = np.full(len(run), np.nan)
    has_any = np.diff(run.bounds) > 0
    best[has_any] = run.scores[run.bounds[:-1][has_any]]
    return best


def _drawn(candidates: Run, n: int, pick: Pick, seed: int) -> Run:
    """Return up to n candidates of each query."""
    kept = np.zeros(len(candidates.rows), dtype=bool)
    for position, query_id in enumerate(candidates.query_ids):
        where = candidates.segment(position)
        rng = np.random.default_rng([seed, *query_id.encode()])
        kept[where.start + _picked(candidates.scores[where], n, pick, rng)] = True
    return candidates.select(kept)


def _picked(
    scores: NDArray[np.float32], n: int, pick: Pick, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the places of up to n of a query's candidates, which stand best first."""
    if len(scores) <= n or pick == "top":
        return np.arange(min(n, len(scores)))
    if pick == "random":
        return np.sort(rng.choice(len(scores), n, replace=False))
    edges = np.linspace(float(scores[0]), float(scores[-1]), n + 1)[1:-1]
    part = np.searchsorted(-edges, -scores, side="left")
    order = rng.permutation(len(scores))
    firsts = np.unique(part[order], return_index=True)[1]
    chosen = order[firsts]
    rest = np.setdiff1d(np.arange(len(scores)), chosen)[: n - len(chosen)]
    return np.sort(np.concatenate([chosen, rest]))
