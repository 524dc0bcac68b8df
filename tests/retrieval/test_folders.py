"""Models by name: what the static check sees of folders, and what is said of a missing one."""

from __future__ import annotations

import json

import pytest

from limbeck.errors import ArtifactError, CheckError
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.colbert import ColBERT
from limbeck.retrieval.cross_encoder import CrossEncoder
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.doct5query import DocT5Query
from limbeck.retrieval.encoders.folders import is_path, model_folder
from limbeck.retrieval.maxsim import MaxSim
from limbeck.retrieval.splade import Splade
from limbeck.spec.spec import Spec

PIPELINES = {
    "cross-encoder": lambda model: BM25() >> CrossEncoder(model),
    "maxsim": lambda model: BM25() >> MaxSim(model),
    "colbert": ColBERT,
    "dense": Dense,
    "splade": Splade,
}
FITTING = {
    "BertForSequenceClassification": {"cross-encoder"},
    "BertForMaskedLM": {"maxsim", "colbert", "dense", "splade"},
    "BertModel": {"maxsim", "colbert", "dense"},
}


def stating(folder, architecture: str, **more: object) -> str:
    """Save what a model's folder says of itself, without weights, and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], **more}))
    return str(folder)


@pytest.mark.parametrize("architecture", FITTING)
@pytest.mark.parametrize("node", PIPELINES)
def test_the_check_reads_what_a_local_folder_says_of_itself(node, architecture, tmp_path) -> None:
    """It called a pipeline sound whose model was of another kind, which came out when it ran."""
    pipeline = PIPELINES[node](stating(tmp_path / "model", architecture))
    if node in FITTING[architecture]:
        pipeline.check()
        return
    with pytest.raises(CheckError, match=rf"model must hold .*config\.json names {architecture}"):
        pipeline.check()


@pytest.mark.parametrize("node", PIPELINES)
def test_the_check_sees_that_a_path_leads_nowhere(node, tmp_path, monkeypatch) -> None:
    """A name of the hub is left to the hub: the check asks nobody."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for name, said in {
        "./nosuch": rf"got '\./nosuch', and {tmp_path}/nosuch does not exist; change the path",
        str(tmp_path / "nosuch"): "named by a path must be there",
        "file": "a model must be a folder; file is a file",
        str(tmp_path): "must hold a model with a config.json or a modules.json",
    }.items():
        with pytest.raises(CheckError, match=said):
            PIPELINES[node](name).check()
    PIPELINES[node]("someone/far-away").check()


def test_the_check_sees_more_tokens_than_the_model_has(tmp_path) -> None:
    length = {"max_position_embeddings": 64}
    pairs = stating(tmp_path / "pairs", "BertForSequenceClassification", **length)
    terms = stating(tmp_path / "terms", "BertForMaskedLM", **length)
    for pipeline in (BM25() >> CrossEncoder(pairs, max_tokens=99), Splade(terms, max_tokens=99)):
        with pytest.raises(CheckError, match="max_tokens must be 64 or less"):
            pipeline.check()


def test_the_check_of_a_spec_reads_its_models(tmp_path) -> None:
    stating(tmp_path / "mlm", "BertForMaskedLM")
    stating(tmp_path / "pairs", "BertForSequenceClassification")
    text = (
        "limbeck: 1\n"
        "indexes: {bm25: {bm25: {}}, sparse: {splade: {encoder: ./pairs}}}\n"
        "pipelines:\n  a: [bm25, {cross-encoder: {model: ./mlm}}]\n  b: [sparse]\n"
    )
    problems = Spec.loads(text, folder=tmp_path).problems()
    assert [str(p).partition("must hold ")[2].split(",")[0] for p in problems] == [
        "a cross-encoder",
        "a SparseEncoder or a masked language model",
    ]


def test_the_check_reads_what_writes_an_indexs_queries(tmp_path) -> None:
    with pytest.raises(CheckError, match=r"named by a path must be there; got '\./nosuch'"):
        BM25(expansion=DocT5Query("./nosuch")).check()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("bert-base-uncased", False),
        ("intfloat/e5-small-v2", False),
        ("models/mine", False),
        ("./mine", True),
        ("../mine", True),
        ("mine/", True),
        ("/mine", True),
        ("~/mine", True),
        ("a/b/c", True),
        ("a--b", True),
        ("two words", True),
        (r"c:\mine", True),
    ],
)
def test_what_the_hub_has_no_name_like_is_a_path(name, path) -> None:
    assert is_path(name) is path


def test_of_a_path_the_hub_is_not_spoken(tmp_path, monkeypatch) -> None:
    """It ended in "Repo id must use alphanumeric chars", of which a path has no need."""
    monkeypatch.setattr("limbeck.retrieval.encoders.pair_models.require_torch", lambda _: None)
    monkeypatch.setattr("limbeck.retrieval.encoders.splade.require_torch", lambda _: None)
    for bind in (
        lambda: CrossEncoder("./nosuch").bind(None),
        lambda: Splade("./nosuch").opened_encoder,
    ):
        with pytest.raises(ArtifactError, match="does not exist; change the path") as raised:
            bind()
        assert "hub" not in str(raised.value).lower()
        assert "minilm" not in str(raised.value)


def test_why_the_hub_gave_no_model_is_readable(monkeypatch) -> None:
    """It said "the hub gave: Got: ConnectError: [Errno -2]", and 'minilm' where that is none."""
    hub = pytest.importorskip("huggingface_hub")
    with pytest.raises(ArtifactError, match="cache does not hold it, and HF_HUB_OFFLINE forbids"):
        model_folder("no/such-model")
    cut = hub.errors.LocalEntryNotFoundError("Got: ConnectError: [Errno -2] Name not known")
    cut.__cause__ = ConnectionError("Name not known")
    unknown = hub.errors.RepositoryNotFoundError.__new__(hub.errors.RepositoryNotFoundError)
    for error, said in (
        (cut, r"the hub cannot be reached \(Name not known\); look at the name"),
        (unknown, "the hub has no model of that name that you may read; look at the name"),
        (OSError("disk full\nmore"), "the hub gave: disk full; look"),
        (hub.errors.HTTPError("cut off"), "the hub gave: cut off; look"),  # of httpx, or httpx2
    ):

        def refuse(*_, error=error, **__):
            raise error

        monkeypatch.setattr(hub, "snapshot_download", refuse)
        with pytest.raises(ArtifactError, match=said) as raised:
            model_folder("no/such-model")
        assert "minilm" not in str(raised.value)
        with pytest.raises(ArtifactError, match="on the Hugging Face hub, or 'minilm'; 'no/such"):
            model_folder("no/such-model", built_in="minilm")
