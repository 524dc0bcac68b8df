"""Negatives found anew: of some queries in turn, what is spared taken out, what lacks told."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.retrieval.bm25 import BM25
from limbeck.training import negatives
from limbeck.training.examples import Examples
from limbeck.training.negatives import first_negatives, refreshed
from limbeck.training.recipe import Negatives, Refresh
from limbeck.types import Query, Run

CORPUS = Corpus.from_documents({"_id": str(i), "text": f"word t{i}"} for i in range(10))
QUERIES = (
    Query("2", "word t2", excluded=("2",)),
    Query("5", "word t5", excluded=("5",)),
    Query("none", "nothing"),
)
POSITIVES = tuple(np.array([CORPUS.row(doc_id)]) for doc_id in ("3", "6", "7"))
EXAMPLES = Examples(CORPUS, QUERIES, POSITIVES)


@pytest.fixture
def searched(monkeypatch):
    """Every search finds all documents, the nearest number first."""
    asked: list[tuple[list[str], int]] = []

    def found(network, places, ids, pool, *, k, corpus):
        asked.append((list(ids), k))
        near = {q: 2.0 if q == "none" else float(q) for q in ids}
        hits = {q: [(d, -abs(int(d) - n)) for d in corpus.doc_ids] for q, n in near.items()}
        return Run.from_hits(hits, kind="dot", corpus=corpus).top(k)

    monkeypatch.setattr(negatives, "searched", found)
    return asked


def ids(run: Run) -> dict[str, set[str]]:
    return {query_id: {hit.doc_id for hit in hits} for query_id, hits in run.items()}


def test_what_a_query_excludes_is_no_negative_when_they_are_found_anew(searched):
    """A query that is a document finds itself first: its own text was its negative."""
    wanted = Negatives(of=BM25(), n=1, depth=3, kept=2, refresh=Refresh(every=1, depth=2))
    held = first_negatives(EXAMPLES, wanted, seed=0).run
    made = refreshed(None, EXAMPLES, wanted, held, generation=0, seed=0)
    assert searched == [(["2", "5", "none"], 4)], "two hits, the positive and the excluded one"
    assert ids(made.run) == {"2": {"1", "4"}, "5": {"4", "7"}, "none": {"2", "3"}}
    assert made.notes == {}


def test_the_first_hits_are_kept_where_it_says_so(searched):
    refresh = Refresh(every=1, depth=5, pick="top")
    wanted = Negatives(of=BM25(), n=1, depth=20, kept=1, refresh=refresh)
    held = first_negatives(EXAMPLES, wanted, seed=0).run
    for generation in range(3):
        made = refreshed(None, EXAMPLES, wanted, held, generation=generation, seed=0)
        assert ids(made.run) == {"2": {"1"}, "5": {"4"}, "none": {"2"}}


def test_a_part_is_found_anew_and_what_it_lacks_is_counted(searched):
    wanted = Negatives(of=BM25(), n=1, depth=20, kept=9, refresh=Refresh(every=1, depth=9, parts=2))
    first = first_negatives(EXAMPLES, wanted, seed=0)
    assert list(first.notes.values()) == [1 + 1 + 9]
    second = refreshed(None, EXAMPLES, wanted, first.run, generation=0, seed=0)
    assert searched[0][0] == ["2", "none"]
    assert ids(second.run)["5"] == ids(first.run)["5"]
    assert ids(first.run)["none"] == set()
    assert ids(second.run)["none"] == {*CORPUS.doc_ids} - {"7"}
    assert second.notes == dict.fromkeys(first.notes, 1), "the other one excludes itself"
