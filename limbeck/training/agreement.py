"""How far a teacher's labels agree with people's: the share of pairs, and Cohen's kappa."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, UsageError
from limbeck.types import Qrels

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """Of the pairs of query and document that both have judged.

    Attributes:
        n: how many they are.
        share: on which both say relevant, or both say not.
        kappa: Cohen's kappa of that, which is 0 where the share is what chance gives; None where
            both say the same of all pairs.
        kappa_graded: Cohen's kappa of the grades, each disagreement weighted by its square; None
            also where labels are no grades, which are whole numbers, or yes and no beside grades.
        at: the lowest grade of people that is relevant.
        labels_at: the lowest label that is.
    """

    n: int
    share: float
    kappa: float | None
    kappa_graded: float | None
    at: float
    labels_at: float

    def __str__(self) -> str:
        """Return this in a line."""
        kappas = {"kappa": self.kappa, "kappa by grades, squared": self.kappa_graded}
        told = [f"{name} {value:.3f}" for name, value in kappas.items() if value is not None]
        said = f"of {self.n:,} pairs {self.share:.3f} agree"
        relevant = f"(relevant: grades from {self.at:g}, labels from {self.labels_at:g} on)"
        return ", ".join([said, *told]) + f" {relevant}"


def agreement(
    labels: Mapping[str, Mapping[str, float]], qrels: Qrels, *, at: int = 1, labels_at: float = 1
) -> Agreement:
    """Return how far labels agree with qrels.

    Paper: Cohen, "A Coefficient of Agreement for Nominal Scales", 1960; with weights, 1968.

    Args:
        labels: query_id to doc_id to score.
        qrels: what people say.
        at: the lowest grade of people that is relevant.
        labels_at: the lowest label that is.

    Raises:
        DataError: no pair was judged by both.
        UsageError: no label, or no grade, is relevant.
    """
    pairs = [
        (score, qrels.judgements[query_id][doc_id])
        for query_id, scores in labels.items()
        for doc_id, score in scores.items()
        if doc_id in qrels.judgements.get(query_id, {})
    ]
    if not pairs:
        raise DataError(
            "labels and qrels must have pairs of query and document in common; they have none; "
            "look whether they are of the same collection and split"
        )
    said, judged = np.array(pairs, dtype=np.float64).T
    _require_reached(judged, at, "the lowest grade that is relevant")
    _require_reached(said, labels_at, "the lowest label that is relevant")
    own, other = said >= labels_at, judged >= at
    return Agreement(
        n=len(pairs),
        share=float((own == other).mean()),
        kappa=_kappa(own.astype(np.float64), other.astype(np.float64)),
        kappa_graded=_kappa_graded(said, judged),
        at=at,
        labels_at=labels_at,
    )


def _require_reached(found: NDArray[np.float64], least: float, what: str) -> None:
    if found.max() < least:
        raise UsageError(
            f"{what} must be one that there is; got {least:g}, and the highest is {found.max():g}; "
            "lower it"
        )


def _kappa_graded(said: NDArray[np.float64], judged: NDArray[np.float64]) -> float | None:
    """Return the kappa of grades; None where labels are none."""
    is_yes_or_no = said.max() <= 1 < judged.max()
    if is_yes_or_no or (said != np.rint(said)).any():
        return None
    return _kappa(said, judged)


def _kappa(said: NDArray[np.float64], judged: NDArray[np.float64]) -> float | None:
    """Return Cohen's kappa with squared weights, which for two classes is the plain one.

    By chance any label stands beside any grade; the mean of these squares follows from moments.
    """
    by_chance = said.var() + judged.var() + (said.mean() - judged.mean()) ** 2
    return float(1.0 - ((said - judged) ** 2).mean() / by_chance) if by_chance else None
