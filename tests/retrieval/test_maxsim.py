"""The MaxSim node on small documents, each score beside the formula."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.errors import DataError, UsageError
from limbeck.retrieval import maxsim
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.fusion import Fuse
from limbeck.retrieval.maxsim import MaxSim
from limbeck.types import Expansion, Query, Run
from tests.fakes import same
from tests.retrieval.fake_token_encoder import FakeTokenEncoder

QUERIES = [
    Query("q1", "inverted index of documents"),
    Query("q2", "dense retriever vectors"),
    Query("q3", ""),
    Query("q4", "rank fusion"),
]


@pytest.fixture
def encoder(monkeypatch) -> FakeTokenEncoder:
    made = FakeTokenEncoder()
    monkeypatch.setattr(maxsim, "open_token_encoder", lambda settings: made)
    return made


@pytest.fixture
def everything(mini_corpus) -> Run:
    """A run in which every query has every document."""
    hits = {q.query_id: [(d, 1.0) for d in mini_corpus.doc_ids] for q in QUERIES}
    return Run.from_hits(hits, kind="bm25", corpus=mini_corpus)


def formula(query: str, document: str) -> float:
    fake = FakeTokenEncoder()
    products = fake.of(query) @ fake.of(document).T
    return float(products.max(axis=1).sum()) if products.size else -float(len(products))


@pytest.mark.parametrize(
    ("precision", "near"),
    [("float32", 1e-5), ("float16", 1e-2), ("int8", 0.1), ("int4", 0.5)],
)
def test_scores_are_the_formula(precision, near, encoder, everything, mini_corpus):
    run = MaxSim(precision=precision)(QUERIES, everything)
    assert run.kind == "maxsim"
    for query in QUERIES:
        for doc_id, score in run.hits(query.query_id):
            document = mini_corpus.document(mini_corpus.row(doc_id))
            assert score == pytest.approx(formula(query.text, document.contents), abs=near)


def test_a_tail_is_kept_by_fusion_with_the_first_stage(encoder, mini_corpus):
    """The pages say how; without it, hits beyond a depth of 100 are lost."""
    first = BM25.index(mini_corpus)
    reranked = first >> MaxSim(depth=1)
    whole = Fuse([first, reranked], method="linear", normalise="minmax")
    asked = "inverted index of documents"
    n_hits = [len(node(asked).hits(0)) for node in (first, reranked, whole)]
    assert n_hits[1] == 1 < n_hits[0] == n_hits[2]
    assert MaxSim().depth == 100


def test_deeper_hits_are_dropped(encoder, everything):
    run = MaxSim(depth=3)(QUERIES, everything)
    assert np.diff(run.bounds).tolist() == [3] * 4
    for query in QUERIES:
        read = {doc_id for doc_id, _ in everything.hits(query.query_id)[:3]}
        assert {doc_id for doc_id, _ in run.hits(query.query_id)} == read


def test_a_blank_query_scores_nothing(encoder, everything):
    scores = [hit.score for hit in MaxSim()(QUERIES, everything).hits("q3")]
    assert not any(scores)


def test_expansions_are_not_compared(encoder, everything):
    expanded = [query.expanded(Expansion(("other words",))) for query in QUERIES]
    assert same(MaxSim()(expanded, everything), MaxSim()(QUERIES, everything))


def test_each_document_is_encoded_once(encoder, everything, mini_corpus):
    node = BM25().bind(mini_corpus) >> MaxSim()
    node(QUERIES)
    seen = list(encoder.seen)
    assert seen
    assert len(seen) == len(set(seen))
    MaxSim()(QUERIES, everything)
    assert len(encoder.seen) == len(set(mini_corpus.digests))
    MaxSim(depth=5)(QUERIES, everything)
    assert len(encoder.seen) == len(set(mini_corpus.digests))


def test_precisions_do_not_share_their_vectors(encoder, everything):
    for precision in ("float32", "float16", "int2"):
        MaxSim(precision=precision)(QUERIES, everything)
    assert len(encoder.seen) == 3 * len(set(encoder.seen))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_vectors_that_are_not_finite_are_refused_and_not_kept(
    precision, encoder, everything, mini_corpus, monkeypatch
):
    """A NaN among halves made a score of 81177, and lay in the cache for ever."""
    node, real = MaxSim(precision=precision), FakeTokenEncoder.of
    broken = mini_corpus.document(1)

    def nan_for(wrong):
        return lambda self, text: real(self, text) * (np.nan if text == wrong else 1.0)

    monkeypatch.setattr(FakeTokenEncoder, "of", nan_for(broken.contents))
    with pytest.raises(DataError, match=f"those of document {broken.doc_id!r} are not"):
        node(QUERIES, everything)
    monkeypatch.setattr(FakeTokenEncoder, "of", real)
    assert node(QUERIES, everything).scores.max() < 5.0
    monkeypatch.setattr(FakeTokenEncoder, "of", nan_for(QUERIES[1].text))
    with pytest.raises(DataError, match="those of query 'q2' are not; look at the encoder"):
        node(QUERIES, everything)


def test_another_encoder_is_another_fingerprint_once_it_is_found(encoder, monkeypatch):
    bound = MaxSim().bind(None)
    assert MaxSim().fingerprint == MaxSim().fingerprint != bound.fingerprint
    other = FakeTokenEncoder(name="other")
    monkeypatch.setattr(maxsim, "open_token_encoder", lambda settings: other)
    assert MaxSim().bind(None).fingerprint != bound.fingerprint
    assert MaxSim().origin == MaxSim().bind(None).fingerprint != bound.origin


def test_a_node_finds_its_encoder_once(encoder, everything, monkeypatch):
    """Where it is not bound, each call read all weights again, for their digest."""
    asked = []
    monkeypatch.setattr(maxsim, "open_token_encoder", lambda s: asked.append(s) or encoder)
    node = MaxSim()
    for _ in range(3):
        node(QUERIES, everything)
    assert len(asked) == 1


def test_wrong_parameters_are_refused():
    for wrong in ({"precision": "int3"}, {"depth": 0}, {"query_tokens": 2}, {"encoder": " "}):
        with pytest.raises(UsageError, match="must be"):
            MaxSim(**wrong)
