"""Fusion against formulas worked out by hand, and its known traps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import DataError, UsageError
from limbeck.retrieval.fusion import Fuse
from tests.fakes import CORPUS, Listed, run_of, same

TWO = (Listed(), Listed())
ONE = {"d1": 9.0, "d2": 5.0, "d3": 1.0}
OTHER = {"d2": 0.9, "d4": 0.1}

_SCORES = st.dictionaries(
    st.sampled_from(list(CORPUS.doc_ids)), st.sampled_from([0.1, 0.25, 1.0, 3.0, -2.0, 7.5])
)


def _fused(fuse, *lists, kinds=("bm25", "dot", "cosine")):
    runs = [run_of({"q": scores}, kind) for scores, kind in zip(lists, kinds, strict=False)]
    return {hit.doc_id: hit.score for hit in fuse.fuse(runs).hits("q")}


def test_rrf_is_one_over_sixty_plus_rank_from_one():
    scores = _fused(Fuse(TWO), ONE, OTHER)
    assert scores == pytest.approx(
        {"d1": 1 / 61, "d2": 1 / 62 + 1 / 61, "d3": 1 / 63, "d4": 1 / 62}, rel=1e-6
    )


def test_rrf_honours_weights():
    scores = _fused(Fuse(TWO, weights=(2.0, 0.5), constant=10), ONE, OTHER)
    assert scores["d2"] == pytest.approx(2 / 12 + 0.5 / 11, rel=1e-6)


@pytest.mark.parametrize("method", [{}, {"method": "linear", "normalise": "minmax"}])
def test_a_list_of_weight_nought_is_left_out(method):
    assert list(_fused(Fuse(TWO, weights=(1.0, 0.0), **method), ONE, OTHER)) == ["d1", "d2", "d3"]


def test_minmax_by_hand_a_missing_document_takes_the_minimum():
    fuse = Fuse(TWO, method="linear", normalise="minmax", weights=(0.7, 0.3))
    assert _fused(fuse, ONE, OTHER) == pytest.approx(
        {"d1": 0.7, "d2": 0.7 * 0.5 + 0.3, "d3": 0.0, "d4": 0.0}, abs=1e-6
    )
    assert fuse.kind == "normalised"


def test_zscore_by_hand():
    fuse = Fuse(TWO, method="linear", normalise="zscore")
    deviation = np.std([9.0, 5.0, 1.0])
    lowest_one, lowest_other = -4 / deviation, -1.0
    assert _fused(fuse, ONE, OTHER) == pytest.approx(
        {
            "d1": 0.5 * (4 / deviation + lowest_other),
            "d2": 0.5 * (0.0 + 1.0),
            "d3": 0.5 * (lowest_one + lowest_other),
            "d4": 0.5 * (lowest_one + lowest_other),
        },
        abs=1e-6,
    )


def test_scores_as_they_are_add_the_lists_minimum_not_nought():
    fuse = Fuse(TWO, method="linear", normalise="none", weights=(1, 1))
    assert _fused(fuse, ONE, OTHER) == pytest.approx(
        {"d1": 9.1, "d2": 5.9, "d3": 1.1, "d4": 1.1}, abs=1e-5
    )


@pytest.mark.parametrize(("normalise", "wanted"), [("minmax", 1.0), ("zscore", 0.0)])
def test_a_list_of_equal_scores(normalise, wanted):
    fuse = Fuse((Listed(),), method="linear", normalise=normalise)
    assert _fused(fuse, {"d1": 4.0, "d2": 4.0}) == {"d2": wanted, "d1": wanted}


def test_unscaled_scores_are_refused_unless_told():
    with pytest.raises(DataError, match="bm25, dot"):
        _fused(Fuse(TWO, method="linear"), ONE, OTHER)
    unit = ("probability", "normalised")
    scores = _fused(Fuse(TWO, method="linear"), {"d1": 0.5}, {"d1": 0.25}, kinds=unit)
    assert scores == {"d1": 0.375}


def test_a_document_counts_once_in_each_list_and_texts_do_not_matter():
    from limbeck.corpus import Corpus

    twins = Corpus.from_documents({"_id": i, "text": "same words"} for i in ("a", "b"))
    fuse = Fuse((Listed(("a", "b"), corpus=twins), Listed(("b",), corpus=twins)))
    assert [hit.doc_id for hit in fuse("x").hits(0)] == ["b", "a"]


def test_inputs_are_not_changed():
    runs = [run_of({"q": ONE}), run_of({"q": OTHER}, "dot")]
    before = [(run.rows.copy(), run.scores.copy(), run.bounds.copy()) for run in runs]
    for method in ({}, {"method": "linear", "normalise": "zscore"}):
        Fuse(TWO, depth=2, **method).fuse(runs)
    for run, (rows, scores, bounds) in zip(runs, before, strict=True):
        assert np.array_equal(run.rows, rows)
        assert np.array_equal(run.scores, scores)
        assert np.array_equal(run.bounds, bounds)


def test_depth_cuts_each_list_and_k_the_end():
    assert list(_fused(Fuse(TWO, depth=1), ONE, OTHER)) == ["d2", "d1"]
    assert list(_fused(Fuse(TWO, k=1), ONE, OTHER)) == ["d2"]
    assert Fuse(TWO).top(3).k == 3


def test_ties_follow_the_tie_rule():
    assert list(_fused(Fuse(TWO), {"d1": 1.0}, {"d7": 1.0})) == ["d7", "d1"]


def test_empty_lists_and_no_queries():
    assert _fused(Fuse(TWO, method="linear", normalise="zscore"), {}, {}) == {}
    assert list(_fused(Fuse(TWO, method="linear", normalise="minmax"), {}, OTHER)) == ["d2", "d4"]
    assert len(Fuse(TWO).fuse([run_of({}), run_of({})])) == 0


@given(st.lists(_SCORES, min_size=3, max_size=3), st.permutations(range(3)), st.integers(0, 3))
def test_the_order_of_the_lists_changes_no_bit(lists, order, form):
    forms = [{}, *({"method": "linear", "normalise": n} for n in ("minmax", "zscore", "none"))]
    weights = (0.2, 0.5, 1.3)
    runs = [run_of({"q": scores}, "dot") for scores in lists]
    three = (Listed(), Listed(), Listed())
    one = Fuse(three, weights=weights, **forms[form]).fuse(runs)
    turned = Fuse(three, weights=tuple(weights[i] for i in order), **forms[form])
    assert same(one, turned.fuse([runs[i] for i in order]))


def test_the_scores_of_one_query_take_no_digits_from_another():
    fuse = Fuse(TWO, method="linear", normalise="zscore")
    huge = {"d1": 3e15, "d2": 1e15}
    alone = [run_of({"q": scores}) for scores in (ONE, OTHER)]
    batch = [run_of({"p": huge, "q": scores}) for scores in (ONE, OTHER)]
    assert fuse.fuse(batch).hits("q") == fuse.fuse(alone).hits("q")


@given(st.lists(_SCORES, min_size=2, max_size=2))
def test_a_query_alone_scores_as_in_a_batch(lists):
    fuse = Fuse(TWO, method="linear", normalise="zscore")
    runs = [run_of({"p": ONE, "q": scores, "r": OTHER}) for scores in lists]
    alone = [run_of({"q": scores}) for scores in lists]
    assert fuse.fuse(runs).hits("q") == fuse.fuse(alone).hits("q")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"method": "max"}, "method must be"),
        ({"normalise": "softmax"}, "normalise must be"),
        ({"normalise": "minmax"}, "belongs to method linear"),
        ({"weights": (1.0,)}, "weights must be 2 numbers"),
        ({"weights": (1.0, -1.0)}, "weights must be 2 numbers"),
        ({"weights": (0.0, 0.0)}, "not all 0"),
        ({"weights": (1.0, float("nan"))}, "weights must be 2 numbers"),
        ({"k": 0}, "k and depth must be 1 or more"),
        ({"depth": 0}, "k and depth must be 1 or more"),
        ({"constant": -1.0}, "constant 0 or more"),
        ({"constant": 9.0, "method": "linear"}, "belongs to method rrf"),
    ],
)
def test_wrong_parameters_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        Fuse(TWO, **parameters)
    with pytest.raises(UsageError, match="must have branches"):
        Fuse(())
