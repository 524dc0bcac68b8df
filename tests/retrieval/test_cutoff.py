"""Score cut-offs: each rule by hand, all of them together, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.pipeline import Given
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.cutoff import Cutoff
from limbeck.types import Query
from tests.fakes import Listed, run_of


def _kept(node, scores, kind="bm25"):
    run = run_of({"q": {f"d{n}": score for n, score in enumerate(scores)}}, kind)
    made = node([Query("q", "x")], run)
    assert made.kind == kind
    return [hit.score for hit in made.hits("q")]


def test_least_is_a_score_and_may_leave_nothing():
    assert _kept(Cutoff(least=2.0), [3.0, 2.0, 1.0]) == [3.0, 2.0]
    assert _kept(Cutoff(least=4.0), [3.0, 2.0, 1.0]) == []
    assert _kept(Cutoff(least=-1.0), [0.5, -0.5, -1.5], "logit") == [0.5, -0.5]
    assert len(_kept(Cutoff(least=0.7), [0.7, 0.7], "cosine")) == 2  # scores are float32


def test_share_is_of_the_best_score():
    assert _kept(Cutoff(share=0.5), [10.0, 6.0, 5.0, 4.9]) == [10.0, 6.0, 5.0]
    assert _kept(Cutoff(share=1.0), [2.0, 2.0, 1.0]) == [2.0, 2.0]
    assert _kept(Cutoff(share=0.5), [0.0, 0.0]) == [0.0, 0.0]


def test_share_is_as_wide_below_a_negative_best_score_as_below_a_positive_one():
    """Robertson's bm25 may be below 0; half of -1 was -.5, which nothing has, so one hit stayed."""
    assert _kept(Cutoff(share=0.5), [-1.0, -1.5, -1.75, -2.0]) == [-1.0, -1.5]
    assert _kept(Cutoff(share=1.0), [-1.0, -1.0, -1.1]) == [-1.0, -1.0]
    assert _kept(Cutoff(share=0.5), [0.0, -0.5]) == [0.0]
    texts = ["common", "common common", "common common common", "common other"]
    corpus = Corpus.from_documents({"_id": str(n), "text": text} for n, text in enumerate(texts))
    found = BM25.index(corpus, formula="robertson")("common")
    assert found.scores.max() < 0.0
    assert len((BM25.index(corpus, formula="robertson") >> Cutoff(share=0.5))("common").rows) == 4


def test_drop_cuts_before_the_largest_fall():
    scores = [10.0, 9.0, 5.0, 4.5, 1.0]  # falls 1, 4, .5, 3.5 of a way of 9
    assert _kept(Cutoff(drop=0.4), scores) == [10.0, 9.0]
    assert _kept(Cutoff(drop=0.5), scores) == scores  # 4/9 is less than half
    assert _kept(Cutoff(drop=0.3, keep=2), scores) == [10.0, 9.0]
    assert _kept(Cutoff(drop=0.3, keep=3), scores) == [10.0, 9.0, 5.0, 4.5]
    assert _kept(Cutoff(drop=1.0), [5.0, 5.0]) == [5.0, 5.0]
    assert _kept(Cutoff(drop=1.0), [5.0]) == [5.0]


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=10),
    st.integers(-100, 100),
    st.sampled_from([0.5, 2.0, 4.0]),
)
def test_drop_sees_neither_the_zero_nor_the_unit_of_scores(scores, zero, unit):
    scores = sorted(scores, reverse=True)
    moved = [unit * score + zero for score in scores]
    node = Cutoff(drop=0.3)
    assert len(_kept(node, moved, "logit")) == len(_kept(node, scores, "logit"))


def test_keep_is_stronger_than_all_rules_and_all_rules_hold():
    assert _kept(Cutoff(least=100.0, share=0.9, keep=2), [10.0, 5.0, 1.0]) == [10.0, 5.0]
    assert _kept(Cutoff(least=100.0, keep=5), [10.0, 5.0]) == [10.0, 5.0]
    assert _kept(Cutoff(least=2.0, share=0.3), [10.0, 5.0, 2.5, 1.0]) == [10.0, 5.0]


def test_each_query_is_cut_by_itself():
    run = run_of({"q": {"d1": 8.0, "d2": 1.0}, "r": {}, "s": {"d1": 2.0, "d2": 1.5}})
    made = Cutoff(share=0.5)([Query(q, q) for q in "qrs"], run)
    assert np.diff(made.bounds).tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("node", "kind", "said"),
    [
        (Cutoff(share=0.5), "cosine", "share needs scores that are never negative; cosine"),
        (Cutoff(least=0.5, kind="probability"), "logit", "chosen for probability scores"),
    ],
)
def test_a_rule_that_does_not_fit_the_score_kind_is_refused(node, kind, said):
    problems = []
    after = node.examine(Given(kind, "c"), "here", problems)
    assert said in str(problems[0])
    assert after == Given(kind, "c")
    with pytest.raises(DataError, match="cutoff: "):
        _kept(node, [1.0], kind)


def test_what_fits_is_sound():
    assert not (Listed(("d1",)) >> Cutoff(least=1.0, kind="bm25", share=0.5, drop=0.2)).problems()
    assert [str(p) for p in Cutoff(share=0.5).problems()] == [
        "pipeline: cutoff reads a run, and no node before it makes one; "
        "put a retriever such as bm25 before it"
    ]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "must have a rule"),
        ({"keep": 3}, "must have a rule"),
        ({"share": 0.0}, "share of cutoff must lie in"),
        ({"drop": 1.5}, "drop of cutoff must lie in"),
        ({"least": float("nan")}, "least of cutoff must be a finite number"),
        ({"share": 0.5, "kind": "bm25"}, "kind belongs to least"),
        ({"share": 0.5, "keep": -1}, "keep of cutoff must be 0 or more"),
    ],
)
def test_wrong_parameters_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        Cutoff(**parameters)
