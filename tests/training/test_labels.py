"""A teacher's labels: data on disk, in parts that join, looked up by query and passage."""

from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError
from limbeck.meter import Usage
from limbeck.training.extended import Extended
from limbeck.training.labels import Labels, Origin
from limbeck.types import Document, Query, Run

CORPUS = Corpus.from_documents({"_id": f"d{i}", "text": f"text {i}"} for i in range(5))


def origin(seconds: float = 1.0, **notes: int) -> Origin:
    return Origin(
        "deep", "f" * 32, ("m",), ("p",), Usage(calls=2, usd=0.5), seconds, tuple(notes.items())
    )


def labels(name: str, *dark: str, **scores: float) -> Labels:
    """Return the labels of one query: of documents, and of dark examples named after it."""
    more = [Document(f"dark-{name}-{text}", text, "", {"kind": "noisy"}) for text in dark]
    texts = Extended(CORPUS, more)
    hits = {name: [*scores.items(), *((text.doc_id, 0.5) for text in more)]}
    rows = np.array([CORPUS.row(next(iter(scores)))], dtype=np.int64)
    run = Run.from_hits(hits, kind="logit", corpus=texts)
    query = Query(name, f"text of {name}", excluded=("d4",))
    return Labels((query,), ("split",), (rows,), run, origin(), "id")


def test_rows_behind_a_corpus_are_texts_that_no_index_knows():
    texts = Extended(CORPUS, [Document("a", "one"), Document("b", "two")])
    assert len(texts) == 7
    assert list(texts.doc_ids)[5:] == ["a", "b"]
    assert texts.row("b") == 6
    assert texts.row("d3") == CORPUS.row("d3")
    assert texts.row("zz") is None
    assert [texts.document(row).text for row in (0, 6)] == ["text 4", "two"]
    assert texts.digest(0) == CORPUS.digest(0) != texts.digest(5) != texts.digest(6)
    assert Extended(CORPUS, ()).fingerprint == CORPUS.fingerprint != texts.fingerprint
    for doc_id in ("d1", "a"):
        with pytest.raises(DataError, match=f"ids of their own; got one twice, such as '{doc_id}'"):
            Extended(CORPUS, [Document("a", "one"), Document(doc_id, "two")])


def test_labels_read_back_as_they_were_written(tmp_path):
    made = Labels.joined([labels("q1", "x", "y", d1=3.0, d2=1.5), labels("q2", d3=-2.0)])
    made.save(tmp_path / "labels")
    found = Labels.load(tmp_path / "labels", CORPUS)
    assert found.digest == made.digest
    assert found.queries == made.queries
    assert found.queries[0].excluded == ("d4",)
    assert found.sources == ("split", "split")
    assert [rows.tolist() for rows in found.positives] == [rows.tolist() for rows in made.positives]
    assert found.origin == made.origin
    assert found.identity == "id"
    assert found.texts.more == made.texts.more
    lines = (tmp_path / "labels" / "labels.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"query_id": "q1", "doc_id": "d1", "score": 3.0}


def test_labels_of_another_corpus_are_refused(tmp_path):
    labels("q1", d1=1.0).save(tmp_path / "labels")
    with pytest.raises(ArtifactError, match="labels of the corpus that is trained on"):
        Labels.load(tmp_path / "labels", Corpus.from_documents([{"_id": "d1", "text": "other"}]))


def test_parts_join_with_each_query_keeping_its_own_dark_examples():
    parts = [labels("q1", "x", d1=3.0), labels("q2", d2=2.0), labels("q3", "y", "z", d3=1.0)]
    made = Labels.joined(parts)
    for part, name in zip(parts, ("q1", "q2", "q3"), strict=True):
        assert made.run.hits(name) == part.run.hits(name)
    assert [rows.tolist() for rows in made.dark] == [[5], [], [6, 7]]
    assert {hit.doc_id for hit in made.candidates.hits("q3")} == {"d3"}
    assert made.candidates.corpus is CORPUS
    assert made.origin.usage == Usage(calls=6, usd=1.5)
    assert made.origin.seconds == 3.0


def test_the_part_of_some_queries_is_what_they_are_alone():
    made = Labels.joined([labels("q1", "x", d1=3.0), labels("q2", d2=2.0), labels("q3", d3=1.0)])
    part = made.part([0, 2])
    assert part.run.query_ids == ("q1", "q3")
    assert [part.run.hits(name) for name in ("q1", "q3")] == [
        made.run.hits(name) for name in ("q1", "q3")
    ]
    assert len(part) == len(part.positives) == len(part.sources) == 2


def test_scores_are_found_by_query_and_passage_and_unknown_ones_are_nan():
    made = Labels.joined([labels("q1", "x", d1=3.0, d2=1.5), labels("q2", d3=-2.0)])
    rows = {doc_id: CORPUS.row(doc_id) for doc_id in CORPUS.doc_ids}
    asked = np.array([[rows["d1"], rows["d3"], 5, -1], [rows["d3"], rows["d1"], 5, rows["d2"]]])
    found = made.of(np.array([0, 1]), asked)
    nan = np.nan
    np.testing.assert_array_equal(found, np.float32([[3.0, nan, 0.5, nan], [-2.0, nan, nan, nan]]))
    swapped = made.of(np.array([1, 0]), asked[::-1])
    np.testing.assert_array_equal(swapped, found[::-1])


def test_the_notes_of_parts_add_up():
    whole = origin(1.0, unread=2) + origin(2.5, unread=1, cut=4)
    assert dict(whole.notes) == {"unread": 3, "cut": 4}
    assert Origin.from_json(json.loads(json.dumps(whole.to_json()))) == whole
