"""TREC files: both ways, bit-equal, and a message with the line for each thing that is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError
from limbeck.trec import read_qrels, read_run, write_qrels, write_run
from limbeck.types import Qrels, Run

IDS = ["10", "9", "a10", "Z", "é", "日本", "a\u00a0b", "0"]
CORPUS = Corpus.from_documents({"_id": doc_id, "text": "x"} for doc_id in IDS)
FLOATS = st.floats(width=32, allow_nan=False)


def run_of(hits, corpus=CORPUS) -> Run:
    return Run.from_hits(hits, kind="bm25", corpus=corpus)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hits=st.dictionaries(
        st.sampled_from(["q1", "2", "ü"]),
        st.dictionaries(st.sampled_from(IDS), FLOATS, min_size=1),
        max_size=3,
    ),
    name=st.sampled_from(["a.trec", "a.trec.gz"]),
)
def test_a_run_reads_back_bit_equal(tmp_path: Path, hits, name) -> None:
    run = run_of({query_id: list(ranking.items()) for query_id, ranking in hits.items()})
    write_run(run, tmp_path / name)
    back = read_run(tmp_path / name, CORPUS, kind="bm25")
    assert back.query_ids == run.query_ids
    assert back.kind == "bm25"
    assert np.array_equal(back.bounds, run.bounds)
    assert np.array_equal(back.rows, run.rows)
    assert back.scores.tobytes() == run.scores.tobytes()


def test_a_run_has_trecs_six_columns(tmp_path: Path) -> None:
    write_run(run_of({"q1": [("9", 1.5), ("10", 1.5), ("Z", 0.1)]}), tmp_path / "r", tag="mine")
    assert (tmp_path / "r").read_text() == (
        "q1 Q0 9 1 1.5 mine\nq1 Q0 10 2 1.5 mine\nq1 Q0 Z 3 0.1 mine\n"
    )


def test_scores_rank_whatever_the_rank_column_says(tmp_path: Path) -> None:
    file = tmp_path / "r"
    file.write_text("q Q0 10 1 1.0 t\np Q0 Z 1 3 t\nq Q0 9 9 1.0 t\n\nq Q0 a10 3 2e0 t\n")
    run = read_run(file, CORPUS)
    assert run.query_ids == ("q", "p")
    assert [hit.doc_id for hit in run.hits("q")] == ["a10", "9", "10"]  # strcmp: "9" > "10"
    assert run.kind == "unknown"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q Q0 9 1 1.0", "line 2 must read"),
        ("q Q0 9 1 1.0 t t", "line 2 must read"),
        ("q Q0 9 1 high t", "line 2 must have a number"),
        ("q Q0 9 1 nan t", "line 2 must have a number"),
        ("q Q0 unknown 1 1.0 t", "line 2 must rank a document of the corpus"),
        ("q Q0 10 1 3.0 t", "line 2 ranks '10' for 'q' again"),
    ],
)
def test_a_malformed_run_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "r").write_text(f"q Q0 10 1 2.0 t\n{line}\n")
    with pytest.raises(DataError, match=said):
        read_run(tmp_path / "r", CORPUS)


def test_an_empty_run_reads_back_empty(tmp_path: Path) -> None:
    write_run(run_of({"q": []}), tmp_path / "r")
    assert len(read_run(tmp_path / "r", CORPUS)) == 0


def test_ids_with_spaces_are_parted_by_tabs(tmp_path: Path) -> None:
    corpus = Corpus.from_documents([{"_id": "my file.md", "text": "x"}, {"_id": "b", "text": "x"}])
    run = run_of({"q 1": [("my file.md", 2.0), ("b", 1.0)]}, corpus)
    write_run(run, tmp_path / "r")
    assert list(read_run(tmp_path / "r", corpus).items()) == list(run.items())


def test_an_id_with_a_tab_is_refused(tmp_path: Path) -> None:
    corpus = Corpus.from_documents([{"_id": "a\tb", "text": "x"}])
    with pytest.raises(DataError, match=r"tab or a line break; got 'a\\tb'"):
        write_run(run_of({"q": [("a\tb", 2.0)]}, corpus), tmp_path / "r")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    write_run(run_of({"q": [("9", 1.0)]}), tmp_path / "r")
    before = (tmp_path / "r").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ArtifactError, match="disk is full"):
        write_run(run_of({"q": [("10", 2.0)]}), tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["r"]


def test_the_same_run_packs_to_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_run(run_of({"q": [("9", 1.0)]}), tmp_path / name)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@given(
    judgements=st.dictionaries(
        st.sampled_from(["q1", "2", "ü b"]),
        st.dictionaries(st.sampled_from(IDS), st.integers(-2, 4), min_size=1),
    ),
    name=st.sampled_from(["test.tsv", "test.tsv.gz", "test.qrels", "qrels.gz"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_qrels_read_back(tmp_path: Path, judgements, name) -> None:
    write_qrels(Qrels(judgements), tmp_path / name)
    assert read_qrels(tmp_path / name).judgements == judgements


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq\td 1\t2\nq\te\t0\n",
        "q\td 1\t2\nq\te\t0\n",
        "q\t0\td 1\t2\r\nq\t0\te\t0\r\n",
        "q\td 1\t2\nq\te\t0\nq\te\t0",
    ],
)
def test_qrels_of_either_form(tmp_path: Path, text: str) -> None:
    (tmp_path / "q.tsv").write_text(text)
    assert read_qrels(tmp_path / "q.tsv").judgements == {"q": {"d 1": 2, "e": 0}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q\td", "line 2 must read"),
        ("q\t\t1", "line 2 must read"),
        ("q\td\t1.5", "line 2 must have an integer grade; got '1.5'"),
        ("q\td\thigh", "line 2 must have an integer grade"),
        ("q\te\t2", "'e' has grade 1 for 'q' above and 2 here"),
    ],
)
def test_a_malformed_qrels_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "q").write_text(f"q\te\t1\n{line}\n")
    with pytest.raises(DataError, match=said):
        read_qrels(tmp_path / "q")


def test_a_damaged_pack_is_stated(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"q1 0 9 1"))
    packed[10] |= 0b110  # a block of no known type
    (tmp_path / "q.gz").write_bytes(packed)
    with pytest.raises(DataError, match="must be readable"):
        read_qrels(tmp_path / "q.gz")


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path: Path) -> None:
    """Windows programs write one; the first query would be taken for another, and left out."""
    path = tmp_path / "q"
    for text in ("q1\t9\t1\n", "query-id\tcorpus-id\tscore\nq1\t9\t1\n"):
        path.write_text(text, encoding="utf-8-sig")
        assert read_qrels(path) == Qrels({"q1": {"9": 1}})
    path.write_text("q1 Q0 9 1 2.5 t\n", encoding="utf-8-sig")
    assert read_run(path, CORPUS).query_ids == ("q1",)


def test_unreadable_files_are_stated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be readable"):
        read_qrels(tmp_path / "missing")
    (tmp_path / "q").write_bytes(b"q\t\xff\t1\n")
    with pytest.raises(DataError, match="line 1 must be UTF-8"):
        read_qrels(tmp_path / "q")
    (tmp_path / "q.gz").write_bytes(gzip.compress(b"q\td\t1\n" * 1000)[:30])
    with pytest.raises(DataError, match="must be readable"):
        read_qrels(tmp_path / "q.gz")


@pytest.mark.collections
def test_the_recorded_judgements_are_read(shared: Path) -> None:
    """The grades of these files are stated in ../shared/data/README.md."""
    graded = read_qrels(shared / "data/judgments/umbrela-gpt4.dl19.qrels").judgements
    assert {grade for of in graded.values() for grade in of.values()} == {0, 1, 2, 3}
    assert len(read_qrels(shared / "data/beir/scifact/qrels/test.tsv")) == 300
