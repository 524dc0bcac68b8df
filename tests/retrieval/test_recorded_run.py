"""Recorded runs and judgements as retrievers: what a file says, and what is wrong in one."""

from __future__ import annotations

import gzip

import pytest

from limbeck.errors import DataError, UsageError
from limbeck.pipeline import Given
from limbeck.retrieval.fusion import Fuse
from limbeck.retrieval.recorded_run import RecordedRun
from limbeck.trec import write_run
from limbeck.types import Query
from tests.fakes import CORPUS, Listed

QUERIES = [Query("q2", "any"), Query("q1", "any"), Query("q3", "any")]


def found(node, queries=QUERIES):
    return {query_id: [tuple(hit) for hit in hits] for query_id, hits in node(queries).items()}


def test_a_run_comes_back_as_it_was_written(tmp_path):
    run = Listed(doc_ids=("d3", "d1", "d2"))(QUERIES[:2])
    for name in ("a.run", "a.run.gz"):
        write_run(run, tmp_path / name)
        held = RecordedRun(tmp_path / name, kind="bm25").bind(CORPUS)
        assert held(QUERIES[:2]).digest() == run.digest()
        hits = [("d3", 3.0), ("d1", 2.0)]
        assert found(held.top(2)) == {"q2": hits, "q1": hits, "q3": []}


def test_judgements_are_hits_whose_scores_are_grades(tmp_path):
    path = tmp_path / "said.qrels.gz"
    path.write_bytes(gzip.compress(b"q1 0 d5 0\nq1 0 d7 3\nq2 0 d1 1\n"))
    held = RecordedRun(path).bind(CORPUS)
    assert found(held) == {"q2": [("d1", 1.0)], "q1": [("d7", 3.0), ("d5", 0.0)], "q3": []}
    assert held(QUERIES).kind == "unknown"
    path.write_bytes(gzip.compress(b"query-id\tcorpus-id\tscore\nq1\td5\t2\n"))
    assert found(RecordedRun(path).bind(CORPUS), QUERIES[1:2]) == {"q1": [("d5", 2.0)]}


def test_what_a_query_excludes_is_not_found(tmp_path):
    path = tmp_path / "a.qrels"
    path.write_text("q1 0 d5 2\nq1 0 d7 1\n")
    held = RecordedRun(path, k=1).bind(CORPUS)
    assert found(held, [Query("q1", "any", excluded=("d5",))]) == {"q1": [("d7", 1.0)]}


def test_it_is_told_how_many_queries_have_nothing(tmp_path, caplog):
    path = tmp_path / "a.qrels"
    path.write_text("q1 0 d5 2\n")
    RecordedRun(path).bind(CORPUS)(QUERIES)
    assert "query without hits (none recorded in a.qrels)" in caplog.text


def test_the_file_is_what_it_is_known_by(tmp_path):
    one, other = tmp_path / "one.qrels", tmp_path / "other.qrels"
    one.write_text("q1 0 d5 2\n")
    other.write_text("q1 0 d5 2\n")
    before = RecordedRun(one).fingerprint
    assert RecordedRun(other).fingerprint == before
    other.write_text("q1 0 d5 1\n")
    assert RecordedRun(other).fingerprint != before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("q1 0 d77 2\n", "hits must be documents of the corpus; query 'q1' has 'd77'"),
        ("q1 Q0 d77 1 2.0 x\n", "line 1 must rank a document of the corpus; it has 'd77'"),
        ("q1 d5\n", "line 1 must read: query_id doc_id grade"),
        ("q1 Q0 d5 1 high x\n", "must have a number as its score; got 'high'"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, why):
    path = tmp_path / "a.run"
    path.write_text(text)
    with pytest.raises(DataError, match=why):
        RecordedRun(path).bind(CORPUS)


def test_a_missing_file_and_an_unknown_corpus_are_told(tmp_path):
    problems: list = []
    RecordedRun(tmp_path / "no.run").examine(Given(), "here", problems)
    assert "which is no file" in problems[0].message
    path = tmp_path / "a.qrels"
    path.write_text("q1 0 d5 2\n")
    with pytest.raises(UsageError, match="bind it to one"):
        RecordedRun(path)(QUERIES)


def test_unknown_scores_are_fused_when_they_are_normalised(tmp_path):
    path = tmp_path / "a.qrels"
    path.write_text("q1 0 d5 2\nq1 0 d7 1\n")
    held = RecordedRun(path).bind(CORPUS)
    legs = [held, Listed(doc_ids=("d7", "d5"))]
    fused = Fuse(legs, method="linear", normalise="minmax")
    fused.check()
    assert {doc_id for doc_id, _ in found(fused, QUERIES[1:2])["q1"]} == {"d5", "d7"}
