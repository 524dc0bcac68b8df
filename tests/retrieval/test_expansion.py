"""Expanded indexes beside indexes of the expanded texts; what lies on disk, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError, UsageError
from limbeck.meter import metered
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.expansion import Expander, Written
from limbeck.retrieval.formulas import FORMULAS
from limbeck.retrieval.recorded_queries import RecordedQueries
from tests.fakes import same

TEXTS = {
    "a": "zebra zebra lion in the long grass of the savannah",
    "b": "grass grows",
    "c": "lion",
    "d": "",
}
QUERIES_OF = {"a": ("where do lions hunt", "where do lions hunt"), "d": ("what is empty",)}
ASKED = ["lion", "where hunts a lion", "empty", "grass zebra", "nothing of it", ""]


def _corpus(texts=TEXTS):
    return Corpus.from_documents({"_id": doc_id, "text": text} for doc_id, text in texts.items())


@pytest.fixture(scope="module")
def corpus():
    return _corpus()


@dataclass(frozen=True)
class Known(Expander):
    """Writes what it was told, and counts how often it was asked."""

    name: ClassVar[str] = "known"

    texts: tuple[tuple[str, tuple[str, ...]], ...] = tuple(QUERIES_OF.items())
    calls: list[int] = field(default_factory=list, compare=False)

    def write(self, corpus):
        self.calls.append(len(corpus))
        texts = dict(self.texts)
        return [Written(texts.get(doc_id, ())) for doc_id in corpus.doc_ids]


def _appended():
    """The corpus whose texts hold the queries: what others index."""
    return _corpus({d: " ".join((text, *QUERIES_OF.get(d, ()))) for d, text in TEXTS.items()})


@pytest.mark.parametrize("formula", FORMULAS)
def test_an_expanded_index_is_that_of_the_texts_with_their_queries(corpus, formula):
    expanded = BM25.index(corpus, formula=formula, expansion=Known())
    appended = BM25.index(_appended(), formula=formula)
    for query in ASKED:
        assert expanded([query]).hits(0) == appended([query]).hits(0)
    assert expanded(["empty"]).hits(0)[0].doc_id == "d"
    assert corpus.document(corpus.row("d")).contents == ""


def test_original_lengths_leave_the_queries_out_of_the_length_alone(corpus):
    node = BM25.index(
        corpus, formula="lucene-accurate", expansion=Known(), lengths="original", b=1.0
    )
    n_docs, count, frequency = 4, 3, 2  # "lion" stands once in a's own text, twice in its queries
    own = {d: len(node.analyse(text)) for d, text in TEXTS.items()}
    idf = np.log(1 + (n_docs - frequency + 0.5) / (frequency + 0.5))
    average = (sum(own.values()) + 1) / n_docs  # d, which has queries alone, counts as one term
    score = idf * count / (count + node.k1 * own["a"] / average)
    assert dict(node(["lion"]).hits(0))["a"] == pytest.approx(score, rel=1e-6)
    longer = BM25.index(corpus, formula="lucene-accurate", expansion=Known(), b=1.0)
    assert dict(longer(["lion"]).hits(0))["a"] < score
    flat = [
        BM25.index(corpus, expansion=Known(), lengths=lengths, b=0.0)
        for lengths in ("expanded", "original")
    ]
    assert same(flat[0](ASKED), flat[1](ASKED))


@pytest.mark.parametrize("formula", FORMULAS)
def test_documents_that_are_nothing_but_queries_have_a_score(formula):
    blank = _corpus({"a": "", "d": ""})
    node = BM25.index(blank, formula=formula, expansion=Known(), lengths="original", b=1.0)
    assert np.isfinite(node(["empty"]).scores).all()


def test_the_queries_lie_beside_the_index_and_can_be_read_and_used_again(corpus, tmp_path):
    built = BM25.index(corpus, path=tmp_path / "index", expansion=Known())
    assert built.expansions().of("a") == Written(QUERIES_OF["a"])
    assert built.expansions().of("b") == built.expansions().of("not there") == Written()
    built.expansions().save(tmp_path / "saved.jsonl")
    for file in (tmp_path / "saved.jsonl", tmp_path / "index" / "expansions.jsonl"):
        again = BM25.index(corpus, expansion=RecordedQueries(file))
        assert same(again(ASKED), built(ASKED))


def test_an_index_is_built_once_and_loaded_without_its_expander(corpus, tmp_path):
    known = Known()
    built = BM25.index(corpus, path=tmp_path / "index", expansion=known)
    assert BM25.index(corpus, path=tmp_path / "index", expansion=known).fingerprint
    for _ in ("", ""):
        BM25.index(corpus, expansion=known)
    assert len(known.calls) == 2  # once for the path, once for the cache
    loaded = BM25.load(tmp_path / "index")
    assert same(loaded(ASKED), built(ASKED))
    assert loaded.fingerprint == built.fingerprint
    with pytest.raises(UsageError, match="a known must be there to expand"):
        loaded.expansion.write(corpus)


def test_other_expansions_are_another_index(corpus, tmp_path):
    one, other = Known(), Known((("b", ("who grows",)),))
    BM25.index(corpus, path=tmp_path / "index", expansion=one)
    for wrong in ({}, {"expansion": other}, {"expansion": one, "lengths": "original"}):
        with pytest.raises(ArtifactError, match="must have been built with"):
            BM25.index(corpus, path=tmp_path / "index", **wrong)
    prints = {
        BM25.index(corpus, **parameters).fingerprint
        for parameters in (
            {},
            {"expansion": one},
            {"expansion": other},
            {"expansion": one, "lengths": "original"},
        )
    }
    assert len(prints) == 4


def test_an_index_without_expansions_says_so(corpus):
    with pytest.raises(UsageError, match="must have been built with an expansion"):
        BM25.index(corpus).expansions()


def test_its_parameters_are_what_they_were_before_there_were_expansions():
    assert not {"expansion", "lengths"} & BM25().parameters().keys()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"lengths": "original"}, "lengths 'original' is for an index with an expansion"),
        (
            {"lengths": "original", "expansion": Known(), "engine": "rank-bm25"},
            "and the engine limbeck",
        ),
        ({"lengths": "none", "expansion": Known()}, "lengths must be expanded or original"),
        ({"expansion": BM25()}, "expansion must be a node such as doc2query; got BM25"),
    ],
)
def test_wrong_parameters_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        BM25(**parameters)


# Recorded queries.


def _file(tmp_path, *lines):
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_recorded_queries_are_found_by_id_and_blank_ones_left_out(corpus, tmp_path):
    path = _file(
        tmp_path,
        {"doc_id": "a", "text": ["one", " ", "two"], "score": [0.5, 0.1, -1]},
        {"doc_id": "b", "text": "three"},
        {"doc_id": "elsewhere", "text": ["x"]},
    )
    with metered() as meter:
        written = RecordedQueries(path).write(corpus)
    found = dict(zip(corpus.doc_ids, written, strict=True))
    assert found["a"] == Written(("one", "two"), (0.5, -1.0))
    assert found["b"] == Written(("three",))
    assert found["c"] == Written()
    assert meter.notes == {"recorded-queries: document kept as it is (none recorded)": 2}


def test_half_a_character_goes_no_further_than_the_door(corpus, tmp_path):
    """JSON can hold it; no file can, and the index failed while it was written."""
    (tmp_path / "q.jsonl").write_text('{"doc_id": "a", "text": ["half \\ud83d"]}')
    node = BM25.index(corpus, expansion=RecordedQueries(tmp_path / "q.jsonl"))
    assert node.expansions().of("a").texts == ("half ?",)


def test_the_fingerprint_is_the_files_not_its_names(tmp_path, monkeypatch):
    """An index was built again where the same file had another path."""
    path = _file(tmp_path, {"doc_id": "a", "text": ["one"]})
    before = RecordedQueries(path).fingerprint
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    assert RecordedQueries(copy).fingerprint == before
    monkeypatch.chdir(tmp_path)
    assert RecordedQueries(path.name) == RecordedQueries(path)
    path.write_text('{"doc_id": "a", "text": ["two"]}\n')
    assert RecordedQueries(path).fingerprint != before


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"text": ["x"]}], "line 1 must have a `doc_id` of its own"),
        ([{"doc_id": "a", "text": ["x"]}] * 2, "line 2 must have a `doc_id` of its own"),
        ([{"doc_id": "a", "text": [1]}], "line 1 must have `text`"),
        ([{"doc_id": "a", "text": ["x"], "score": []}, {"doc_id": "b"}], "line 2 must have `text`"),
        ([{"doc_id": "a", "text": ["x"], "score": [1, 2]}], "a number in `score` for each text"),
        ([{"doc_id": "a", "text": ["x"], "score": ["high"]}], "must have numbers as `score`"),
        ([{"doc_id": "z", "text": ["x"]}], "it has none of them"),
    ],
)
def test_a_malformed_recording_is_refused_with_its_line(corpus, tmp_path, lines, said):
    with pytest.raises(DataError, match=said):
        RecordedQueries(_file(tmp_path, *lines)).write(corpus)


def test_a_recording_that_is_gone(corpus, tmp_path):
    node = RecordedQueries(tmp_path / "none.jsonl")
    problems = []
    node.examine_inside("here", problems)
    assert "which is no file" in str(problems[0])
    with pytest.raises(DataError, match="must be a readable JSONL file"):
        BM25.index(corpus, expansion=node)


def test_a_damaged_index_of_the_cache_is_built_again(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    known = Known()
    BM25.index(corpus, expansion=known)
    (folder,) = (tmp_path / "indexes").glob("bm25-*[0-9a-f]")
    (folder / "expansions.jsonl").unlink()
    assert BM25.index(corpus, expansion=known).expansions().of("a").texts == QUERIES_OF["a"]
