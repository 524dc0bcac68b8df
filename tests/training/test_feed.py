"""The feed: who is trained on, in which order, and that a refresh changes neither."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.errors import DataError
from limbeck.meter import metered
from limbeck.retrieval.bm25 import BM25
from limbeck.training.batches import NO_PASSAGE
from limbeck.training.candidates import Candidates
from limbeck.training.examples import Examples
from limbeck.training.feed import Feed
from limbeck.training.networks import Vectors
from limbeck.training.objectives.ance import ANCE
from limbeck.training.objectives.dpr import DPR
from limbeck.training.recipe import BatchSize, Negatives, Recipe
from limbeck.training.students import DenseStudent
from limbeck.training.tokens import TokenTable
from limbeck.types import Query, Run

CORPUS = Corpus.from_documents({"_id": f"{i:02}", "text": f"t{i}"} for i in range(40))
EXAMPLES = Examples(
    CORPUS,
    tuple(Query(str(i), f"t{i}") for i in range(10)),
    tuple(np.array([i, 10 + i]) for i in range(10)),
)
LENGTHS = np.concatenate([np.full(20, 10), np.full(20, 120)])
"""Tokens of each document: the positives are short, the negatives long."""


def run(counts: list[int], first: int = 20) -> Run:
    """Return candidates: so many of each query, from a row of the corpus on."""
    bounds = np.cumsum([0, *counts])
    rows = np.concatenate([first + np.arange(count) for count in counts]).astype(np.int32)
    ids = tuple(query.query_id for query in EXAMPLES.queries)
    return Run(ids, bounds, rows, -rows.astype(np.float32), "dot", CORPUS)


def table(lengths) -> TokenTable:
    return TokenTable.of([np.zeros(length, dtype=np.int64) for length in lengths])


def feed(folder, *versions: Run, objective=None, **size) -> Feed:
    candidates = Candidates(folder, CORPUS)
    for version in versions:
        candidates.publish(version, made_by="test")
    recipe = Recipe(
        objective=objective or ANCE(),
        model=DenseStudent(base="none"),
        negatives=Negatives(of=BM25(), n=2),
        batch=BatchSize(**size),
        epochs=1,
    )
    return Feed(recipe, EXAMPLES, table([5] * 10), table(LENGTHS), candidates)


def test_queries_without_a_negative_are_left_out_where_they_are_needed(tmp_path):
    """One batch of them ended a run, at the same step each time."""
    with metered() as meter:
        made = feed(tmp_path, run([3, 0, 3, 0, 0, 3, 3, 3, 3, 3]), examples=1)
    made.adopt(1)
    seen = [made.next() for _ in range(7)]
    assert sorted(int(batch.queries[0]) for batch in seen) == [0, 2, 5, 6, 7, 8, 9]
    assert all(batch.held.all() for batch in seen)
    assert made.steps(1, 1) == 7
    assert next(n for told, n in meter.notes.items() if "is left out, as ance needs" in told) == 3


def test_a_method_that_does_without_trains_on_all(tmp_path):
    made = feed(tmp_path, run([3, 0] * 5), objective=DPR(), examples=10)
    assert sorted(made.next().queries.tolist()) == list(range(10))


def test_where_no_query_has_one_it_is_told(tmp_path):
    with pytest.raises(DataError, match=r"ance must have hard negatives; none of the 10 queries"):
        feed(tmp_path, run([0] * 10), examples=2)


@pytest.mark.parametrize("objective", [ANCE(), ANCE(in_batch=True)])
def test_a_batch_that_a_refresh_left_without_pairs_teaches_nothing(tmp_path, objective):
    made = feed(tmp_path, run([3] * 10), run([0] * 10), objective=objective, examples=4)
    made.adopt(2)
    batch = made.next()
    assert (batch.passages[:, 1:] == NO_PASSAGE).all()
    vectors = {
        name: Vectors(torch.ones(n, 3, requires_grad=True))
        for name, n in (("queries", 4), ("passages", len(batch.rows)))
    }
    loss = objective.loss(batch, vectors)
    loss.backward()
    gradients = [held.values.grad for held in vectors.values()]
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if not objective.in_batch:
        assert loss.item() == 0.0
        assert not any(gradient.any() for gradient in gradients)


def test_a_negative_counts_as_long_as_candidates_are(tmp_path):
    """Counted as long as the positive, an example of 255 tokens was one of 35."""
    made = feed(tmp_path, run([3] * 10), tokens=600)
    made.adopt(1)
    batches = [made.next() for _ in range(5)]
    assert sorted(np.concatenate([batch.queries for batch in batches])) == list(range(10))
    for batch in batches:
        tokens = 5 * len(batch.queries) + LENGTHS[batch.passages].sum()
        assert tokens == 2 * 255 <= 600


def test_a_refresh_changes_neither_the_order_nor_who_is_in_it(tmp_path):
    first = run([3, 0, 3, 3, 1, 3, 3, 3, 3, 3])
    later = run([0, 4, 2, 2, 2, 2, 2, 2, 2, 2], first=9)
    made = feed(tmp_path / "a", first, later, tokens=600)
    made.adopt(1)
    order = [made.next().queries.tolist() for _ in range(12)]
    again = feed(tmp_path / "a", tokens=600)
    again.adopt(1)
    found = [again.next().queries.tolist() for _ in range(3)]
    again.adopt(2)
    found += [again.next().queries.tolist() for _ in range(4)]
    resumed = feed(tmp_path / "a", tokens=600)
    resumed.load_state(again.state())
    assert found + [resumed.next().queries.tolist() for _ in range(5)] == order
