"""Specs: YAML to nodes and back."""

# ruff: noqa: E501 - specs stand as users write them

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.agents.hyde import HyDE
from limbeck.agents.lamer import LameR
from limbeck.agents.query2doc import Query2Doc
from limbeck.agents.recorded import Recorded
from limbeck.corpus import Corpus
from limbeck.errors import SpecError, UsageError
from limbeck.llm.model import LLM
from limbeck.meter import metered
from limbeck.pipeline import Pipeline, Top
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.fusion import Fuse
from limbeck.retrieval.recorded_queries import RecordedQueries
from limbeck.spec.spec import Spec
from limbeck.spec.tapes import with_cassettes

DESIGN = """
limbeck: 1
llms:      {qwen: {backend: vllm, model: Qwen/Qwen3-8B, base_url: "${env:VLLM_URL}", cassette: tapes/qwen3}}
corpora:   {manual: {path: docs/}}
indexes:   {bm25: {bm25: {}}, dense: {dense: {encoder: minilm}}, manual: {bm25: {corpus: manual}}}
pipelines:
  bm25: [bm25]
  lamer: [{bm25: {k: 10}}, {lamer: {llm: qwen, n: 5}}, bm25]
  deep: [{fuse: {of: [lamer, [{hyde: {llm: qwen, n: 8}}, dense]], method: linear, normalise: minmax}}, {top: {k: 100}}]
  help: [manual]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("a")
    return tmp_path


def test_the_spec_of_the_design_reads_as_its_python(folder):
    spec = Spec.loads(DESIGN, folder=folder)
    llm = LLM(
        "vllm:Qwen/Qwen3-8B",
        base_url="${env:VLLM_URL}",
        cassette=folder / "tapes" / "qwen3",
    )
    bm25, dense = BM25(), Dense(encoder="minilm")
    lamer = bm25.top(10) >> LameR(llm, n=5) >> bm25
    hyde = HyDE(llm, n=8) >> dense
    deep = Pipeline((Fuse((lamer, hyde), method="linear", normalise="minmax"), Top(100)))
    assert spec.llms == {"qwen": llm}
    assert spec.pipelines["bm25"] == bm25
    assert spec.pipelines["lamer"] == lamer
    assert spec.pipelines["deep"] == deep
    assert spec.pipelines["help"].corpus == Corpus.load(folder / "docs")


def test_what_is_dumped_reads_back_equal(folder):
    spec = Spec.loads(DESIGN, folder=folder)
    again = Spec.loads(spec.dump(), folder=folder)
    assert again == spec
    assert {n: p.fingerprint for n, p in again.pipelines.items()} == {
        n: p.fingerprint for n, p in spec.pipelines.items()
    }


def test_a_reference_to_the_environment_is_never_resolved_into_a_file(folder, monkeypatch):
    monkeypatch.setenv("VLLM_URL", "http://user:hunter2@127.0.0.1:1/v1")
    dumped = Spec.loads(DESIGN, folder=folder).dump()
    assert "${env:VLLM_URL}" in dumped
    assert "hunter2" not in dumped


def test_pipelines_composed_in_python_get_a_spec(folder):
    llm = LLM("openai:gpt-x", api_key="${env:KEY}")
    (folder / "r.jsonl").touch()
    spec = Spec.of(
        {
            "a": BM25(k1=1.2).top(10) >> LameR(llm, n=3, task="scifact") >> BM25(k1=1.2),
            "b": Recorded(folder / "r.jsonl", method="mugi") >> Dense(),
            "c": Fuse((BM25(), BM25(k1=1.2, k=5))),
        },
        folder=folder,
    )
    text = spec.dump()
    again = Spec.loads(text, folder=folder)
    assert dict(again.pipelines) == dict(spec.pipelines)
    assert Spec.loads(again.dump(), folder=folder) == again
    assert text.count("k1: 1.2") == 1  # one index, used three times


def test_relative_paths_of_python_read_back_equal(folder, monkeypatch):
    """Read back they were absolute: no part was equal, and each was named and made again."""
    monkeypatch.chdir(folder)
    (folder / "r.jsonl").write_text('{"query_id": "1", "text": "x", "expanded": "x"}\n')
    (folder / "pairs.jsonl").write_text('{"query": "q", "passage": "p"}\n')
    llm = LLM("scripted:x", replies=("r",), cassette="tapes/x")
    writer = Query2Doc(llm, examples="pairs.jsonl", shots=1)
    expansion = RecordedQueries("r.jsonl")
    spec = Spec.of(
        {"a": Recorded("r.jsonl") >> writer >> BM25(), "b": BM25(expansion=expansion)}, folder="."
    )
    again = Spec.loads(spec.dump(), folder=folder)
    assert dict(again.pipelines) == dict(spec.pipelines)
    assert {n: p.fingerprint for n, p in again.pipelines.items()} == {
        n: p.fingerprint for n, p in spec.pipelines.items()
    }
    assert again.llms == {"x": llm}


_NODES = st.recursive(
    st.sampled_from([BM25(), BM25(k=7), BM25(k1=1.5), Dense()]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda nodes: Fuse(tuple(nodes))),
        st.tuples(inner, st.integers(1, 50)).map(lambda pair: pair[0] >> Top(pair[1])),
        st.tuples(inner, inner).map(
            lambda pair: pair[0] >> LameR(LLM("scripted:x", replies=("r",))) >> pair[1]
        ),
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(["p", "bm25", "dense", "lamer"]), _NODES, min_size=1))
def test_any_composition_reads_back_equal(tmp_path, pipelines):
    spec = Spec.of(pipelines, folder=tmp_path)
    again = Spec.loads(spec.dump(), folder=tmp_path)
    assert {n: p.fingerprint for n, p in again.pipelines.items()} == {
        n: p.fingerprint for n, p in pipelines.items()
    }
    assert Spec.loads(again.dump(), folder=tmp_path) == again


def test_what_no_file_can_say_is_refused(folder):
    in_memory = Corpus.from_documents([{"_id": "a", "text": "x"}])
    scripted = LLM.scripted(lambda messages, sample: "x")
    for node, said in (
        (BM25(corpus=in_memory), "corpus in memory"),
        (HyDE(scripted) >> BM25(), "was made in Python"),
        (Recorded("/somewhere/else.jsonl") >> BM25(), "spec's folder"),
    ):
        with pytest.raises(UsageError, match=said):
            Spec.of({"a": node}, folder=folder).dump()


def test_parts_get_names_that_a_file_can_hold(folder):
    (folder / "_données").mkdir()
    (folder / "_données" / "a.md").write_text("a")
    llm = LLM("scripted:模型", replies=("r",))
    index = BM25(corpus=Corpus.load(folder / "_données"))
    spec = Spec.of({"a": HyDE(llm) >> index}, folder=folder)
    assert Spec.loads(spec.dump(), folder=folder).pipelines == spec.pipelines


def test_a_pipeline_that_no_file_can_name_is_refused(folder):
    with pytest.raises(UsageError, match="got 'my pipe'"):
        Spec.of({"my pipe": BM25()}, folder=folder).dump()


def test_some_pipelines_are_selected_in_order(folder):
    spec = Spec.loads(DESIGN, folder=folder)
    assert list(spec.select(["help", "bm25"]).pipelines) == ["help", "bm25"]
    with pytest.raises(UsageError, match="got nope; it has bm25, lamer"):
        spec.select(["nope"])


def test_a_spec_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="must be a readable YAML file"):
        Spec.load(tmp_path / "none.yaml")


def test_an_llm_without_a_cassette_is_given_one_and_stays_one(folder):
    spec = Spec.loads(
        "limbeck: 1\n"
        "llms:\n  a: {backend: scripted, model: x, replies: [r]}\n"
        "  b: {backend: scripted, model: y, replies: [r], cassette: own}\n"
        "indexes: {i: {bm25: {}}}\n"
        "pipelines:\n  p: [{hyde: {llm: a}}, i]\n"
        "  q: [{fuse: {of: [[{hyde: {llm: a}}, i], [{hyde: {llm: b}}, i]]}}]\n",
        folder=folder,
    )
    taped = with_cassettes(spec, folder / "out")
    rewriters = [n for p in taped.pipelines.values() for n in p.walk() if isinstance(n, HyDE)]
    first, second, third = (node.llm for node in rewriters)
    assert first is second
    assert first.cassette == folder / "out" / "a"
    assert third.cassette == folder / "own"
    assert taped.pipelines["p"].fingerprint == spec.pipelines["p"].fingerprint


def test_what_an_llm_lacks_is_said_once(folder, monkeypatch):
    monkeypatch.delenv("VLLM_URL", raising=False)
    spec = Spec.loads(DESIGN, folder=folder)
    (problem,) = spec.problems()
    assert problem.place == "spec:3: llms.qwen"
    assert "VLLM_URL" in str(problem)


def test_kinds_say_which_pipelines_end_in_a_run(folder):
    spec = Spec.loads(DESIGN + "  part: [{hyde: {llm: qwen}}]\n", folder=folder)
    assert spec.kinds() == {
        "bm25": "bm25", "lamer": "bm25", "deep": "normalised", "help": "bm25", "part": None
    }  # fmt: skip


def test_a_third_party_node_is_found_by_its_entry_point(tmp_path):
    """A package with one node, put on the path of another process."""
    import subprocess
    import sys
    from pathlib import Path

    package = tmp_path / "site"
    package.mkdir()
    (package / "louder.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from limbeck.pipeline import Rewriter\n"
        "from limbeck.types import Expansion\n"
        "@dataclass(frozen=True)\n"
        "class Louder(Rewriter):\n"
        '    name: ClassVar[str] = "louder"\n'
        "    times: int = 2\n"
        "    def expand(self, queries, run):\n"
        "        return [Expansion((q.text.upper(),) * self.times) for q in queries]\n"
    )
    (package / "broken.py").write_text("1 / 0\n")
    info = package / "louder-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: louder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[limbeck.nodes]\nlouder = louder:Louder\nlost = louder:Lost\nbroken = broken:Broken\n"
    )
    code = (
        "import json\n"
        "from limbeck.spec.spec import Spec\n"
        "from limbeck.errors import CheckError\n"
        "spec = Spec.loads('limbeck: 1\\npipelines: {a: [{louder: {times: 3}}]}\\n')\n"
        "(query,) = spec.pipelines['a']('hi')\n"
        "try:\n"
        "    Spec.loads('limbeck: 1\\npipelines: {a: [lost], b: [broken]}\\n')\n"
        "except CheckError as error:\n"
        "    print(json.dumps([list(query.expansions[0].texts), str(error), spec.dump()]))\n"
    )
    paths = f"{package}:{Path(__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": paths, "PATH": ""},
    )
    texts, error, dumped = json.loads(done.stdout)
    assert texts == ["HI"] * 3
    assert "'lost' must load from louder:Lost" in error
    assert "'broken' must load from broken:Broken; got: division by zero" in error
    assert "times: 3" in dumped


def test_a_pipeline_may_bear_the_name_of_the_node_it_begins_with(tmp_path):
    """Before, `bm25: [bm25]` without an index of that name was "a pipeline that contains itself"."""
    text = "limbeck: 1\npipelines: {bm25: [bm25], top: [bm25, {top: {k: 3}}]}\n"
    spec = Spec.loads(text, folder=tmp_path)
    assert spec.pipelines["bm25"] == BM25()
    assert spec.pipelines["top"] == BM25() >> Top(3)
    assert Spec.loads(spec.dump(), folder=tmp_path).pipelines == spec.pipelines
    circle = "limbeck: 1\npipelines: {bm25: [a], a: [bm25]}\n"
    with pytest.raises(SpecError, match="must not contain itself"):
        Spec.loads(circle, folder=tmp_path)


RECIPE = """limbeck: 1
train:
  objective: {dpr: {tau: 0.05}}
  model: {dense: {base: minilm}}
  steps: 10
"""


@pytest.mark.parametrize("pipelines", ["", "pipelines:\n  words: [bm25]\n"])
def test_without_torch_the_pipelines_beside_a_recipe_are_of_use(monkeypatch, pipelines):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with metered() as meter:
        spec = Spec.loads(RECIPE + pipelines)
    assert spec.recipe is None
    assert list(spec.pipelines) == (["words"] if pipelines else [])
    assert list(meter.notes) == ["train: this section was not read, as torch is not installed"]
