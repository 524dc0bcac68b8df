"""An exported model is loaded without torch, and elsewhere, and gives the same vectors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("onnxscript", reason="the extra training is not installed")
onnx = pytest.importorskip("onnx", reason="the extra training is not installed")

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, TrainingError, UsageError
from limbeck.retrieval.encoders.conventions import Settings, write_own
from limbeck.retrieval.encoders.minilm import sentence_transformers_minilm
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.training import export
from limbeck.training.export import export_onnx
from limbeck.training.students import ColBERTStudent, DenseStudent
from limbeck.types import Document
from tests.command import run
from tests.training import world

pytestmark = pytest.mark.torch

SHAPES = {
    "mean": {},
    "cls, cosine": {"pooling": "cls", "normalise": True},
    "short documents": {"document_tokens": 7},
    "lengths and prefixes": {
        "query_tokens": 5,
        "document_tokens": 7,
        "query_prefix": "noise0 ",
        "document_prefix": "noise1 ",
    },
}


def saved(student, folder):
    student.load().save_pretrained(str(folder), create_model_card=False)
    return folder


def cosine(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["base", "roberta"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_gives_the_vectors_of_its_source(request, folder, tmp_path, kind, shape, precision):
    student = DenseStudent(base=str(request.getfixturevalue(kind)), **SHAPES[shape])
    source = saved(student, tmp_path / "source")
    told = export_onnx(source, tmp_path / "out", precision=precision)
    least = {"fp32": 0.99999, "int8": 0.99}[precision]
    assert told["least_cosine"] > least
    own = open_encoder(Settings(str(source), similarity="dot"))
    made = open_encoder(Settings(str(tmp_path / "out"), similarity="dot"))
    assert type(made).__name__ == "OnnxEncoder"
    corpus = Corpus.load(folder / "corpus.jsonl")
    documents = [corpus.document(row) for row in range(12)]
    assert cosine(made.encode_documents(documents), own.encode_documents(documents)).min() > least
    queries = ["ask1 noise2 common noise3 noise4 noise5", "ask2"]
    assert cosine(made.encode_queries(queries), own.encode_queries(queries)).min() > least


@pytest.mark.parametrize("name", ["e5-small", "bge-small-en", "contriever", "plain"])
def test_it_may_bear_any_name(base, tmp_path, name):
    """Before, the table of names gave an E5 prefixes and 512 tokens, behind the parity's back."""
    given = {"document_tokens": 9, "query_prefix": "noise1 ", "normalise": True}
    source = saved(DenseStudent(base=str(base), **given), tmp_path / "source")
    write_own(source, title_separator=" , ")
    (source / "README.md").write_text("of the model")
    export_onnx(source, tmp_path / name, precision="fp32")
    own, made = (open_encoder(Settings(str(tmp_path / n))) for n in ("source", name))
    assert (made.similarity, made.max_tokens) == ("cosine", 9)
    long = Document("d", " ".join(world.NOISE), title="tell1 tell2")
    for texts in (["ask1 noise2"], [long.contents]):
        assert cosine(made.encode_queries(texts), own.encode_queries(texts)).min() > 0.99999
    assert cosine(made.encode_documents([long]), own.encode_documents([long])).min() > 0.99999
    assert (tmp_path / name / "README.md").read_text() == "of the model"


def older(folder, *, pooling, max_tokens):
    """Bring a folder to the format of sentence-transformers 2, whose tokenizers knew no length."""
    flags = {f"pooling_mode_{kind}": kind == pooling for kind in ("cls_token", "mean_tokens")}
    pooled = {"word_embedding_dimension": 32, **flags}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooled))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    (folder / "config_sentence_transformers.json").write_text('{"__version__": {}}')
    return folder


LONG = [" ".join([*world.NOISE * 20, *world.TELLING]), " ".join(world.NOISE[:6])]


@pytest.mark.parametrize(("pooling", "flag"), [("mean", "mean_tokens"), ("cls", "cls_token")])
def test_the_older_format_is_exported_with_its_length(base, tmp_path, pooling, flag):
    source = saved(DenseStudent(base=str(base), pooling=pooling), tmp_path / "source")
    own = open_encoder(Settings(str(older(source, pooling=flag, max_tokens=8))))
    export_onnx(source, tmp_path / "out", precision="fp32")
    made = open_encoder(Settings(str(tmp_path / "out")))
    assert own.max_tokens == made.max_tokens == 8
    assert cosine(made.encode_documents(LONG), own.encode_documents(LONG)).min() > 0.99999
    assert cosine(made.encode_queries(LONG), own.encode_queries(LONG)).min() > 0.99999


def test_of_the_older_format_several_poolings_are_refused(base, tmp_path):
    source = saved(DenseStudent(base=str(base)), tmp_path / "source")
    older(source, pooling="", max_tokens=8)
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    (source / "1_Pooling/config.json").write_text(json.dumps(flags))
    with pytest.raises(ArtifactError, match="pools by 'cls and mean'"):
        export_onnx(source, tmp_path / "out")


def test_a_folder_of_others_in_the_older_format_is_read_without_torch(base, tmp_path):
    source = saved(DenseStudent(base=str(base)), tmp_path / "source")
    export_onnx(source, tmp_path / "out", precision="fp32")
    own = open_encoder(Settings(str(older(source, pooling="mean_tokens", max_tokens=8))))
    made = open_encoder(Settings(str(older(tmp_path / "out", pooling="mean_tokens", max_tokens=8))))
    assert type(made).__name__ == "OnnxEncoder"
    assert cosine(made.encode_documents(LONG), own.encode_documents(LONG)).min() > 0.99999


@pytest.mark.parametrize("length", ["model_max_length", "query_length", "document_length"])
def test_one_that_cuts_elsewhere_is_told(base, tmp_path, monkeypatch, length):
    """Before, all texts that were compared were shorter."""
    source = DenseStudent(base=str(base), query_tokens=50, document_tokens=20).load()
    if length == "model_max_length":
        source = DenseStudent(base=str(base)).load()
        source.max_seq_length = 100
    source.save_pretrained(str(tmp_path / "source"), create_model_card=False)
    save = export._save

    def careless(model, folder, title_separator):
        save(model, folder, title_separator)
        name = "tokenizer_config" if length == "model_max_length" else "sentence_bert_config"
        place = folder / f"{name}.json"
        place.write_text(json.dumps(json.loads(place.read_text()) | {length: 200}))

    monkeypatch.setattr(export, "_save", careless)
    with pytest.raises(TrainingError, match="the cosine fell to"):
        export_onnx(tmp_path / "source", tmp_path / "out", precision="fp32")
    assert not (tmp_path / "out").exists()


def test_minilm_as_it_is_packaged_is_exported(tmp_path):
    """In the older format, with 256 tokens of its own and 512 of its tokenizer."""
    try:
        source = sentence_transformers_minilm()
    except ArtifactError as error:
        pytest.skip(f"MiniLM's files are not here: {error}")
    told = export_onnx(source, tmp_path / "out")
    assert told["least_cosine"] > 0.99
    assert open_encoder(Settings(str(tmp_path / "out"))).max_tokens == 256


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("apart", ["source", "source/", "source/onnx-8", ".", "link", "other"])
def test_no_model_with_weights_is_replaced(base, tmp_path, apart):
    """Many folders of the hub have an ONNX file beside the weights, and were taken for exported."""
    source = saved(DenseStudent(base=str(base)), tmp_path / "source")
    (source / "onnx").mkdir()
    (source / "onnx/model.onnx").write_bytes(b"of the hub")
    write_own(source, title_separator=" ")
    shutil.copytree(source, tmp_path / "other")
    (tmp_path / "link").symlink_to(source)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"must be free|must lie apart"):
        export_onnx(source, tmp_path / apart)
    assert contents(tmp_path) == before


def test_what_was_exported_is_replaced_and_no_onnx_model_of_others(base, tmp_path):
    source = saved(DenseStudent(base=str(base)), tmp_path / "source")
    for _ in range(2):
        export_onnx(source, tmp_path / "out", precision="fp32")
    (tmp_path / "out/limbeck.json").unlink()
    with pytest.raises(UsageError, match="must be free"):
        export_onnx(source, tmp_path / "out")
    (tmp_path / "file").write_text("words")
    with pytest.raises(UsageError, match="must be free"):
        export_onnx(source, tmp_path / "file")


def test_it_states_what_was_known_by_the_name_of_its_source(base, tmp_path):
    source = saved(DenseStudent(base=str(base), normalise=True), tmp_path / "e5-small")
    export_onnx(source, tmp_path / "out", precision="fp32")
    own, made = (
        open_encoder(Settings(str(tmp_path / name), max_tokens=9)) for name in ("e5-small", "out")
    )
    texts = ["ask1 noise2", "tell3"]
    assert cosine(made.encode_queries(texts), own.encode_queries(texts)).min() > 0.99999
    assert cosine(made.encode_documents(texts), own.encode_documents(texts)).min() > 0.99999


def test_it_is_loaded_where_torch_is_not(base, tmp_path):
    export_onnx(saved(DenseStudent(base=str(base)), tmp_path / "source"), tmp_path / "out")
    script = """
import json, sys
class NoTorch:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"torch", "sentence_transformers", "transformers"}:
            raise ImportError(name)
sys.meta_path.insert(0, NoTorch())
from limbeck.retrieval.encoders.conventions import Settings
from limbeck.retrieval.encoders.opening import open_encoder
made = open_encoder(Settings(sys.argv[1], similarity="dot"))
print(json.dumps(made.encode_queries(["ask1 noise2"]).tolist()))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    own = open_encoder(Settings(str(tmp_path / "source"), similarity="dot"))
    assert cosine(np.array(json.loads(ran.stdout)), own.encode_queries(["ask1 noise2"]))[0] > 0.99


@pytest.mark.parametrize(
    "student",
    [
        {"towers": "two"},
        {"layer_norm": True},
        {"masks": True, "query_tokens": 8, "query_prefix": "[q]", "document_prefix": "[d]"},
    ],
    ids=str,
)
def test_what_a_graph_of_token_states_cannot_say_is_refused(base, tmp_path, student):
    source = saved(DenseStudent(base=str(base), **student), tmp_path / "source")
    with pytest.raises(ArtifactError, match="load it with torch"):
        export_onnx(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("architecture", ["ModernBert", "Albert"])
def test_word_vectors_are_found_whatever_their_name(tmp_path, architecture):
    """ModernBERT looks through a window of 128 tokens: the long text needs more than one."""
    place = world.bare(architecture, tmp_path / "bare", initializer_range=0.2)
    source = saved(DenseStudent(base=str(place)), tmp_path / "source")
    export_onnx(source, tmp_path / "out")
    texts = [" ".join(world.TELLING * 10), "noise1 tell3"]
    own, made = (
        open_encoder(Settings(str(folder), similarity="dot")).encode_documents(texts)
        for folder in (source, tmp_path / "out")
    )
    assert cosine(made, own).min() > 0.99
    graph = onnx.load(tmp_path / "out/onnx/model.onnx").graph
    shapes = [list(i.dims) for i in graph.initializer if i.data_type == onnx.TensorProto.INT8]
    assert [n_words for n_words, _ in shapes] == [len(world.VOCABULARY)]


def test_what_torch_cannot_make_a_graph_of_is_refused(tmp_path):
    place = world.bare("T5", tmp_path / "bare", d_model=32, d_kv=16, d_ff=48, num_layers=2)
    source = saved(DenseStudent(base=str(place)), tmp_path / "source")
    with pytest.raises(UsageError, match="load it with torch"):
        export_onnx(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_words_that_a_graph_does_not_look_up_are_told():
    graph = onnx.helper.make_graph([], "none", [], [])
    with pytest.raises(UsageError, match="export it with --precision fp32"):
        export._narrow_words(onnx.helper.make_model(graph), "words.weight")


def test_a_colbert_is_refused(base, tmp_path):
    source = saved(ColBERTStudent(base=str(base), query_tokens=8), tmp_path / "source")
    with pytest.raises(ArtifactError, match="load it with torch"):
        export_onnx(source, tmp_path / "out")


def test_the_command_exports_and_tells_the_parity(base, tmp_path):
    saved(DenseStudent(base=str(base)), tmp_path / "source")
    ran = subprocess.run(
        [sys.executable, "-m", "limbeck", "export", tmp_path / "source", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "cosine" in ran.stdout
    again = subprocess.run(
        [sys.executable, "-m", "limbeck", "export", tmp_path / "nowhere", tmp_path / "out2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode in {1, 2}
    assert "Traceback" not in again.stderr


def test_the_tiny_vocabulary_is_whole():
    assert len(set(world.VOCABULARY)) == len(world.VOCABULARY)


def test_a_run_that_has_not_ended_is_told_from_a_wrong_path(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    told = [run(capsys, "export", tmp_path / name, tmp_path / "made") for name in ("model", "a/b")]
    assert [status for status, _, _ in told] == [2, 2]
    assert "the run there has not ended; train on" in told[0][2]
    assert "there is none; look again" in told[1][2]
