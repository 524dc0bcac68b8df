"""Passages of one document count once, told apart by id and never by text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.meter import metered
from limbeck.retrieval.dedup import Dedup
from limbeck.retrieval.fusion import Fuse
from limbeck.types import Query, Run
from tests.fakes import Listed

PASSAGES = Corpus.from_documents(
    {"_id": doc_id, "text": "the same words everywhere", "metadata": metadata}
    for doc_id, metadata in {
        "a#1": {"paper": "A"},
        "a#2": {"paper": "A"},
        "a#2#x": {"paper": 7},
        "b#1": {"paper": 7},
        "b": {},
        "c": {"paper": None},
        "#": {"paper": ["A"]},
        "#1": {"paper": "7"},
    }.items()
)


def _run(**hits):
    return Run.from_hits({q: list(h.items()) for q, h in hits.items()}, kind="dot", corpus=PASSAGES)


def _ids(run, query="q"):
    return [hit.doc_id for hit in run.hits(query)]


def test_the_best_passage_of_each_document_stays_with_its_score():
    run = _run(q={"a#1": 3.0, "b#1": 2.5, "a#2": 2.0, "a#2#x": 1.0, "b": 0.5}, r={}, s={"a#2": 1.0})
    made = Dedup()([Query(q, q) for q in "qrs"], run)
    assert made.hits("q") == [("a#1", 3.0), ("b#1", 2.5)]
    assert (_ids(made, "r"), _ids(made, "s")) == ([], ["a#2"])
    assert made.kind == "dot"


def test_equal_texts_are_two_documents():
    made = Dedup()([Query("q", "x")], _run(q={"b": 2.0, "c": 1.0}))
    assert _ids(made) == ["b", "c"]


def test_an_id_that_begins_with_the_separator_is_a_document():
    made = Dedup()([Query("q", "x")], _run(q={"#": 2.0, "#1": 1.0}))
    assert _ids(made) == ["#", "#1"]


def test_another_separator():
    made = Dedup(separator="2")([Query("q", "x")], _run(q={"a#2": 3.0, "a#2#x": 2.0, "a#1": 1.0}))
    assert _ids(made) == ["a#2", "a#1"]


def test_a_field_of_the_metadata_names_the_document():
    hits = {"a#1": 9.0, "a#2": 8.0, "a#2#x": 7.0, "b#1": 6.0, "b": 5.0, "c": 4.0, "#": 3.0, "#1": 2}
    with metered() as meter:
        made = Dedup(metadata="paper")([Query("q", "x")], _run(q=hits))
    assert _ids(made) == ["a#1", "a#2#x", "b", "c", "#", "#1"]  # 7 is not "7", ["A"] not "A"
    message = "dedup: hit without the field 'paper' counts as a document of its own"
    assert meter.notes == {message: 2}


@given(st.lists(st.sampled_from(["a#1", "a#2", "b#1", "b", "c"]), unique=True, max_size=5))
def test_it_is_the_plain_loop_and_a_second_time_changes_nothing(doc_ids):
    run = _run(q={doc_id: float(-i) for i, doc_id in enumerate(doc_ids)})
    seen: set[str] = set()
    expected = [d for d in doc_ids if not (d.split("#")[0] in seen or seen.add(d.split("#")[0]))]
    once = Dedup()([Query("q", "x")], run)
    assert _ids(once) == expected
    assert _ids(Dedup()([Query("q", "x")], once)) == expected


def test_one_doc_id_twice_never_comes_about():
    with pytest.raises(DataError, match="a document may be ranked once"):
        Run.from_hits({"q": [("b", 1.0), ("b", 0.5)]}, kind="dot", corpus=PASSAGES)
    both = Fuse((Listed(("d1", "d2")), Listed(("d2", "d1"))))(["x"])
    assert len(both.hits(0)) == 2


@pytest.mark.parametrize(
    "parameters", [{"separator": ""}, {"metadata": ""}, {"separator": "/", "metadata": "paper"}]
)
def test_wrong_parameters_are_refused(parameters):
    with pytest.raises(UsageError, match="dedup must"):
        Dedup(**parameters)
