"""A network gives what sentence-transformers gives, however it is computed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.errors import UsageError
from limbeck.training.encoding import encoded, representations
from limbeck.training.networks import Computing, joined, network
from limbeck.training.networks.pairs import pair_layout
from limbeck.training.students import ColBERTStudent, CrossEncoderStudent, DenseStudent
from limbeck.types import Query
from tests.training import world

pytestmark = pytest.mark.torch

TEXTS = ["tell1", "tell2 noise1 noise2 , noise3", "noise4 .", "tell3 noise1 tell4 noise5 noise6 ."]
QUERIES = ["ask1 noise2", "ask2", "ask3 noise1 noise3 noise4"]


def corpus():
    return Corpus.from_documents([{"doc_id": f"d{i}", "text": t} for i, t in enumerate(TEXTS)])


def opened(student, **computing):
    made = network(student.load(), Computing(**computing))
    held = corpus()
    made.read(held, [Query(f"q{i}", text) for i, text in enumerate(QUERIES)])
    return made, [held.document(row).text for row in range(len(held))]


def dense(base, **given):
    return DenseStudent(base=str(base), **given)


WAYS = [{}, {"part_tokens": 12}, {"packed": True}, {"packed": True, "part_tokens": 9}]
SHAPES = {
    "mean": {},
    "cls of two towers": {"towers": "two", "pooling": "cls"},
    "normalised": {"normalise": True},
    "layer norm": {"layer_norm": True, "pooling": "cls"},
    "prefixes": {"query_prefix": "noise0 ", "document_prefix": "noise1 "},
    "masks": {
        "masks": True,
        "query_tokens": 12,
        "query_prefix": "[q]",
        "document_prefix": "[d]",
    },
}


@pytest.mark.parametrize("way", [*WAYS, {"few_shapes": True, "part_tokens": 64}], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["base", "roberta"])
def test_a_dense_network_gives_what_the_model_encodes(kind, shape, way, request):
    made, texts = opened(dense(request.getfixturevalue(kind), **SHAPES[shape]), **way)
    for side, given in (("query", QUERIES), ("document", texts)):
        found = encoded(made, side, np.arange(len(given)), label="t")
        wanted = getattr(made.model, f"encode_{side}")(given)
        assert np.abs(found - wanted).max() < 2e-6


OTHERS = {
    "Qwen2": {"num_key_value_heads": 1},
    "MPNet": {},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "ModernBert": {"local_attention": 4, "global_attn_every_n_layers": 2},
    "T5": {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_looks_back_through_a_window_or_at_distances_keeps_its_own_attention(tmp_path, kind):
    base = world.bare(kind, tmp_path, **OTHERS[kind])
    for way in ({}, {"packed": True}):
        made, texts = opened(dense(base), **way)
        own = made.readers[0].model.config._attn_implementation
        found = encoded(made, "document", np.arange(len(texts)), label="t")
        wanted = dense(base).load().encode_document(texts)
        assert np.abs(found - wanted).max() < 2e-6
        assert own != "limbeck"


@pytest.mark.parametrize("kind", ["base", "roberta"])
def test_what_sees_whole_texts_is_packed(kind, request):
    made, _ = opened(dense(request.getfixturevalue(kind)), packed=True)
    assert made.readers[0].model.config._attn_implementation == "limbeck"
    assert made._packed


def test_two_towers_differ_once_they_are_trained_apart(base):
    made, _ = opened(dense(base, towers="two"))
    with torch.no_grad():
        made.readers[0].model.encoder.layer[0].output.dense.bias.normal_()
    sides = [encoded(made, side, np.arange(1), label="t") for side in ("query", "document")]
    assert not np.allclose(sides[0], made.model.encode_document(QUERIES[:1]))
    assert np.allclose(sides[0], made.model.encode_query(QUERIES[:1]), atol=1e-5)


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_colbert_gives_what_the_model_encodes(base, way, attend):
    student = ColBERTStudent(
        base=str(base), dim=8, query_tokens=10, document_tokens=30, attend=attend
    )
    made, texts = opened(student, **way)
    for side, given in (("query", QUERIES), ("document", texts)):
        parts = list(representations(made, side, np.arange(len(given)), label="t"))
        vectors = joined([part for _, part in parts], [places for places, _ in parts])
        wanted = getattr(made.model, f"encode_{side}")(given, convert_to_numpy=True)
        for row, each in enumerate(wanted):
            own = vectors.values[row][vectors.where[row]].numpy()
            assert own.shape == each.shape
            assert np.abs(own - each).max() < 2e-6
    assert made.tables["query"].lengths.tolist() == [10] * 3, "[MASK]s are tokens"
    assert made.tables["query"].attended.all() == attend


def test_colberts_markers_are_one_token_each(base):
    made, _ = opened(ColBERTStudent(base=str(base), query_tokens=10))
    ids = made.tables["query"].ids[:2].tolist()
    assert made.model.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "[unused0]"]


@pytest.mark.parametrize("max_tokens", [64, 9, 8])
@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_a_cross_encoder_gives_what_the_model_predicts(base, way, max_tokens):
    made, texts = opened(CrossEncoderStudent(base=str(base), max_tokens=max_tokens), **way)
    pairs = np.array([(q, d) for q in range(3) for d in range(4)])
    found = encoded(made, "pair", pairs, label="t")
    with torch.no_grad():
        wanted = made.model.predict(
            [(QUERIES[q], texts[d]) for q, d in pairs], activation_fn=torch.nn.Identity()
        )
    assert np.abs(found[:, 0] - wanted).max() < 2e-6


def test_a_tokenizer_whose_pairs_are_other_tokens_is_refused():
    def tokenizer(first, second=None, **_):
        return {"input_ids": [1] if second is None else [2, 3], "token_type_ids": [0, 1]}

    with pytest.raises(UsageError, match="the same tokens in a pair and alone"):
        pair_layout(tokenizer, 64)


@pytest.mark.parametrize(
    "student",
    [DenseStudent, partial(ColBERTStudent, dim=8, query_tokens=10), CrossEncoderStudent],
)
def test_a_second_run_finds_the_tokens_of_the_first(base, student, monkeypatch, tmp_path):
    """What the last call had set of the tokenizer was part of their name."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    corpus = Corpus.from_documents({"_id": f"d{n}", "text": TEXTS[0]} for n in range(3))
    for _ in range(2):
        held = network(student(base=str(base)).load(), Computing())
        for _ in range(2):
            held.read(corpus, [Query("q", "ask1")])
    assert len([path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]) == 2


def test_with_few_shapes_there_are_few(base):
    made, _ = opened(dense(base), few_shapes=True, part_tokens=64)
    shapes: set[tuple[int, ...]] = set()
    inner = made.readers[0].model
    real = inner.forward

    def forward(*args, **values):
        shapes.add(tuple(values["input_ids"].shape))
        return real(*args, **values)

    inner.forward = forward
    for rows in ([0], [1], [0, 1, 2, 3], [3, 2]):
        encoded(made, "document", np.array(rows), label="t")
    assert shapes == {(4, 16)}


def test_bf16_keeps_weights_and_vectors_in_float32(base):
    made, _ = opened(dense(base), precision="bf16")
    ((_, part),) = representations(made, "document", np.arange(4), label="t")
    assert part.values.dtype == torch.float32
    assert {weight.dtype for weight in made.model.parameters()} == {torch.float32}
