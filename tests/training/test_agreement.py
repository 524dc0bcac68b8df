"""How far labels agree with people's, by hand."""

from __future__ import annotations

import pytest

from limbeck.errors import DataError, UsageError
from limbeck.training.agreement import agreement
from limbeck.types import Qrels

QRELS = Qrels({"a": {"1": 3, "2": 0, "3": 1, "4": 2}, "b": {"1": 0, "5": 2}})


def test_the_share_and_both_kappas_by_hand():
    """Of five pairs two agree, and by chance .4 x .6 + .6 x .4 = .48: kappa is -.08 / .52."""
    said = {"a": {"1": 3, "2": 1, "3": 2, "4": 0}, "b": {"5": 0, "9": 3}, "c": {"1": 1}}
    found = agreement(said, QRELS, at=2, labels_at=2)
    assert found.n == 5
    assert found.share == pytest.approx(2 / 5)
    assert found.kappa == pytest.approx(_kappa_by_hand([1, 0, 1, 0, 0], [1, 0, 0, 1, 1]))
    graded = _kappa_by_hand([3, 1, 2, 0, 0], [3, 0, 1, 2, 2])
    assert found.kappa_graded == pytest.approx(graded)
    assert str(found).startswith("of 5 pairs 0.400 agree, kappa -0.154, kappa by grades, squared ")
    assert str(found).endswith(" (relevant: grades from 2, labels from 2 on)")


def _kappa_by_hand(said, judged):
    n = len(said)
    seen = sum((a - b) ** 2 for a, b in zip(said, judged, strict=True)) / n
    by_chance = sum((a - b) ** 2 for a in said for b in judged) / n**2
    return 1 - seen / by_chance


def test_scores_that_are_no_grades_are_compared_by_what_they_reach_alone():
    found = agreement({"a": {"1": 4.5, "2": -3.0, "3": 0.5}}, QRELS, at=1, labels_at=0.5)
    assert (found.share, found.kappa, found.kappa_graded) == (1.0, 1.0, None)
    assert str(found).startswith("of 3 pairs 1.000 agree, kappa 1.000 (relevant: ")


def test_where_both_say_the_same_of_all_there_is_no_kappa():
    found = agreement({"a": {"1": 1, "3": 1}}, QRELS)
    assert (found.share, found.kappa) == (1.0, None)


def test_yes_and_no_have_no_kappa_with_grades():
    """Of "1" and "3" neither says the same thing; of grades up to 2 they would."""
    yes_and_no = {"a": {"1": 1, "2": 0, "3": 1}}
    assert agreement(yes_and_no, QRELS).kappa_graded is None
    assert agreement({"a": {"1": 2, "2": 0, "3": 1}}, QRELS).kappa_graded is not None


def test_whole_numbers_of_any_size_are_compared():
    """A table of all grades up to the highest would have had a terabyte."""
    found = agreement({"a": {"1": 400_000, "2": 0, "3": 1}}, QRELS)
    assert found.kappa_graded == pytest.approx(_kappa_by_hand([400_000, 0, 1], [3, 0, 1]))


@pytest.mark.parametrize(
    ("at", "labels_at", "told"),
    [
        (
            9,
            1,
            "lowest grade that is relevant must be one that there is; got 9, and the highest is 3",
        ),
        (
            1,
            2,
            "lowest label that is relevant must be one that there is; got 2, and the highest is 1",
        ),
    ],
)
def test_what_nothing_reaches_is_refused(at, labels_at, told):
    """All pairs were said to agree, as neither side had anything relevant."""
    with pytest.raises(UsageError, match=told):
        agreement({"a": {"1": 1, "3": 1}}, QRELS, at=at, labels_at=labels_at)


def test_labels_and_judgements_of_other_queries_are_refused():
    with pytest.raises(DataError, match="they have none; look whether they are of the same"):
        agreement({"z": {"1": 1}}, QRELS)
