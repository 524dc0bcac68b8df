"""The weight of a hybrid is the one that is best on the queries it was looked for on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from limbeck.corpus import Corpus
from limbeck.errors import UsageError
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.eval.weights import weighed
from limbeck.pipeline import Retriever
from limbeck.retrieval.fusion import Fuse
from limbeck.types import Qrels, Query, Run

QUERIES = tuple(Query(f"q{n}", f"word{n}") for n in range(4))
DOCUMENTS = [{"doc_id": name, "text": name} for name in ("good", "bad", "worse")]


@dataclass(frozen=True)
class Stated(Retriever):
    """Gives the scores it was given, the same for every query."""

    name: ClassVar[str] = "stated"

    scores: dict[str, float] = field(default_factory=dict)
    index: Any = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        return "dot"

    @property
    def corpus(self):
        return self.index

    def bind(self, corpus):
        return dataclasses.replace(self, index=corpus)

    def retrieve(self, queries, k):
        hits = {query.query_id: list(self.scores.items()) for query in queries}
        return Run.from_hits(hits, kind="dot", corpus=self.index).top(k)


def dataset():
    qrels = Qrels({query.query_id: {"good": 1} for query in QUERIES})
    return Dataset("made", Corpus.from_documents(DOCUMENTS), QUERIES, qrels, "dev")


def legs(factor=1.0):
    """The first puts "bad" first by 1; the second "good", by 2 of its own scores' unit."""
    first = Stated(scores={"bad": 3.0, "good": 2.0, "worse": 0.0})
    second = Stated(scores={"good": 5.0 * factor, "bad": 3.0 * factor, "worse": 1.0 * factor})
    return [first, second]


@pytest.mark.parametrize("factor", [1.0, 1e-3, 400.0])
def test_the_weight_fits_scores_of_any_scale(factor):
    found = weighed(Fuse(legs(factor), method="linear", normalise="none"), dataset())
    first, second = found.fuse.weights
    assert first == 1.0
    assert second * factor * 2.0 > 1.0, "good is above bad"
    run = found.fuse.bind(dataset().corpus)(QUERIES)
    assert evaluate(run, dataset().qrels, ("nDCG@10",)).of("nDCG@10").mean() == 1.0
    tried = list(found.tried.items())
    assert tried == sorted(tried)
    assert tried[0][1] < 1.0 == tried[-1][1], "the outermost were tried"


def test_branches_that_were_run_are_not_run_again():
    fuse = Fuse(legs(), method="linear", normalise="none")
    runs = [leg.bind(dataset().corpus)(QUERIES) for leg in legs()]
    other = Fuse([Stated(), Stated()], method="linear", normalise="none")
    assert weighed(other, dataset(), runs=runs).tried == weighed(fuse, dataset()).tried


def test_of_equal_ones_the_most_even_is_taken():
    found = weighed(Fuse(legs(), method="linear", normalise="minmax"), dataset())
    assert found.fuse.weights == pytest.approx((0.5, 0.5))
    assert found.fuse.kind == "normalised"
    assert len(found.tried) == 19


@pytest.mark.parametrize(
    "fuse",
    [Fuse(legs()), Fuse([*legs(), legs()[0]], method="linear", normalise="none")],
    ids=["rrf", "three"],
)
def test_other_fusions_are_refused(fuse):
    with pytest.raises(UsageError, match="linear fusion of 2 branches"):
        weighed(fuse, dataset())
