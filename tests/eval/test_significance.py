"""Significance: parity with scipy, exactness, and the stated formulas by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from limbeck.eval.significance import (
    N_FLIPS,
    bootstrap_intervals,
    detectable_difference,
    holm,
    paired_p,
)

RNG = np.random.default_rng(7)
SCORES = RNG.beta(2, 1, size=(200, 3))
SHIFTED = RNG.normal(0.02, 0.1, size=150)


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    ours = bootstrap_intervals(SCORES)
    for column in range(3):
        theirs = scipy.stats.bootstrap(
            (SCORES[:, column],), np.mean, method="percentile", rng=1, n_resamples=10_000
        ).confidence_interval
        width = theirs.high - theirs.low
        assert ours[column] == pytest.approx([theirs.low, theirs.high], abs=0.05 * width)


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    """1,000 samples of 60 from a known distribution: 95 % of the intervals hold its mean 2/3."""
    samples = np.random.default_rng(3).beta(2, 1, size=(60, 1000))
    low, high = bootstrap_intervals(samples, n_resamples=2000).T
    assert np.mean((low <= 2 / 3) & (high >= 2 / 3)) == pytest.approx(0.95, abs=0.03)


def test_an_interval_does_not_depend_on_its_company_nor_on_the_chunks(monkeypatch) -> None:
    together = bootstrap_intervals(SCORES)
    assert bootstrap_intervals(SCORES[:, 1:2])[0] == pytest.approx(together[1], abs=1e-12)
    monkeypatch.setattr("limbeck.eval.significance._CHUNK_CELLS", 1000)
    assert bootstrap_intervals(SCORES) == pytest.approx(together, abs=1e-12)
    assert not np.array_equal(bootstrap_intervals(SCORES, seed=1), together)


def test_the_interval_of_one_query_is_its_score() -> None:
    assert bootstrap_intervals(np.array([[0.4, 1.0]])).tolist() == [[0.4, 0.4], [1.0, 1.0]]


def test_few_differences_are_tested_exactly() -> None:
    d = np.array([0.3, -0.1, 0.25, 0.0, 0.4, 0.05, -0.2, 0.15])
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((1, -1), repeat=len(d))]
    by_hand = np.mean(np.array(sums) >= abs(d.sum()) - 1e-12)
    assert paired_p(d) == pytest.approx(by_hand, abs=1e-15)
    theirs = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert paired_p(d) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.02])
def test_many_differences_agree_with_scipy(shift: float) -> None:
    d = SHIFTED - 0.02 + shift
    theirs = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=20_000, rng=5
    ).pvalue
    spread = 4 * np.sqrt(max(theirs * (1 - theirs), 1e-4) / N_FLIPS * 2)
    assert paired_p(d) == pytest.approx(theirs, abs=spread)
    assert paired_p(d) == pytest.approx(scipy.stats.ttest_1samp(d, 0.0).pvalue, abs=0.03)


def test_the_least_p_value_is_one_in_all_patterns() -> None:
    assert paired_p(np.full(100, 0.5)) == pytest.approx(1 / (N_FLIPS + 1), abs=1e-12)
    assert paired_p(np.zeros(50)) == 1.0
    assert paired_p(np.array([])) == 1.0


def test_queries_without_a_difference_change_nothing() -> None:
    d = SHIFTED[:40]
    assert paired_p(np.concatenate([d, np.zeros(500)])) == paired_p(d)


def test_the_test_is_symmetric_and_seeded() -> None:
    assert paired_p(SHIFTED) == paired_p(-SHIFTED) == paired_p(SHIFTED)


def test_null_p_values_are_no_smaller_than_uniform() -> None:
    """A valid test rejects a true null at .05 in no more than 5 % of cases (spread: 3 sigma)."""
    rng = np.random.default_rng(11)
    p = [paired_p(rng.normal(size=30), n_flips=500, seed=n) for n in range(400)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_holm_by_hand() -> None:
    """Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, then no smaller than before."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_value_and_bonferronis(p_values: list[float]) -> None:
    for raw, corrected in zip(p_values, holm(p_values), strict=True):
        assert raw <= corrected <= min(1.0, raw * len(p_values))


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    """Simulated at exactly that shift, the t-test at .05 finds it in 80 % of 2,000 samples."""
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(2000, 100))
    shift = np.mean([detectable_difference(row) for row in noise[:300]])
    found = scipy.stats.ttest_1samp(noise + shift, 0.0, axis=1).pvalue < 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
    assert detectable_difference(np.zeros(30)) is None  # identical systems: not 0.0000
    assert detectable_difference(np.full(30, 0.1)) is None
    assert detectable_difference(np.ones(19)) is None
