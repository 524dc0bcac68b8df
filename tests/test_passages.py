"""Passages hold every word of their document once, and lead back to it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.passages import by_document, documents_of, passages, spans_of
from limbeck.types import Run

IDS = st.text("ab-!.1", min_size=1, max_size=3)
TEXTS = st.lists(st.sampled_from(["one", "two", "three"]), max_size=9).map(" ".join)


@given(st.dictionaries(IDS, TEXTS, min_size=1, max_size=6), st.integers(1, 4))
def test_the_passages_of_a_document_are_its_words_in_order(texts, words):
    corpus = Corpus.from_documents(
        [{"doc_id": d, "text": text, "title": f"of {d}"} for d, text in texts.items()]
    )
    cut = passages(corpus, words)
    parents = documents_of(cut, corpus)
    assert (np.diff(np.flatnonzero(np.diff(parents, prepend=-1))) > 0).all()
    assert len({*pairwise(parents.tolist())}) <= 2 * len(corpus), "they stand together"
    spans = spans_of(parents)
    for row, doc_id in enumerate(corpus.doc_ids):
        places = np.flatnonzero(parents == row)[::-1]
        assert places[::-1].tolist() == list(range(*spans[row]))
        own = [cut.document(int(place)) for place in places]
        assert " ".join(passage.text for passage in own).split() == texts[doc_id].split()
        assert [len(passage.text.split()) for passage in own[:-1]] == [words] * (len(own) - 1)
        assert {passage.title for passage in own} == {f"of {doc_id}"}


def test_siblings_stand_together_whatever_the_ids_are():
    corpus = Corpus.from_documents(
        [{"doc_id": d, "text": "a b c d e"} for d in ("x", "x!", "x-", "x1", "x10")]
    )
    parents = documents_of(passages(corpus, 2), corpus)
    assert len(parents) == 15
    assert np.count_nonzero(np.diff(parents)) == 4


def test_a_run_of_passages_is_one_of_documents_by_their_best():
    corpus = Corpus.from_documents(
        [{"doc_id": "x", "text": "a b c"}, {"doc_id": "y", "text": "d e"}]
    )
    cut = passages(corpus, 1)
    hits = {"q": [("x#000000", 1.0), ("x#000002", 3.0), ("y#000001", 2.0)], "none": []}
    run = by_document(
        Run.from_hits(hits, kind="bm25", corpus=cut), documents_of(cut, corpus), corpus
    )
    assert run.hits("q") == [("x", 3.0), ("y", 2.0)]
    assert run.hits("none") == []
    assert run.corpus is corpus


def test_what_cannot_be_cut_is_refused():
    corpus = Corpus.from_documents([{"doc_id": "a#1", "text": "a"}])
    with pytest.raises(DataError, match="must have no '#' in its id"):
        passages(corpus, 100)
    with pytest.raises(UsageError, match="1 word or more; got 0"):
        passages(corpus, 0)
    with pytest.raises(UsageError, match="1 passage or more; got 0"):
        passages(corpus, 1, at_most=0)


def test_what_stands_behind_the_last_passage_is_left_out():
    texts = {"x": "a b c d e", "y": "f"}
    corpus = Corpus.from_documents([{"doc_id": d, "text": text} for d, text in texts.items()])
    cut = passages(corpus, 2, at_most=2)
    held = {doc_id: cut.document(row).text for row, doc_id in enumerate(cut.doc_ids)}
    assert held == {"x#000000": "a b", "x#000001": "c d", "y#000000": "f"}
