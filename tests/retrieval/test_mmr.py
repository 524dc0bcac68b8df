"""MMR beside the paper's definition as a loop, and what it does to duplicates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.pipeline import Given, Retriever
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.mmr import MMR
from limbeck.types import Query, Run
from tests.fakes import CORPUS, Listed, run_of, same


@dataclass(frozen=True)
class Vectors(Retriever):
    """An index of vectors by row of CORPUS, here of any length."""

    name: ClassVar[str] = "vectors"

    matrix: np.ndarray = field(default_factory=lambda: np.eye(10, dtype=np.float32), compare=False)
    corpus: Corpus = field(default=CORPUS, compare=False)
    kind: ClassVar[str] = "dot"

    def retrieve(self, queries, k):
        raise AssertionError("MMR searches nothing")

    def encode(self, queries):
        raise AssertionError("MMR encodes nothing")

    def vectors(self, rows):
        return self.matrix[rows]


def _naive(scores, vectors, lambda_, k):
    """The paper's loop, one document at a time, over hits in any order: rows that are chosen."""
    low, high = min(scores.values()), max(scores.values())
    relevance = {r: (s - low) / (high - low) if high > low else 1.0 for r, s in scores.items()}

    def cosine(one, other):
        length = np.linalg.norm(vectors[one]) * np.linalg.norm(vectors[other])
        return max(0.0, float(vectors[one] @ vectors[other] / length)) if length else 0.0

    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):

        def worth(row):
            return lambda_ * relevance[row] - (1 - lambda_) * max(
                [cosine(row, other) for other in chosen], default=0.0
            )

        left = sorted(set(scores) - set(chosen))
        chosen.append(max(left, key=lambda row: (round(worth(row), 6), -row)))
    return chosen


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), diversity=st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_it_is_the_papers_loop(seed, diversity):
    dice = np.random.default_rng(seed)
    matrix = dice.normal(size=(10, 3)).astype(np.float32)
    scores = dict(enumerate(dice.normal(size=10).tolist()))
    run = run_of({"q": {CORPUS.doc_ids[row]: score for row, score in scores.items()}}, "logit")
    made = MMR(Vectors(matrix), diversity=diversity, k=6)([Query("q", "x")], run)
    expected = _naive(scores, matrix, 1 - diversity, 6)
    assert [hit.doc_id for hit in made.hits("q")] == [CORPUS.doc_ids[row] for row in expected]
    assert made.kind == "mmr"


def test_worths_are_computed_by_hand():
    matrix = np.zeros((10, 2), dtype=np.float32)
    rows = {name: CORPUS.row(name) for name in ("d1", "d2", "d3")}
    matrix[rows["d1"]], matrix[rows["d2"]], matrix[rows["d3"]] = (2, 0), (1, 0), (0.6, 0.8)
    run = run_of({"q": {"d1": 10.0, "d2": 9.0, "d3": 5.0}})
    hits = MMR(Vectors(matrix), diversity=0.5)([Query("q", "x")], run).hits("q")
    # d2 repeats d1: .5 * .8 - .5 * 1; d3 is at .6 of d1 (and d2): .5 * 0 - .5 * .6
    assert [hit.doc_id for hit in hits] == ["d1", "d2", "d3"]
    assert [hit.score for hit in hits] == pytest.approx([0.5, -0.1, -0.3])


def test_a_duplicate_is_pushed_down():
    matrix = np.eye(10, dtype=np.float32)
    matrix[CORPUS.row("d2")] = matrix[CORPUS.row("d1")]
    run = run_of({"q": {"d1": 10.0, "d2": 9.9, "d3": 6.0, "d4": 1.0}})
    hits = MMR(Vectors(matrix), diversity=0.5)([Query("q", "x")], run).hits("q")
    assert [hit.doc_id for hit in hits] == ["d1", "d3", "d4", "d2"]


def test_no_diversity_keeps_the_order():
    dice = np.random.default_rng(0)
    run = run_of({"q": {f"d{n}": float(s) for n, s in enumerate(dice.normal(size=10))}}, "dot")
    matrix = dice.normal(size=(10, 4)).astype(np.float32)
    made = MMR(Vectors(matrix), diversity=0.0)([Query("q", "x")], run)
    assert made.rows.tolist() == run.rows.tolist()


def test_depth_and_k_cut_and_a_smaller_k_is_the_beginning():
    run = run_of({"q": {f"d{n}": float(n) for n in range(10)}, "r": {}, "s": {"d1": 1.0}})
    queries = [Query(name, name) for name in "qrs"]
    node = MMR(Vectors(), depth=6, k=4)
    made = node(queries, run)
    assert np.diff(made.bounds).tolist() == [4, 0, 1]
    assert set(made.hits("q")) <= set(MMR(Vectors(), depth=6)(queries, run).hits("q"))
    assert same(node.top(2)(queries, run), made.top(2))
    assert {h.doc_id for h in made.hits("q")} <= {f"d{n}" for n in range(4, 10)}


def test_equal_scores_and_documents_without_a_vector():
    run = run_of({"q": {"d1": 3.0, "d2": 3.0, "d3": 3.0}})
    made = MMR(Vectors(np.zeros((10, 2), dtype=np.float32)))([Query("q", "x")], run)
    assert made.rows.tolist() == run.rows.tolist()  # nothing repeats: all are worth the same
    assert made.scores.tolist() == pytest.approx([0.7] * 3)


def test_scores_never_rise_whatever_the_cosines():
    matrix = np.array([[1, 0], [-1, 0]] * 5, dtype=np.float32)
    run = run_of({"q": {f"d{n}": 1.0 for n in range(10)}})
    made = MMR(Vectors(matrix), diversity=1.0)([Query("q", "x")], run)
    assert (np.diff(made.scores) <= 0).all()


def test_an_index_of_another_corpus_is_refused_at_check_and_at_run():
    other = Corpus.from_documents([{"_id": "x", "text": "y"}])
    node = MMR(Vectors(corpus=other))
    run = run_of({"q": {"d1": 1.0}})
    with pytest.raises(DataError, match="must read a run over the corpus of its index"):
        node([Query("q", "x")], run)
    problems = []
    node.examine(Given("bm25", CORPUS.fingerprint), "here", problems)
    assert "mmr reads a run over the corpus" in str(problems[0])
    assert not (Listed(("d1",)) >> MMR(Vectors())).problems()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"diversity": 1.5}, "diversity must lie in"),
        ({"k": 0}, "depth and k of mmr must be 1 or more"),
        ({"depth": 0}, "depth and k of mmr must be 1 or more"),
    ],
)
def test_wrong_parameters_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        MMR(Vectors(), **parameters)


def test_an_index_without_vectors_is_refused():
    with pytest.raises(UsageError, match="must be a node such as dense; got BM25"):
        MMR(BM25())


def test_the_run_that_is_read_stays_as_it_is():
    run = run_of({"q": {"d1": 2.0, "d2": 1.0}})
    before = run.digest()
    assert isinstance(MMR(Vectors())([Query("q", "x")], run), Run)
    assert run.digest() == before
