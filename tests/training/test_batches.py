"""Batches: every example once an epoch, as many as said, the same again from seed and step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import UsageError
from limbeck.training.batches import NO_PASSAGE, Batch, Batches, Draw
from limbeck.types import Run

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=200).map(np.array)


@given(LENGTHS, st.integers(1, 2000), st.integers(0, 3))
def test_by_tokens_every_example_is_seen_once_and_no_batch_is_too_long(lengths, tokens, epoch):
    batches = Batches(lengths, seed=1, tokens=tokens).epoch(epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(lengths[batch].sum() <= tokens or len(batch) == 1 for batch in batches)


@given(LENGTHS, st.data())
def test_by_examples_all_batches_have_as_many(lengths, data):
    """In-batch negatives are as many as a batch has examples: a smaller one is another loss."""
    n = data.draw(st.integers(1, len(lengths)))
    batches = Batches(lengths, seed=1, examples=n).epoch(0)
    assert {len(batch) for batch in batches} == {n}
    seen = np.concatenate(batches).tolist()
    assert len(set(seen)) == len(seen) == len(lengths) // n * n


@pytest.mark.parametrize("n_examples", [40, 160, 809])
def test_few_examples_are_all_seen_and_in_other_company_each_epoch(n_examples):
    """The longest ones were always those that fill no batch, and batches hardly changed."""
    lengths = np.random.default_rng(0).integers(1, 300, n_examples)
    batches = Batches(lengths, seed=1, examples=16)
    epochs = [batches.epoch(n) for n in range(6)]
    assert len(np.unique(np.concatenate([np.concatenate(epoch) for epoch in epochs]))) == n_examples
    first, second = (
        {(a, b) for batch in epoch for a in batch.tolist() for b in batch.tolist() if a < b}
        for epoch in epochs[:2]
    )
    assert len(first & second) / len(first) < 0.5


def test_examples_of_a_batch_are_of_about_one_length():
    lengths = np.random.default_rng(0).integers(1, 300, 8000)
    batches = Batches(lengths, seed=1, examples=32).epoch(0)
    padded = sum(32 * int(lengths[batch].max()) for batch in batches)
    held = sum(int(lengths[batch].sum()) for batch in batches)
    assert padded / held < 1.05
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.3, "their order is chance"


def test_the_order_follows_from_seed_and_epoch():
    lengths = np.arange(1, 101)

    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(lengths, seed=seed, examples=7)
        batches.epoch(5)
        return np.concatenate(batches.epoch(epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("settings", [{}, {"examples": 2, "tokens": 9}, {"tokens": 0}])
def test_a_batch_is_told_in_one_way(settings):
    with pytest.raises(UsageError, match="so many examples or so many tokens"):
        Batches(np.ones(5, dtype=int), seed=0, **settings)


def test_too_few_examples_are_told():
    with pytest.raises(UsageError, match="must fill a batch of 8 examples; there are 5"):
        Batches(np.ones(5, dtype=int), seed=0, examples=8)


CORPUS = Corpus.from_documents({"_id": str(i), "text": f"t{i}"} for i in range(20))
CANDIDATES = Run.from_hits(
    {
        "a": [(str(i), -float(i)) for i in range(10)],
        "b": [("11", 1.0)],
        "c": [(str(i), -float(i)) for i in range(12, 20)],
    },
    kind="dot",
    corpus=CORPUS,
)
POSITIVES = [np.array([CORPUS.row("15")]), np.array([CORPUS.row("3")]), np.array([0, 1, 2])]


def test_a_positive_first_then_negatives_out_of_the_candidates():
    batch = Draw(POSITIVES, POSITIVES, n_negatives=3, seed=1).batch(
        np.array([1, 0, 2]), 0, CANDIDATES
    )
    assert batch.passages.shape == (3, 4)
    assert [row[0] in POSITIVES[q] for q, row in zip([1, 0, 2], batch.passages, strict=True)] == [
        True
    ] * 3
    assert batch.passages[0, 1:].tolist() == [CORPUS.row("11"), NO_PASSAGE, NO_PASSAGE]
    for place, query in ((1, 0), (2, 2)):
        drawn = batch.passages[place, 1:].tolist()
        assert len(set(drawn)) == 3
        assert set(drawn) <= set(CANDIDATES.rows[CANDIDATES.segment(query)].tolist())


def test_draws_differ_by_epoch_and_not_by_batch():
    draw = Draw(POSITIVES, POSITIVES, n_negatives=3, seed=1)
    alone = draw.batch(np.array([2]), 4, CANDIDATES)
    among = draw.batch(np.array([0, 2, 1]), 4, CANDIDATES)
    assert alone.passages[0].tolist() == among.passages[1].tolist()
    drawn = {tuple(draw.batch(np.array([2]), e, CANDIDATES).passages[0]) for e in range(20)}
    assert len(drawn) > 10


def test_a_passage_of_several_queries_is_one_row():
    passages = np.array([[7, 3], [3, NO_PASSAGE], [9, 7]])
    spared = [np.array([7, 9]), np.array([3]), np.array([9])]
    batch = Batch(np.arange(3), passages, spared)
    assert batch.rows.tolist() == [3, 7, 9]
    assert batch.places.tolist() == [[1, 0], [0, 0], [2, 1]]
    assert batch.held.tolist() == [[True, True], [True, False], [True, True]]
    assert batch.competing.tolist() == [
        [True, True, False],  # the first query spares 9
        [True, True, True],
        [True, True, True],
    ]


def test_without_candidates_there_are_positives_alone():
    batch = Draw(POSITIVES, POSITIVES, n_negatives=0, seed=1).batch(np.array([0, 1]), 0, None)
    assert batch.passages.tolist() == [[CORPUS.row("15")], [CORPUS.row("3")]]
