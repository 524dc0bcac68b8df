"""Measures: names, trec_eval's semantics with ties, and the formulas by hand."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.eval.measures import evaluate, parse_measures
from limbeck.trec import write_qrels, write_run
from limbeck.types import Qrels, Run

IDS = ["10", "9", "100", "a10", "a9", "Z", "z", "é", "e", "ß", "日", "本", "-1", "_"]
CORPUS = Corpus.from_documents({"_id": doc_id, "text": "x"} for doc_id in IDS)


def run_of(hits) -> Run:
    return Run.from_hits(hits, kind="bm25", corpus=CORPUS)


def test_names_are_canonical_and_kept_once() -> None:
    text = "nDCG@10, R@100,NDCG@10,AP(rel=2),P(rel=2,judged_only=True)@5"
    names = ("nDCG@10", "R@100", "AP(rel=2)", "P(rel=2,judged_only=True)@5")
    assert parse_measures(text) == names
    assert parse_measures(names) == names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("nDGC@10", "do you mean .*nDCG"),
        ("ndcg@10", "do you mean .*nDCG"),
        ("recall@10", "do you mean .*Recall"),
        ("qqqq", "do you mean nDCG, R, AP"),
        ("nDCG@", "must read like nDCG@10"),
        ("nDCG@ten", "must read like"),
        ("nDCG(depth=3)@10", "must read like"),
        ("R", "must read like"),
        ("__import__('os')", "must read like"),
        ("P@0", "a cutoff must be 1 or more"),
        ("NumRet", "is a count"),
        ("RBP", "needs a program"),
        ("", "at least one measure"),
        (" , ", "at least one measure"),
    ],
)
def test_a_wrong_name_is_a_usage_error(names: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_measures(names)


def test_ndcg_has_linear_gain_and_ap_counts_what_was_not_found() -> None:
    """nDCG: sum of grade / log2(rank + 1) over the ideal's; AP: precision at each relevant hit."""
    run = run_of({"q": [("9", 3.0), ("10", 2.0), ("a9", 1.0)]})
    qrels = Qrels({"q": {"9": 1, "10": 0, "a9": 3, "missing": 2}})
    found = evaluate(run, qrels, ["nDCG@10", "AP", "R@2", "AP(rel=2)"])
    dcg = 1 / math.log2(2) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    expected = [dcg / ideal, (1 / 1 + 2 / 3) / 3, 1 / 3, (1 / 3) / 2]
    assert found.values[0] == pytest.approx(expected)


SCORES = st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.0000001, 2.0, -3.0, float("inf")])
HITS = st.dictionaries(
    st.sampled_from(["q1", "q2", "10", "9", "unjudged"]),
    st.dictionaries(st.sampled_from(IDS), SCORES),
)
QRELS = st.dictionaries(
    st.sampled_from(["q1", "q2", "10", "9", "silent"]),
    # Some grade is 0 or more: trec_eval itself may hang on a query that has negative ones alone.
    st.dictionaries(st.sampled_from([*IDS, "elsewhere"]), st.integers(-1, 3), min_size=1).filter(
        lambda grades: max(grades.values()) >= 0
    ),
    min_size=1,
)
MEASURES = ("nDCG@3", "nDCG", "R@2", "AP(rel=2)", "RR", "P@1", "Rprec", "Success@2")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(hits=HITS, judgements=QRELS)
def test_our_order_is_trec_evals_order(tmp_path: Path, hits, judgements) -> None:
    """The files we write, measured by trec_eval itself on their scores, give our numbers."""
    run = run_of({query_id: list(ranking.items()) for query_id, ranking in hits.items()})
    write_run(run, tmp_path / "r")
    write_qrels(Qrels(judgements), tmp_path / "q")
    ours = evaluate(run, Qrels(judgements), MEASURES)
    theirs = ir_measures.pytrec_eval.iter_calc(
        [ir_measures.parse_measure(name) for name in MEASURES],
        list(ir_measures.read_trec_qrels(str(tmp_path / "q"))),
        list(ir_measures.read_trec_run(str(tmp_path / "r"))),
    )
    expected = {(metric.query_id, str(metric.measure)): metric.value for metric in theirs}
    assert set(ours.query_ids) == set(judgements)
    for row, query_id in enumerate(ours.query_ids):
        for column, name in enumerate(ours.measures):
            assert ours.values[row, column] == expected[query_id, name]


def test_queries_with_negative_grades_alone_score_zero_and_do_not_hang_trec_eval() -> None:
    run = run_of({"q1": [(IDS[0], 1.0)], "q2": [(IDS[1], 1.0)]})
    qrels = Qrels({"q1": {IDS[0]: -1, IDS[2]: -2}, "q2": {IDS[1]: 2, IDS[0]: -1}})
    for _ in range(300):  # it hung now and then, by what lay in memory
        values = evaluate(run, qrels, MEASURES).values
    assert (values[0] == 0.0).all()
    assert values[1, 0] == 1.0


def test_a_measure_computed_elsewhere_sees_the_same_order() -> None:
    """RR@10 is not trec_eval's; the program behind it breaks ties the other way round."""
    run = run_of({"q": [("10", 1.0), ("9", 1.0)]})
    qrels = Qrels({"q": {"10": 1}})
    alone = {"q": {"10": 1.0, "9": 1.0}}
    assert ir_measures.calc_aggregate([ir_measures.RR @ 10], {"q": {"10": 1}}, alone) == {
        ir_measures.RR @ 10: 1.0
    }
    assert evaluate(run, qrels, ["RR@10", "RR"]).values.tolist() == [[0.5, 0.5]]


def test_a_silent_query_scores_zero_and_an_unjudged_one_nothing() -> None:
    run = run_of({"unjudged": [("9", 1.0)], "empty": [], "q": [("9", 1.0)]})
    qrels = Qrels({"q": {"9": 1}, "empty": {"9": 1}, "absent": {"9": 1}})
    found = evaluate(run, qrels, ["nDCG@10", "R@5"])
    assert found.query_ids == ("q", "empty", "absent")
    assert found.of("nDCG@10").tolist() == [1.0, 0.0, 0.0]
    assert found.means() == pytest.approx({"nDCG@10": 1 / 3, "R@5": 1 / 3})


def test_no_hits_at_all() -> None:
    assert evaluate(run_of({}), Qrels({"q": {"9": 1}}), ["nDCG@10"]).values.tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("rows", "scores", "said"),
    [
        ([0, 1], [1.0, 2.0], "best first"),
        ([1, 0], [1.0, 1.0], "best first"),
        ([0, 1], [1.0, float("nan")], "best first"),
        ([0, 0], [2.0, 1.0], "one twice"),
    ],
)
def test_a_run_that_breaks_its_contract_is_refused(rows, scores, said) -> None:
    run = Run(
        ("q",),
        np.array([0, 2]),
        np.array(rows, dtype=np.int32),
        np.array(scores, dtype=np.float32),
        "bm25",
        CORPUS,
    )
    with pytest.raises(DataError, match=said):
        evaluate(run, Qrels({"q": {"9": 1}}), ["nDCG@10"])


@pytest.mark.skipif(shutil.which("perl") is None, reason="gdeval.pl needs perl")
@pytest.mark.parametrize("query_ids", [("q1", "q2"), ("1", "2"), ("a-1", "b-1"), ("1 x", "1 y")])
def test_ids_do_not_matter_to_the_program_behind_a_measure(query_ids) -> None:
    """gdeval.pl takes queries by number alone, and cuts ids at a space and queries at a hyphen."""
    corpus = Corpus.from_documents({"_id": i, "text": "x"} for i in ("d 1", "d 2", "é"))
    one, two = query_ids
    hits = {one: [("d 2", 2.0), ("d 1", 1.0)], two: [("é", 1.0)]}
    run = Run.from_hits(hits, kind="bm25", corpus=corpus)
    qrels = Qrels({one: {"d 1": 1, "d 3": 2}, two: {"é": 2}})
    found = evaluate(run, qrels, ["ERR@10", "nDCG(dcg='exp-log2')@10"])
    # ERR: (2^g - 1) / 2^4 at the first relevant rank, over that rank.
    dcg = 1 / math.log2(3)
    ideal = 3 + 1 / math.log2(3)
    expected = np.array([[1 / 16 / 2, dcg / ideal], [3 / 16, 1.0]])
    assert found.values == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["AP(rel=0)", "Accuracy", "nDCG@99999999999999999999"])
def test_a_measure_without_a_value_is_a_stated_failure(name: str) -> None:
    run = run_of({"q": [("9", 1.0)], "empty": []})
    with pytest.raises(DataError, match=r"must have a value .* leave"):
        evaluate(run, Qrels({"q": {"9": 1}, "empty": {"9": 1}}), [name])
