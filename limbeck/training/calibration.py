"""What a teacher's scores have to become before a loss can take them.

A temperature that is too low makes every soft label a one among zeros, and distillation the same as
training on labels; one too high makes all passages equal. So it is fitted: the entropy of the soft
labels, as a share of the highest that there can be, is brought to what is asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError

__all__ = ["as_logits", "confidences", "entropies", "fitted_tau"]

_SURE = 1e-6
"""Probabilities are kept so far from 0 and 1."""

_TAUS = (1e-6, 1e6)
_HALVINGS = 60

_SAME = 1e-6
"""Of entropies: less is rounding."""

RANKS = frozenset({"rank", "wins"})
"""Score kinds whose order alone says something."""


def as_logits(
    scores: NDArray[np.floating], kind: str, where: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return scores on a scale that has no ends, as softmax wants them.

    Probabilities become logits, and orders 1 / rank; other kinds stay as they are.

    Args:
        scores: shape (n_queries, n_passages).
        kind: their score kind.
        where: which of them are there.
    """
    values = np.where(where, scores, 0.0).astype(np.float64)
    if kind == "probability":
        kept = np.clip(values, _SURE, 1 - _SURE)
        return np.log(kept / (1 - kept))
    if kind in RANKS:
        above = (values[:, None, :] > values[:, :, None]) & where[:, None, :] & where[:, :, None]
        return 1.0 / (1.0 + above.sum(axis=2))
    return values


def entropies(
    scores: NDArray[np.floating], where: NDArray[np.bool_], tau: float
) -> NDArray[np.float64]:
    """Return the entropy of softmax(scores / tau) of each query, as a share of the highest.

    Of a query with fewer than two passages it is NaN. Shapes (n_queries, n_passages).
    """
    shares = _softmax(scores, where, tau)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    n = where.sum(axis=1)
    highest = np.log(np.where(n > 1, n, np.nan))
    found: NDArray[np.float64] = -(shares * logs).sum(axis=1) / highest
    return found


def fitted_tau(scores: NDArray[np.floating], where: NDArray[np.bool_], *, entropy: float) -> float:
    """Return the temperature at which the mean entropy of the soft labels is a given share.

    Where best passages are level, as with grades, no temperature brings the entropy to 0: the share
    is that of the way from the lowest to the highest entropy.

    Args:
        scores: shape (n_queries, n_passages).
        where: which of them are there.
        entropy: the mean over queries, on that way, in (0, 1).

    Raises:
        DataError: no query has two passages with unlike scores.
    """
    low, high = _TAUS
    lowest, highest = (_mean_entropy(scores, where, tau) for tau in _TAUS)
    if not lowest < highest - _SAME:
        raise DataError(
            "a teacher must tell the passages of a query apart to teach; all have one score; look "
            "at the labels"
        )
    wanted = lowest + entropy * (highest - lowest)
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        is_low = _mean_entropy(scores, where, middle) < wanted
        low, high = (middle, high) if is_low else (low, middle)
    return float(np.sqrt(low * high))


def _mean_entropy(scores: NDArray[np.floating], where: NDArray[np.bool_], tau: float) -> float:
    found = entropies(scores, where, tau)
    known = found[~np.isnan(found)]
    return float(known.mean()) if len(known) else float("nan")


def confidences(
    scores: NDArray[np.floating], where: NDArray[np.bool_], tau: float
) -> NDArray[np.float64]:
    """Return softmax(scores / tau) of each query's first passage, its positive."""
    shares = _softmax(scores, where, tau)
    return shares[:, 0]


def _softmax(
    scores: NDArray[np.floating], where: NDArray[np.bool_], tau: float
) -> NDArray[np.float64]:
    scaled = np.where(where, scores / tau, -np.inf)
    highest = scaled.max(axis=1, keepdims=True)
    raised = np.exp(scaled - np.where(np.isfinite(highest), highest, 0.0))
    total = raised.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = raised / np.where(total > 0, total, 1.0)
    return shares
