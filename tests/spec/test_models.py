"""Models in specs: paths start from the file's folder, whatever the working directory."""

from __future__ import annotations

import os

import pytest

from limbeck.errors import CheckError, UsageError
from limbeck.retrieval.dense import Dense
from limbeck.spec.spec import Spec

SPEC = """
limbeck: 1
llms:
  gguf: {backend: llamacpp, model: models/x.gguf, tokenizer_from: models/tokenizer.json}
  packaged: {backend: llamacpp, model: smollm2}
  served: {backend: vllm, model: models/mine}
indexes:
  mine: {dense: {encoder: models/mine}}
  linked: {dense: {encoder: e5-small}}
  hub: {dense: {encoder: intfloat/e5-small}}
  own: {dense: {encoder: minilm}}
pipelines:
  a: [{hyde: {llm: gguf}}, mine, {maxsim: {encoder: models/mine/}}]
  b: [{hyde: {llm: packaged}}, {hyde: {llm: served}}, linked]
  c: [hub]
  d: [own]
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "sub"
    (folder / "models" / "mine").mkdir(parents=True)
    (folder / "models" / "x.gguf").touch()
    (folder / "models" / "tokenizer.json").touch()
    (folder / "minilm").mkdir()
    os.symlink(folder / "models" / "mine", folder / "e5-small")
    (folder / "s.yaml").write_text(SPEC)
    return folder


def test_a_model_is_found_from_the_specs_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    spec = Spec.load("sub/s.yaml")
    mine = str(folder / "models" / "mine")
    assert spec.llms["gguf"].model == f"llamacpp:{folder}/models/x.gguf"
    assert spec.llms["gguf"].tokenizer_from == f"{folder}/models/tokenizer.json"
    assert spec.llms["packaged"].model == "llamacpp:smollm2"
    assert spec.llms["served"].model == "vllm:models/mine"
    assert spec.indexes["mine"].encoder == mine
    assert spec.pipelines["a"].steps[2].encoder == mine
    assert spec.indexes["hub"].encoder == "intfloat/e5-small"
    assert spec.indexes["own"].encoder == "minilm"


def test_a_link_keeps_the_name_that_a_convention_goes_by(folder):
    linked = Spec.load(folder / "s.yaml").indexes["linked"]
    assert linked.encoder == str(folder / "e5-small")
    assert linked._settings.convention.query_prefix == "query: "


def test_the_working_directory_changes_no_fingerprint(folder, monkeypatch):
    found = []
    for place in (folder.parent, folder, folder / "models"):
        monkeypatch.chdir(place)
        spec = Spec.load(os.path.relpath(folder / "s.yaml"))
        found.append([node.fingerprint for node in spec.pipelines.values()])
        assert Spec.loads(spec.dump(), folder=folder) == spec
        assert str(folder) not in spec.dump()
    assert found[0] == found[1] == found[2]


def test_a_model_composed_in_python_is_written_as_a_path(folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = Spec.of({"a": Dense(encoder="models/mine")}, folder=folder).dump()
    assert "./models/mine" in text
    text = Spec.of({"a": Dense(encoder=str(folder / "minilm"))}, folder=folder).dump()
    assert Spec.loads(text, folder=folder).pipelines["a"].encoder == str(folder / "minilm")
    with pytest.raises(UsageError, match="must lie in the spec's folder"):
        Spec.of({"a": Dense(encoder="models/mine")}, folder=folder / "minilm").dump()


def test_a_link_of_a_model_may_not_lead_out(folder):
    (folder.parent / "outside").mkdir()
    os.symlink(folder.parent / "outside", folder / "models" / "link")
    with pytest.raises(CheckError, match="a path in the spec's folder; got 'models/link'"):
        Spec.loads(SPEC.replace("models/mine/", "models/link"), folder=folder)


def test_a_model_of_the_working_directory_alone_is_refused(folder, monkeypatch):
    (folder.parent / "elsewhere" / "other").mkdir(parents=True)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(CheckError, match="a path in the working directory alone"):
        Spec.loads(SPEC.replace("models/mine/", "elsewhere/other"), folder=folder)
