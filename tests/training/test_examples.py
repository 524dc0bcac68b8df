"""Examples: the corpus is read once, and a positive is the best passage of a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.meter import metered
from limbeck.retrieval.bm25 import BM25
from limbeck.training import examples
from limbeck.training.examples import Examples
from limbeck.training.negatives import first_negatives
from limbeck.training.recipe import Negatives

DOCUMENTS = {
    "a": "cat sat mat dog ran far",
    "b": "sun dog moon cat star sky",
    "c": "one two three four five six",
    "same": "cat dog",
}
QUERIES = {"q": ("cat sat", ["a", "b"]), "far": ("dog ran", ["a"]), "lost": ("zebra", ["c"])}
WATCHED = {"seen": ("moon sky", ["b"])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    texts = [{"_id": doc_id, "text": text} for doc_id, text in DOCUMENTS.items()]
    asked = [{"_id": query_id, "text": text} for query_id, (text, _) in (QUERIES | WATCHED).items()]
    for name, lines in (("corpus", texts), ("queries", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for split, queries in (("train", QUERIES), ("dev", WATCHED)):
        rows = [f"{q}\t{doc_id}\t1\n" for q, (_, found) in queries.items() for doc_id in found]
        text = "query-id\tcorpus-id\tscore\n" + "".join(rows)
        (tmp_path / "qrels" / f"{split}.tsv").write_text(text)
    return tmp_path


def test_the_corpus_is_read_once_for_both_splits(folder, monkeypatch):
    real, read = Corpus.load, []
    monkeypatch.setattr(Corpus, "load", lambda path: read.append(path) or real(path))
    made = Examples.load(folder, dev="dev")
    assert len(read) == 1
    assert made.dev is not None
    assert made.dev.corpus is made.corpus


def positives(made: Examples) -> dict[str, list[str]]:
    pairs = zip(made.queries, made.positives, strict=True)
    return {query.query_id: [made.corpus.doc_ids[row] for row in rows] for query, rows in pairs}


@pytest.mark.parametrize("at_once", [1, 2, 4096])
def test_the_best_passage_of_each_relevant_document_else_its_first(folder, monkeypatch, at_once):
    monkeypatch.setattr(examples, "_AT_ONCE", at_once)
    assert positives(Examples.load(folder, dev=None).cut(2)) == {
        "q": ["b#000001", "a#000000"],
        "far": ["a#000002"],
        "lost": ["c#000000"],
    }


def test_no_passage_of_a_relevant_document_is_a_negative(folder):
    """A query asks for "b" and "a": their other passages answer it as well as the ones chosen."""
    made = Examples.load(folder, dev=None).cut(2)
    source = BM25(k=50)
    run = first_negatives(made, Negatives(of=source, depth=20, kept=20), seed=0).run
    found = {query_id: {hit.doc_id for hit in hits} for query_id, hits in run.items()}
    assert found["q"] == {"same#000000"}
    assert found["far"] == {"b#000000", "same#000000"}
    spared = {
        query.query_id: {made.corpus.doc_ids[row].partition("#")[0] for row in rows}
        for query, rows in zip(made.queries, made.spared, strict=True)
    }
    assert spared == {"q": {"a", "b"}, "far": {"a"}, "lost": {"c"}}
    assert [len(rows) for rows in made.spared] == [6, 3, 3]


def test_what_a_query_excludes_is_spared_as_a_document_and_as_passages(folder):
    (folder / "limbeck.yaml").write_text("exclude_same_id: true")
    asked = {"_id": "same", "text": "cat dog"}
    with (folder / "queries.jsonl").open("a") as file:
        file.write(json.dumps(asked) + "\n")
    with (folder / "qrels" / "train.tsv").open("a") as file:
        file.write("same\tb\t1\n")
    whole = Examples.load(folder, dev=None)
    for made, n_passages in ((whole, 1), (whole.cut(1), 6)):
        spared = made.spared[-1].tolist()
        own = [row for row in spared if made.corpus.doc_ids[row].startswith("same")]
        assert len(spared) == n_passages + len(own)
        assert tuple(made.corpus.doc_ids[row] for row in own) == made.queries[-1].excluded
    assert len(own) == 2


def add(folder, **queries):
    """Add training queries: a text and what answers it."""
    with (folder / "queries.jsonl").open("a") as file:
        file.writelines(
            json.dumps({"_id": query_id, "text": text}) + "\n"
            for query_id, (text, _) in queries.items()
        )
    with (folder / "qrels" / "train.tsv").open("a") as file:
        file.writelines(f"{query_id}\t{doc_id}\t1\n" for query_id, (_, doc_id) in queries.items())


def test_what_answers_a_query_of_the_same_text_is_no_negative(folder):
    """In medquad 2,367 of the training queries stand under several ids, each with its answer."""
    add(folder, again=("Cat  SAT", "c"))
    made = Examples.load(folder, dev=None)
    spared = {
        query.query_id: {made.corpus.doc_ids[row] for row in rows}
        for query, rows in zip(made.queries, made.spared, strict=True)
    }
    assert spared["q"] == spared["again"] == {"a", "b", "c"}
    assert positives(made)["again"] == ["c"]
    assert len(made.cut(2).spared[-1]) == 3 + 3 + 3


def test_what_is_like_a_query_held_out_is_not_trained_on(folder):
    add(folder, **{f"twin{n}": ("how DOG ran?", "a") for n in range(3)})
    for seed in range(4):
        made = Examples.load(folder, dev=0.5, seed=seed)
        about = {"far", "twin0", "twin1", "twin2"}
        held_out = {query.query_id for query in made.dev.queries} & about
        trained = {query.query_id for query in made.queries} & about
        assert bool(held_out) != bool(trained)


def test_texts_that_dev_has_too_are_counted(folder):
    """300 of medquad's dev questions are training questions, word for word."""
    add(folder, twice=("Moon  sky", "b"))
    with metered() as meter:
        Examples.load(folder, dev="dev")
    assert meter.notes == {"query trained on: split 'dev' has one of the same text": 1}


def test_queries_without_a_positive_in_the_corpus_are_counted(folder):
    add(folder, nowhere=("a b c", "gone"))
    with metered() as meter:
        made = Examples.load(folder, dev=None)
    assert len(made.queries) == 3
    (told,) = meter.notes
    assert told == "a query is not trained on: no document that it asks for is in the corpus"
    assert meter.notes[told] == 1
