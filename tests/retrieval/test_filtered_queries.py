"""doc2query--: one threshold for all documents, whatever scores the queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from limbeck.corpus import Corpus
from limbeck.errors import CheckError, DataError, UsageError
from limbeck.pipeline import Top
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.expansion import Written
from limbeck.retrieval.filtered_queries import FilteredQueries
from limbeck.retrieval.scorer import Scorer
from limbeck.types import Query, Run
from tests.retrieval.test_expansion import Known

CORPUS = Corpus.from_documents(
    [
        {"_id": "a", "text": "lion lion lion zebra"},
        {"_id": "b", "text": "grass"},
        {"_id": "c", "text": "lion"},
        {"_id": "d", "text": ""},
    ]
)
OF = Known(
    (
        ("a", ("lion", "lion zebra", "sea", "lion")),
        ("b", ("grass lion", "sea")),
        ("c", ("lion",)),
    )
)


@dataclass(frozen=True)
class Overlap(Scorer):
    """Scores by the share of the document's words that stand in the query; counts the pairs."""

    name: ClassVar[str] = "overlap"

    scale: float = 1.0
    pairs: list[int] = field(default_factory=list, compare=False)

    @property
    def kind(self) -> str:
        return "overlap"

    def scores(self, queries: Sequence[Query], run: Run):
        self.pairs.append(len(run.rows))
        assert np.diff(run.bounds).tolist() == [1] * len(queries)
        rows = run.rows.tolist()
        return np.array([self._one(q, run, r) for q, r in zip(queries, rows, strict=True)], "f4")

    def _one(self, query, run, row):
        words = run.corpus.document(row).text.split()
        return self.scale * sum(word in query.text.split() for word in words) / len(words)


def _kept(node):
    written = node.write(CORPUS)
    return dict(zip(CORPUS.doc_ids, written, strict=True))


def test_the_best_share_of_all_queries_is_kept_by_one_threshold():
    # a: .75, 1, 0, .75; b: 1, 0; c: 1. Of 7 the best 3 are those at 1.
    kept = _kept(FilteredQueries(OF, Overlap(), keep=3 / 7))
    assert kept["a"] == Written(("lion zebra",), (1.0,))
    assert kept["b"] == Written(("grass lion",), (1.0,))
    assert kept["c"] == Written(("lion",), (1.0,))
    assert kept["d"] == Written()


def test_queries_at_the_threshold_are_all_kept_and_a_document_may_lose_all():
    kept = _kept(FilteredQueries(OF, Overlap(), keep=4 / 7))
    assert kept["a"] == Written(("lion", "lion zebra", "lion"), (0.75, 1.0, 0.75))
    negative = _kept(FilteredQueries(OF, Overlap(scale=-1.0), keep=2 / 7))
    assert negative["a"].texts == ("sea",)
    assert negative["c"].texts == ()


def test_keep_one_keeps_all_with_their_scores():
    kept = _kept(FilteredQueries(OF, Overlap(), keep=1.0))
    assert {d: each.texts for d, each in kept.items() if each.texts} == dict(OF.texts)
    assert kept["a"].scores == (0.75, 1.0, 0.0, 0.75)


def test_the_papers_share_is_the_default():
    assert FilteredQueries(OF, Overlap()).keep == 0.3


def test_equal_pairs_are_scored_once_and_what_was_scored_is_remembered():
    scorer = Overlap()
    _kept(FilteredQueries(OF, scorer))
    assert scorer.pairs == [6]  # "lion" of a stands twice
    _kept(FilteredQueries(OF, scorer, keep=0.9))
    assert scorer.pairs == [6]
    more = Known((*OF.texts[:2], ("c", ("lion", "king"))))
    _kept(FilteredQueries(more, scorer))
    assert scorer.pairs == [6, 2]
    other = Overlap(scale=2.0)
    _kept(FilteredQueries(OF, other))
    assert other.pairs == [6]


def test_scores_stand_beside_the_queries_of_an_index(tmp_path):
    node = BM25.index(
        CORPUS, path=tmp_path / "index", expansion=FilteredQueries(OF, Overlap(), keep=0.4)
    )
    assert node.expansions().of("b") == Written(("grass lion",), (1.0,))
    assert BM25.load(tmp_path / "index").expansions().of("b").scores == (1.0,)
    assert node(["sea"]).hits(0) == []


def test_nothing_written_is_nothing_filtered():
    assert _kept(FilteredQueries(Known(()), Overlap()))["a"] == Written()


def test_a_scorer_that_tells_nothing_apart_is_refused():
    with pytest.raises(DataError, match=r"overlap must tell queries apart.*0 to all 6 pairs"):
        _kept(FilteredQueries(OF, Overlap(scale=0.0)))
    same = Known((("a", ("lion", "lion")),))
    assert len(_kept(FilteredQueries(same, Overlap()))["a"].texts) == 2


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="the scores of overlap must be finite"):
        _kept(FilteredQueries(OF, Overlap(scale=float("nan"))))


def test_other_filters_are_other_indexes_and_the_expander_is_examined():
    base = FilteredQueries(OF, Overlap())
    others = [
        dataclasses.replace(base, keep=0.5),
        dataclasses.replace(base, by=Overlap(scale=2.0)),
        dataclasses.replace(base, of=Known()),
    ]
    assert len({node.origin for node in (base, *others)}) == 4
    assert len({node.fingerprint for node in (base, *others)}) == 4
    with pytest.raises(CheckError, match="no step of a pipeline"):
        (BM25() >> base).check()
    assert BM25(expansion=base).problems() == ()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"keep": 0.0}, "keep of doc2query-- must lie in"),
        ({"by": Top(3)}, "must have an expander as `of` and a reranker that scores each hit"),
        ({"of": BM25()}, "must have an expander as `of`"),
    ],
)
def test_wrong_parameters_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        FilteredQueries(**{"of": OF, "by": Overlap(), **parameters})
