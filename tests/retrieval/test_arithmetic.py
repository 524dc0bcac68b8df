"""bfloat16 in place of float32: about the same vectors, another fingerprint, in torch alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck import Corpus, Dense, MaxSim
from limbeck.errors import UsageError
from limbeck.retrieval.colbert import ColBERT
from limbeck.retrieval.cross_encoder import CrossEncoder
from limbeck.training.students import ColBERTStudent, CrossEncoderStudent, DenseStudent
from limbeck.types import Query
from tests.training import world

pytestmark = pytest.mark.torch

CORPUS = Corpus.from_documents(
    {"_id": str(n), "text": f"tell{n} noise{n % 12} common tell{n // 2}"} for n in range(12)
)
QUERIES = [Query("a", "ask1 common"), Query("b", "tell3 noise4 ask5")]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder of each kind of model, and one of a bare transformer."""
    held = tmp_path_factory.mktemp("arithmetic")
    base = str(world.bert(held / "bare"))
    for name, student in (
        ("sentence", DenseStudent(base=base)),
        ("colbert", ColBERTStudent(base=base, dim=8)),
        ("cross-encoder", CrossEncoderStudent(base=base)),
    ):
        student.load().save_pretrained(str(held / name), create_model_card=False)
    return held


NODES = {
    "a dense folder": lambda place: Dense(encoder=str(place / "sentence"), k=12),
    "a bare transformer": lambda place: Dense(encoder=str(place / "bare"), k=12),
    "maxsim of a folder": lambda place: MaxSim(str(place / "colbert")),
    "maxsim of a transformer": lambda place: MaxSim(str(place / "bare")),
    "a cross-encoder": lambda place: CrossEncoder(str(place / "cross-encoder")),
}


@pytest.mark.parametrize("kind", NODES)
def test_scores_are_about_the_same_and_not_the_same(places, kind):
    plain = NODES[kind](places)
    rounded = dataclasses.replace(plain, arithmetic="bf16")
    found = []
    for node in (plain, rounded):
        bound = node.bind(CORPUS)
        run = bound(QUERIES) if isinstance(node, Dense) else bound(QUERIES, everything())
        order = np.lexsort((run.rows, np.repeat(np.arange(len(run)), np.diff(run.bounds))))
        found.append((run.scores[order], bound.fingerprint))
    (scores, own), (others, other) = found
    spread = np.ptp(scores)
    assert 0 < np.abs(scores - others).max() < 0.05 * spread
    assert own != other


def everything():
    """Return a run of all documents."""
    hits = {query.query_id: [(doc_id, 0.0) for doc_id in CORPUS.doc_ids] for query in QUERIES}
    from limbeck.types import Run

    return Run.from_hits(hits, kind="bm25", corpus=CORPUS)


@pytest.mark.parametrize("node", [Dense, MaxSim, ColBERT])
def test_what_onnxruntime_computes_has_float32(node):
    with pytest.raises(UsageError, match="arithmetic must be fp32 for minilm"):
        node(encoder="minilm", arithmetic="bf16").bind(CORPUS)


@pytest.mark.parametrize("node", [Dense, MaxSim, ColBERT])
def test_another_word_is_refused(node):
    with pytest.raises(UsageError, match="arithmetic must be one of fp32, bf16; got 'int8'"):
        node(encoder="minilm", arithmetic="int8")
