"""How sure a difference is: bootstrap intervals, a paired randomisation test, Holm's correction.

Everything is seeded, and vectorised over numpy alone. The same seed draws the same samples of
queries for every pipeline: an interval does not depend on what else was evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "N_FLIPS",
    "N_RESAMPLES",
    "bootstrap_intervals",
    "detectable_difference",
    "holm",
    "paired_p",
]

N_RESAMPLES = 10_000
N_FLIPS = 20_000

_CHUNK_CELLS = 1 << 20
_FEWEST_FOR_NORMAL = 20


def bootstrap_intervals(
    values: NDArray[np.float64],
    *,
    level: float = 0.95,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> NDArray[np.float64]:
    """Return the percentile bootstrap interval of each column's mean, shape (n_columns, 2).

    Args:
        values: one row a query, shape (n_queries, n_columns); all columns are resampled together.
        level: share of the resampled means that the interval holds.
        seed: of the samples.
        n_resamples: samples of queries, each as many as there are queries, with replacement.

    Paper: Efron (1979), "Bootstrap methods: another look at the jackknife"; percentile interval.
    """
    n_queries = len(values)
    rng = np.random.default_rng(seed)
    means = [
        _counts(rng.integers(n_queries, size=(n_rows, n_queries))) @ values / n_queries
        for n_rows in _chunks(n_resamples, n_queries)
    ]
    tail = (1.0 - level) / 2.0
    interval: NDArray[np.float64] = np.quantile(np.concatenate(means), [tail, 1.0 - tail], axis=0).T
    return interval


def _counts(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how often each sample, a row, drew each query: shape (n_samples, n_queries)."""
    n_samples, n_queries = drawn.shape
    flat = (drawn + np.arange(n_samples)[:, None] * n_queries).ravel()
    counts = np.bincount(flat, minlength=n_samples * n_queries)
    return counts.reshape(n_samples, n_queries).astype(np.float64)


def paired_p(differences: NDArray[np.float64], *, seed: int = 0, n_flips: int = N_FLIPS) -> float:
    """Return the two-sided p-value of the mean of paired differences, by random sign flips.

    Where all sign patterns are no more than `n_flips`, each is tried once and the p-value is exact.
    Else it is (r + 1) / (n_flips + 1), r being how many random patterns reach the observed mean.

    Args:
        differences: one a query, shape (n_queries,).
        seed: of the patterns.
        n_flips: random patterns of signs.

    Paper: Smucker, Allan, Carterette (CIKM 2007), "A comparison of statistical significance tests
    for information retrieval evaluation", section 3.5. The + 1, which keeps the test valid, is of
    Phipson and Smyth (2010). Queries without a difference are left out: flips do not change them.
    """
    moved = differences[differences != 0.0]
    total = moved.sum()
    # A pattern that gives the same sum in exact arithmetic must count, whatever the rounding.
    limit = abs(total) - 1e-12 * np.abs(moved).sum()
    n = len(moved)
    if n < 63 and 2**n <= n_flips:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
        return float(np.mean(np.abs(total - 2.0 * (patterns @ moved)) >= limit))
    rng = np.random.default_rng(seed)
    reached = 0
    for n_rows in _chunks(n_flips, n):
        flipped = rng.integers(0, 2, size=(n_rows, n), dtype=np.int8).astype(np.float64) @ moved
        reached += int(np.count_nonzero(np.abs(total - 2.0 * flipped) >= limit))
    return (reached + 1) / (n_flips + 1)


def _chunks(n_rows: int, n_columns: int) -> Iterator[int]:
    """Yield row counts that sum to `n_rows`, each small enough for memory."""
    step = max(1, _CHUNK_CELLS // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield min(step, n_rows - start)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number, in their order.

    Paper: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in corrected]


def detectable_difference(
    differences: NDArray[np.float64], *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Return the smallest true difference that the paired test would find with this power.

    It is (z(1 - alpha/2) + z(power)) * s / sqrt(n), with s the standard deviation of the observed
    differences: a normal approximation, for one comparison without correction. None below 20
    queries, where the approximation is too small, and where the differences do not vary: then they
    tell nothing of how they would.
    """
    n = len(differences)
    if n < _FEWEST_FOR_NORMAL or np.ptp(differences) == 0.0:
        return None
    normal = NormalDist()
    quantiles = normal.inv_cdf(1.0 - alpha / 2.0) + normal.inv_cdf(power)
    return float(quantiles * np.std(differences, ddof=1) / np.sqrt(n))
