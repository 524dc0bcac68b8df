"""Versions of candidates: whole or not there, and of one corpus."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError
from limbeck.training.candidates import Candidates
from limbeck.types import Run


def _corpus(n: int = 5) -> Corpus:
    return Corpus.from_documents({"_id": str(i), "text": f"text {i}"} for i in range(n))


def _run(corpus: Corpus, first: float = 2.0) -> Run:
    hits = {"a": [("3", first), ("1", -1.5)], "b": [], "c": [("0", 0.25)]}
    return Run.from_hits(hits, kind="dot", corpus=corpus)


def test_a_version_reads_back_as_it_was_written(tmp_path):
    corpus = _corpus()
    store = Candidates(tmp_path / "store", corpus)
    assert store.newest() is None
    assert store.publish(_run(corpus), made_by="bm25") == 1
    assert store.publish(_run(corpus, 9.0), made_by="dense", step=40) == 2
    assert store.newest() == 2
    for number, first in ((1, 2.0), (2, 9.0)):
        found = store.load(number)
        assert found.digest() == _run(corpus, first).digest()
        assert found.hits("a")[0] == ("3", first)
    assert store.told(2)["step"] == 40


def test_candidates_of_another_corpus_are_refused(tmp_path):
    store = Candidates(tmp_path, _corpus())
    store.publish(_run(_corpus()), made_by="bm25")
    with pytest.raises(ArtifactError, match="it is of another; mine again"):
        Candidates(tmp_path, _corpus(6)).load(1)


def test_a_torn_version_is_told(tmp_path):
    store = Candidates(tmp_path, _corpus())
    store.publish(_run(_corpus()), made_by="bm25")
    rows = tmp_path / "v00000001" / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match="truncated"):
        store.load(1)


def test_what_is_half_written_is_no_version(tmp_path):
    """A refresh that is killed leaves the version before it as the newest."""
    store = Candidates(tmp_path, _corpus())
    store.publish(_run(_corpus()), made_by="bm25")
    (tmp_path / ".v00000002.0123abcd").mkdir()
    assert store.newest() == 1
    assert store.publish(_run(_corpus()), made_by="bm25") == 2


def test_old_versions_go_but_the_first_the_newest_and_those_in_use(tmp_path):
    store = Candidates(tmp_path, _corpus())
    for _ in range(5):
        store.publish(_run(_corpus()), made_by="bm25")
    store.keep({3})
    assert [number for number in range(1, 6) if (tmp_path / f"v{number:08d}").exists()] == [1, 3, 5]


def _publish(folder: str) -> int:
    corpus = _corpus()
    return Candidates(Path(folder), corpus).publish(_run(corpus), made_by="bm25")


def test_two_writers_at_once_each_have_their_version(tmp_path):
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        numbers = list(pool.map(_publish, [str(tmp_path)] * 8))
    assert sorted(numbers) == list(range(1, 9))
    corpus = _corpus()
    store = Candidates(tmp_path, corpus)
    assert {store.load(number).digest() for number in numbers} == {_run(corpus).digest()}
