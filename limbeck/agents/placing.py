"""From what an LLM said of hits to a ranking; ties and missing answers keep the order they had.

A run sorts equal scores by the rule for ties, which knows nothing of the first stage. So the hits
are put in order here, and their scores are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEP", "placed", "ranks"]

STEP = 2.0**-22
"""What equal scores are told apart by, as a share of the largest one: twice what float32 can tell
there."""


def placed(
    scores: Sequence[float | None], unknown: Sequence[float], *, unit: bool = False
) -> tuple[list[int], NDArray[np.float32]]:
    """Return the places of hits in their new order, and scores that fall from each to the next.

    Hits with equal scores keep their order. A hit without a score keeps its rank, and has the score
    of the hit that comes before it then; where none before it has one, what `unknown` says, or the
    score of the next one if that is more. A score that is not above the next one by a
    four-millionth of the largest (or of 1) is raised until it is: what reaches a threshold still
    does.

    Args:
        scores: of each hit, in the order in which the run ranked them; None where there is none.
        unknown: scores of as many hits of which nothing is known, falling.
        unit: scores lie in [0, 1], and so do those that are returned: the first are lowered.
    """
    order = _order(scores)
    return order, _falling(_filled([scores[place] for place in order], unknown), unit=unit)


def _order(scores: Sequence[float | None]) -> list[int]:
    told = {place: score for place, score in enumerate(scores) if score is not None}
    best_first = iter(sorted(told, key=lambda place: -told[place]))
    return [next(best_first) if place in told else place for place in range(len(scores))]


def _filled(scores: Sequence[float | None], unknown: Sequence[float]) -> list[float]:
    """Return scores without gaps: each takes the last before it, the first ones what is unknown."""
    n_first = next((n for n, score in enumerate(scores) if score is not None), len(scores))
    least = max((score for score in scores if score is not None), default=-math.inf)
    filled = [max(guess, least) for guess in unknown[:n_first]]
    for score in scores[n_first:]:
        filled.append(filled[-1] if score is None else score)
    return filled


def _falling(scores: Sequence[float], *, unit: bool) -> NDArray[np.float32]:
    exact = np.array(scores, dtype=np.float64)
    fall = np.arange(len(exact)) * STEP * max(1.0, float(np.abs(exact).max(initial=0.0)))
    above_last = fall[::-1]
    raised: NDArray[np.float64] = above_last + _highest_behind(exact - above_last)
    return (np.minimum(raised, 1.0 - fall) if unit else raised).astype(np.float32)


def _highest_behind(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the highest of each value and those behind it."""
    return np.maximum.accumulate(values[::-1])[::-1]


def ranks(order: Sequence[int], depth: int) -> list[float]:
    """Return a score for each place from an order, best first: `depth` for the first, falling by 1.

    The same rank has the same score in each query, however many hits that has.
    """
    scores = [0.0] * len(order)
    for rank, place in enumerate(order):
        scores[place] = float(depth - rank)
    return scores
