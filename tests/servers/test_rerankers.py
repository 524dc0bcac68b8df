"""Rerankers with a real small model in llama.cpp: SmolLM2-135M proves plumbing, not quality."""

from __future__ import annotations

import pytest

from limbeck.agents.listwise import Listwise
from limbeck.agents.pointwise import Pointwise
from limbeck.agents.setwise import Setwise
from limbeck.meter import metered
from limbeck.pipeline import Reranker
from limbeck.retrieval.bm25 import BM25

pytestmark = pytest.mark.servers


def _reranked(bm25: BM25, node: Reranker):
    """Return the run, after the check, and what was noted."""
    pipeline = bm25 >> node
    pipeline.check()
    with metered() as meter:
        run = pipeline(["when does water boil"])
    assert sorted(hit.doc_id for hit in run.hits(0)) == ["0", "1", "2"]
    assert 0 < meter.usage.calls <= pipeline.estimate(1).calls
    assert meter.usage.prompt_tokens <= pipeline.estimate(1).prompt_tokens
    return run, meter.notes


def test_yes_or_no_has_a_log_probability_for_each_hit(smollm2, bm25):
    run, notes = _reranked(bm25, Pointwise(smollm2, depth=3, passage_tokens=100))
    assert notes == {}
    scores = run.scores.tolist()
    assert all(0 < score < 1 for score in scores)
    assert len({round(score, 4) for score in scores}) == 3  # real ones, not ties told apart
    again, _ = _reranked(bm25, Pointwise(smollm2, depth=3, passage_tokens=100))
    assert again.scores.tolist() == scores


def test_grades_are_expected_ones(smollm2, bm25):
    run, notes = _reranked(bm25, Pointwise(smollm2, method="graded", depth=3, passage_tokens=100))
    assert notes == {}
    assert all(0 < score < 3 for score in run.scores.tolist())


def test_a_letter_has_a_log_probability(smollm2, bm25):
    _, notes = _reranked(bm25, Setwise(smollm2, read="logprobs", depth=3, passage_tokens=100))
    assert notes == {}


def test_one_listwise_window(smollm2, bm25):
    run, notes = _reranked(bm25, Listwise(smollm2, window=3, step=1, depth=3, passage_tokens=100))
    assert run.scores.tolist() == [3.0, 2.0, 1.0]
    assert all(message.startswith("listwise: ") for message in notes)
