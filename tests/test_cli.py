"""The command line: what it prints, writes, and exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from limbeck.artifact import cache_folder
from limbeck.errors import LimbeckError
from tests.command import run as _run

SPEC = """
limbeck: 1
llms: {small: {backend: scripted, model: x, replies: [postings of an inverted index]}}
corpora: {own: {path: docs}}
indexes: {bm25: {bm25: {}}, own: {bm25: {corpus: own}}}
pipelines:
  bm25: [bm25]
  lamer: [{bm25: {k: 5}}, {lamer: {llm: small, n: 1}}, bm25]
  own: [own]
  part: [{hyde: {llm: small, n: 2}}]
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("an inverted index of postings")
    (tmp_path / "docs" / "b.md").write_text("a cache of queries")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def test_check_says_what_is_sound_and_what_it_may_cost(place, capsys):
    status, out, err = _run(capsys, "check", place / "spec.yaml")
    assert (status, err) == (0, "")
    assert "bm25 is sound\n" in out
    assert "part is sound as a part of others: it ends in no run: at most" in out
    assert "lamer is sound: at most 1,000 LLM calls" in out
    status, out, _ = _run(capsys, "check", place / "spec.yaml", "--json", "--queries", 7)
    told = json.loads(out)
    assert told["queries"] == 7
    assert told["pipelines"]["lamer"]["calls"] == 7
    assert told["pipelines"]["bm25"]["calls"] == 0


def test_check_prints_one_line_a_finding_and_exits_with_1(place, capsys):
    (place / "spec.yaml").write_text(SPEC.replace("{bm25: {k: 5}}, ", "").replace("n: 1", "n: 0"))
    status, out, err = _run(capsys, "check", place / "spec.yaml")
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("limbeck: spec.yaml:8: pipelines.lamer[0]")


def test_eval_writes_the_contract(place, capsys):
    out_folder = place / "out"
    status, out, _ = _run(
        capsys, "eval", place / "spec.yaml", "--data", "mini", "--pipelines", "bm25,lamer",
        "--measures", "nDCG@10,R@100", "--out", out_folder,
    )  # fmt: skip
    assert status == 0
    assert "nDCG@10" in out
    report = json.loads((out_folder / "report.json").read_text())
    pipelines = report["datasets"]["mini"]["pipelines"]
    assert list(pipelines) == ["bm25", "lamer"]
    for numbers in pipelines.values():
        assert 0 < numbers["nDCG@10"] < 0.95
        assert 0 < numbers["R@100"] <= 1
        assert numbers["seconds"] > 0
        assert numbers["queries"] >= 50
        assert {"calls", "prompt_tokens", "completion_tokens", "usd"} <= set(numbers["llm"])
    assert pipelines["lamer"]["llm"]["calls"] == pipelines["lamer"]["queries"]
    assert len(list((out_folder / "runs").glob("*.trec"))) == 2
    assert "<svg" in (out_folder / "report.html").read_text()
    assert (out_folder / "tapes" / "small.jsonl").is_file()  # the LLM's answers are kept


def test_a_table_that_goes_into_a_file_is_not_cut(place, capsys):
    measures = "nDCG@10,R@100,AP,RR@10,P@5,P@10,Success@1,R@10,R@5,R@20"
    command = ("eval", place / "spec.yaml", "--data", "mini", "--pipelines", "bm25")
    _, out, _ = _run(capsys, *command, "--measures", measures, "--out", place / "o")
    assert "…" not in out


def test_eval_excludes_the_same_id_where_told(place, capsys):
    command = ("eval", place / "spec.yaml", "--data", "mini", "--pipelines", "bm25", "--json")
    for flag, excludes in (("--exclude-same-id", True), ("--keep-same-id", False)):
        out = _run(capsys, *command, "--out", place / "o", flag)[1]
        assert json.loads(out)["datasets"]["mini"]["exclude_same_id"] is excludes


def test_eval_of_the_first_queries_says_so(place, capsys):
    command = ("eval", place / "spec.yaml", "--data", "mini", "--pipelines", "bm25", "--json")
    whole = json.loads(_run(capsys, *command, "--out", place / "o")[1])["datasets"]["mini"]
    few = json.loads(_run(capsys, *command, "--out", place / "o", "--queries", 7)[1])
    told = few["datasets"]["mini"]
    assert (told["pipelines"]["bm25"]["queries"], whole["pipelines"]["bm25"]["queries"]) == (7, 60)
    assert told["notes"] == ["only the first 7 of 60 queries"]
    assert told["pipelines"]["bm25"]["nDCG@10"] != whole["pipelines"]["bm25"]["nDCG@10"]


def test_eval_again_asks_the_llm_nothing(place, capsys):
    command = (
        "eval", place / "spec.yaml", "--data", "mini", "--pipelines", "lamer", "--out", place / "o",
        "--json",
    )  # fmt: skip
    first = json.loads(_run(capsys, *command)[1])["datasets"]["mini"]["pipelines"]["lamer"]
    import shutil

    shutil.rmtree(place / "o" / ".resume")  # only the cassette is left
    again = json.loads(_run(capsys, *command)[1])["datasets"]["mini"]["pipelines"]["lamer"]
    assert again["nDCG@10"] == first["nDCG@10"]
    assert (first["llm"]["calls"] > 0, again["llm"]["calls"]) == (True, 0)


def test_index_and_search(place, capsys):
    status, out, _ = _run(capsys, "index", place / "spec.yaml", "--data", "mini")
    assert status == 0
    assert "own: 2 documents" in out
    status, out, _ = _run(
        capsys, "search", place / "spec.yaml", "--pipeline", "own", "postings", "--json"
    )
    assert status == 0
    found = json.loads(out)
    assert [hit["doc_id"] for hit in found["hits"]] == ["a.md"]
    assert found["hits"][0]["score"] > 0
    assert found["kind"] == "bm25"
    status, out, _ = _run(
        capsys, "search", place / "spec.yaml", "--pipeline", "bm25", "inverted index", "-k", "3",
        "--data", "mini",
    )  # fmt: skip
    assert len(out.splitlines()) == 3


def test_search_says_when_the_pipeline_gives_no_more_hits(place, capsys):
    (place / "spec.yaml").write_text("limbeck: 1\npipelines: {a: [{bm25: {k: 3}}]}\n")
    command = ("search", place / "spec.yaml", "index", "--data", "mini", "-k")
    status, out, err = _run(capsys, *command, 5)
    assert (status, len(out.splitlines())) == (0, 3)
    assert "a gives 3 hits at most" in err
    assert _run(capsys, *command, 3)[2] == ""


def test_search_tells_what_was_degraded(place, capsys):
    """Hits that no LLM had looked at were shown as if it had, with nothing said."""
    text = SPEC.replace("llm: small, n: 1", "llm: mute, n: 1")
    mute = "mute: {backend: openai, model: m, cassette: tape, cassette_mode: replay}"
    (place / "spec.yaml").write_text(text.replace("llms: {", f"llms: {{{mute}, "))
    (place / "tape.jsonl").write_text("")
    command = ("search", place / "spec.yaml", "--pipeline", "lamer", "index", "--data", "mini")
    status, out, err = _run(capsys, *command)
    assert (status, bool(out)) == (0, True)
    assert "lamer: LLM call failed (not in the cassette) (1 times)" in err
    _, out, _ = _run(capsys, *command, "--json")
    assert json.loads(out)["notes"]["lamer: LLM call failed (not in the cassette)"] == 1
    _, out, _ = _run(capsys, *command[:3], "bm25", *command[4:], "--json")
    assert json.loads(out)["notes"] == {}


def test_index_tells_what_was_degraded(place, capsys):
    (place / "spec.yaml").write_text(EXPANDED.replace("[a mill]", "['...']"))
    status, _, err = _run(capsys, "index", place / "spec.yaml", "--data", place / "docs")
    assert (status, "fewer than 3 queries of a document" in err) == (0, True)


def test_eval_leaves_out_what_ends_in_no_run(place, capsys):
    text = SPEC.replace("  own: [own]\n", "")
    (place / "spec.yaml").write_text(text)
    command = ("eval", place / "spec.yaml", "--data", "mini", "--out", place / "o", "--json")
    status, out, err = _run(capsys, *command)
    assert (status, "no run is at the end: part" in err) == (0, True)
    assert list(json.loads(out)["datasets"]["mini"]["pipelines"]) == ["bm25", "lamer"]
    assert _run(capsys, *command, "--pipelines", "part")[0] == 1


def test_index_builds_what_stands_in_a_pipeline_alone(place, capsys):
    (place / "spec.yaml").write_text("limbeck: 1\npipelines: {a: [{bm25: {k1: 1.2}}]}\n")
    status, out, _ = _run(capsys, "index", place / "spec.yaml", "--data", place / "docs")
    assert (status, out.startswith("bm25: 2 documents")) == (0, True)


EXPANDED = """limbeck: 1
llms: {writer: {backend: scripted, model: x, replies: [a mill], price: [1.0, 1.0]}}
indexes: {d2q: {bm25: {expansion: {doc2query: {llm: writer, n: 3}}}}}
pipelines: {both: [{fuse: {of: [d2q, {d2q: {k: 5}}]}}]}
"""


def test_check_says_what_building_an_expanded_index_may_cost(place, capsys):
    (place / "spec.yaml").write_text(EXPANDED)
    _, out, _ = _run(capsys, "check", place / "spec.yaml")
    assert "both is sound\nboth, its indexes: at most 1,000 LLM calls" in out
    _, out, _ = _run(capsys, "check", place / "spec.yaml", "--json")
    told = json.loads(out)["pipelines"]["both"]
    assert (told["calls"], told["building_1000_documents"]["calls"]) == (0, 1000)


def test_index_builds_an_expanded_index_and_keeps_what_the_llm_wrote(place, capsys):
    (place / "spec.yaml").write_text(EXPANDED)
    status, _, err = _run(capsys, "index", place / "spec.yaml", "--data", place / "docs")
    assert (status, err) == (0, "")
    (tape,) = cache_folder("tapes").glob("*.jsonl")
    assert "mill" in tape.read_text()
    arguments = ("search", place / "spec.yaml", "mill", "--data", place / "docs")
    assert len(_run(capsys, *arguments)[1].splitlines()) == 2


def test_scores_reach_the_reply_as_the_retriever_gave_them(place, capsys):
    from limbeck import BM25, Corpus

    _, out, _ = _run(
        capsys, "search", place / "spec.yaml", "--pipeline", "own", "postings cache", "--json"
    )
    wanted = BM25.index(Corpus.load(place / "docs"))("postings cache").hits(0)
    hits = json.loads(out)["hits"]
    assert [(hit["doc_id"], hit["score"]) for hit in hits] == [tuple(hit) for hit in wanted]
    assert len(hits) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["eval", "SPEC", "--out", "o"], 2, "add --data FOLDER"),
        (["eval", "SPEC", "--data", "mini"], 2, "--out"),
        (["eval", "SPEC", "--data", "nowhere", "--out", "o"], 1, "there is no such folder"),
        (["eval", "none.yaml", "--data", "mini", "--out", "o"], 2, "readable YAML file"),
        (["eval", "SPEC", "--data", "mini", "--split", "dev", "--out", "o"], 1, "splits are test"),
        (["eval", "SPEC", "--data", "mini", "--out", "o", "--pipelines", "x"], 2, "got x; it has"),
        (["eval", "SPEC", "--data", "mini", "--out", "o", "--measures", "nDGC@10"], 2, "nDCG@10"),
        (["eval", "SPEC", "--data", "mini", "--out", "o", "--seed", "-1"], 2, "--seed"),
        (["check", "SPEC", "--queries", "-1"], 2, "--queries"),
        (["search", "SPEC", "words"], 2, "name a pipeline with --pipeline: bm25, lamer, own, part"),
        (["search", "SPEC", "words", "--pipeline", "bm25"], 2, "add --data FOLDER"),
        (["search", "SPEC", "words", "--pipeline", "own", "-k", "0"], 2, "-k"),
        (["search", "SPEC", "words", "--pipeline", "part"], 2, "part ends in no run"),
        (["index", "SPEC"], 2, "bm25 name no corpus; add --data FOLDER"),
        (["serch"], 2, "serch"),
        (["check"], 2, "SPEC"),
    ],
)
def test_a_users_mistake_is_told_without_a_traceback(
    place, capsys, monkeypatch, arguments, status, said
):
    monkeypatch.chdir(place)
    given = [a.replace("SPEC", "spec.yaml") for a in arguments]
    code, out, err = _run(capsys, *given)
    assert code == status
    assert said in err
    assert out == ""
    assert "Traceback" not in err


def test_a_place_that_cannot_be_written_is_told(place, capsys, monkeypatch):
    taken = place / "spec.yaml"
    status, _, err = _run(capsys, "demo", "--out", taken)
    assert (status, err.count("\n")) == (1, 1)
    assert "must be writable" in err
    monkeypatch.setenv("LIMBECK_CACHE", str(taken / "below"))
    status, _, err = _run(capsys, "index", taken, "--data", "mini")
    assert (status, err.count("\n")) == (1, 1)
    assert "must be writable" in err


def test_an_error_is_one_line_whatever_it_holds(capsys, monkeypatch, place):
    def fails(*_):
        raise LimbeckError("first line\nsecond line")

    monkeypatch.setattr("limbeck.spec.spec.Spec.load", fails)
    status, _, err = _run(capsys, "check", place / "spec.yaml")
    assert (status, err) == (1, "limbeck: first line second line\n")


def test_a_failing_pipeline_does_not_lose_the_others(place, capsys):
    (place / "r.jsonl").write_text('{"query_id": 3}\n')
    (place / "spec.yaml").write_text(
        "limbeck: 1\nindexes: {bm25: {bm25: {}}}\n"
        "pipelines: {bad: [{recorded: {path: r.jsonl}}, bm25], good: [bm25]}\n"
    )
    status, _, err = _run(
        capsys, "eval", place / "spec.yaml", "--data", "mini", "--out", place / "o"
    )
    assert status == 1
    assert "pipeline bad" in err
    report = json.loads((place / "o" / "report.json").read_text())
    assert list(report["datasets"]["mini"]["pipelines"]) == ["good"]


def test_help_lists_the_commands(capsys):
    status, out, _ = _run(capsys, "--help")
    assert status == 0
    for command in ("eval", "check", "index", "search", "demo"):
        assert command in out


_SLOW = """
import sys, time
from limbeck.agents.rewriter import LLMRewriter
real = LLMRewriter.expand
def expand(self, queries, run):
    found = real(self, queries, run)
    print("answered", flush=True)
    time.sleep(60)
    return found
LLMRewriter.expand = expand
from limbeck.cli import main
main(sys.argv[1:])
"""


def test_a_killed_evaluation_goes_on_where_it_was(place, capsys):
    """SIGKILL after the LLM has answered: the next run finds the answers and the finished run."""
    command = [
        "eval", str(place / "spec.yaml"), "--data", "mini", "--pipelines", "bm25,lamer", "--out",
        str(place / "o"), "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, *command],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env=dict(os.environ),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "answered\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (place / "o" / "report.json").exists()
    started = time.perf_counter()
    status, out, _ = _run(capsys, *command)
    assert status == 0
    assert time.perf_counter() - started < 30
    report = json.loads(out)["datasets"]["mini"]
    assert report["pipelines"]["lamer"]["llm"]["calls"] == 0
    assert report["pipelines"]["lamer"]["llm"]["saved_calls"] > 0


def test_what_training_needs_is_told_before_anything_is_read(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    trained = ("train", "dpr", "--data", tmp_path, "--out", tmp_path / "x")
    for arguments in (trained, ("export", tmp_path, tmp_path / "x")):
        status, _, err = _run(capsys, *arguments)
        assert status == 1
        assert "pip install 'limbeck[training]'" in err
