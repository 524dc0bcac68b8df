"""Recorded judges of TREC DL 2019 as scripted LLMs; skipped where ../shared is absent."""

from __future__ import annotations

import pytest

from benchmarks.llm_rerank_dl19 import COLLECTION, notes_bm25, pipelines, preferences
from limbeck.eval.datasets import Dataset
from limbeck.eval.experiment import Experiment
from limbeck.trec import read_qrels

pytestmark = pytest.mark.collections

SORTS = [
    "UMBRELA listwise",
    "UMBRELA setwise heap",
    "UMBRELA setwise bubble",
    "UMBRELA pairwise heap",
    "UMBRELA pairwise sliding",
]


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data"


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    """nDCG@10 and the run of each pipeline, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        dataset = Dataset.load(data / "beir" / COLLECTION)
        report = Experiment(pipelines(data), [dataset], measures="nDCG@10").run()
    assert not report.failures
    return {p.name: (p.scores["nDCG@10"].mean, p.outcome.run) for p in report.datasets[0].pipelines}


def test_umbrelas_grades_reach_the_notes_figure_on_the_notes_first_stage(measured):
    assert abs(measured["BM25 of the notes"][0] - 0.441) <= 0.003
    assert abs(measured["BM25 of the notes, UMBRELA graded"][0] - 0.729) <= 0.003
    assert measured["UMBRELA graded"][0] >= 0.729, "on Lucene's terms, which find more"


def test_hits_stand_by_grade_and_then_as_bm25_had_them(measured, data):
    grades = read_qrels(data / "judgments" / "umbrela-gpt4.dl19.qrels").judgements
    run, bm25 = measured["UMBRELA graded"][1], measured["BM25"][1]
    for query in bm25.query_ids:
        read = [hit.doc_id for hit in bm25.hits(query)]
        wanted = sorted(read, key=lambda doc: -grades[query].get(doc, 0))  # stable
        assert [hit.doc_id for hit in run.hits(query)] == wanted


@pytest.mark.parametrize("name", SORTS)
def test_sorts_and_windows_find_the_same_best_ten(measured, name):
    graded, found = measured["UMBRELA graded"][1], measured[name][1]
    assert measured[name][0] == pytest.approx(measured["UMBRELA graded"][0], abs=1e-9)
    for query in graded.query_ids:
        best = [[hit.doc_id for hit in run.hits(query)[:10]] for run in (graded, found)]
        assert best[0] == best[1]


def test_yes_or_no_by_probability_and_by_text_are_the_same_order(measured):
    by_text, by_share = measured["GPT-4o yes or no, text"][1], measured["GPT-4o yes or no"][1]
    assert by_text.rows.tolist() == by_share.rows.tolist()
    assert measured["GPT-4o yes or no"][0] > measured["BM25"][0] + 0.15


def test_recorded_preferences_give_away_what_is_relevant(data):
    """So what they reach says nothing of the judge: only relevant documents were ever compared."""
    judgements = Dataset.load(data / "beir" / COLLECTION).qrels.judgements
    relevant = {(q, doc) for q, of in judgements.items() for doc, grade in of.items() if grade}
    assert {(q, doc) for q, *pair in preferences(data) for doc in pair} == relevant


def test_few_known_preferences_do_no_harm(measured):
    """What is not known counts as equal, and stands as BM25 had it."""
    for name in ("heap", "sliding", "all pairs of 20"):
        assert measured[f"GPT-4o preferences, {name}"][0] > measured["BM25"][0]


def test_the_notes_terms_are_what_its_name_says():
    terms = notes_bm25().analyzer
    assert terms("What's the US's _____ running?") == ["what", "u", "_____", "run"]
