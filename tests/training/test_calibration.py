"""The temperature of soft labels, by hand and by what it has to reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import DataError
from limbeck.training.calibration import as_logits, confidences, entropies, fitted_tau

ALL = np.ones((2, 3), dtype=bool)


def test_probabilities_become_logits_and_orders_shares_of_their_rank():
    scores = np.array([[0.5, 0.9, 0.0], [1.0, 0.25, 0.75]])
    found = as_logits(scores, "probability", ALL)
    assert found[0, 0] == 0.0
    assert found[0, 1] == pytest.approx(math.log(9))
    assert found[1, 1] == pytest.approx(-math.log(3))
    assert np.isfinite(found).all()
    ranks = as_logits(np.array([[7.0, 9.0, 8.0], [3.0, 3.0, 1.0]]), "rank", ALL)
    np.testing.assert_allclose(ranks, [[1 / 3, 1, 1 / 2], [1, 1, 1 / 3]])
    np.testing.assert_array_equal(as_logits(scores, "logit", ALL), scores)


def test_what_is_not_there_has_no_rank():
    where = np.array([[True, False, True]])
    ranks = as_logits(np.array([[2.0, np.nan, 3.0]]), "rank", where)
    np.testing.assert_allclose(ranks[where], [1 / 2, 1])


def test_entropy_by_hand():
    scores = np.array([[math.log(3), 0.0, 0.0], [5.0, 5.0, np.nan]])
    where = np.array([[True, True, False], [True, True, False]])
    by_hand = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    np.testing.assert_allclose(entropies(scores, where, 1.0), [by_hand, 1.0])
    assert np.isnan(entropies(scores, np.array([[True, False, False]] * 2), 1.0)).all()
    np.testing.assert_allclose(confidences(scores, where, 1.0), [0.75, 0.5])


@given(
    st.lists(st.lists(st.floats(-50, 50), min_size=4, max_size=4), min_size=3, max_size=8),
    st.floats(0.1, 0.9),
    st.floats(0.01, 100),
)
def test_the_fitted_temperature_reaches_the_entropy_on_any_scale(rows, entropy, scale):
    scores = np.array(rows) + np.arange(4) * 0.5
    where = np.ones(scores.shape, dtype=bool)
    tau = fitted_tau(scores, where, entropy=entropy)
    lowest, highest = (entropies(scores, where, end).mean() for end in (1e-6, 1e6))
    wanted = lowest + entropy * (highest - lowest)
    assert entropies(scores, where, tau).mean() == pytest.approx(wanted, abs=1e-3)
    assert fitted_tau(scores * scale, where, entropy=entropy) == pytest.approx(
        tau * scale, rel=1e-3
    )


def test_level_best_passages_leave_an_entropy_that_no_temperature_takes_away():
    """As grades do: the share is of the way from there to the highest."""
    scores = np.array([[3.0, 3.0, 0.0, 0.0]])
    tau = fitted_tau(scores, np.ones((1, 4), dtype=bool), entropy=0.5)
    found = entropies(scores, np.ones((1, 4), dtype=bool), tau)[0]
    assert found == pytest.approx((math.log(2) / math.log(4) + 1) / 2)


def test_a_teacher_that_tells_nothing_apart_is_refused():
    with pytest.raises(DataError, match="tell the passages of a query apart"):
        fitted_tau(np.ones((2, 3)), ALL, entropy=0.5)
    with pytest.raises(DataError, match="tell the passages"):
        fitted_tau(np.ones((2, 3)), np.zeros((2, 3), dtype=bool), entropy=0.5)
