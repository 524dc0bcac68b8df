"""`limbeck teach` and what `limbeck check` says of a lesson, with an LLM that follows a script."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import limbeck
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.spec.spec import Spec
from limbeck.training.labels import Labels
from tests.command import run

SPEC = """
limbeck: 1
llms:
  judge: {backend: scripted, model: x, replies: ["The grade is 2"], price: [1.0, 1.0]}
  writer: {backend: scripted, model: y, replies: [ask me], price: [1.0, 1.0]}
pipelines: {first: [{bm25: {k: 60}}]}
teach:
  candidates: first
  teacher: {pointwise: {llm: judge, method: graded, read: text}}
  queries: [{split: {n: 3}}, {written: {of: {doc2query: {llm: writer, n: 1}}, documents: 4}}]
  depth: 5
  apart: [dev]
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    return path


def test_check_says_what_teaching_may_cost(spec, capsys):
    """Five hits of each query are judged, though the reranker alone would read a hundred."""
    _, out, err = run(capsys, "check", spec, "--queries", 7)
    assert err == ""
    assert "teach is sound: about 35 LLM calls" in out
    assert "teach, its made queries: at most 4 LLM calls" in out
    told = json.loads(run(capsys, "check", spec, "--queries", 7, "--json")[1])["teach"]
    assert (told["calls"], told["writing_1000_documents"]["calls"]) == (35, 4)
    stated = SPEC.replace("{written: {", "{written: {n: 4, ")
    spec.write_text(stated)
    said = run(capsys, "check", spec)[1]
    assert "teach is sound: about 35 LLM calls" in said, "of three queries and four, not of 1,000"
    assert "for 7 queries" in said


def test_what_checks_made_queries_is_counted(tmp_path, capsys):
    path = tmp_path / "spec.yaml"
    judged = "[first, {pointwise: {llm: judge, method: graded, read: text, depth: 2}}]"
    titles = f"[{{titles: {{found_by: {judged}}}}}]"
    path.write_text(SPEC[: SPEC.index("teach:")] + f"teach: {{teacher: first, queries: {titles}}}")
    assert "teach, its made queries: at most 2,000 LLM calls" in run(capsys, "check", path)[1]


def test_check_finds_what_is_wrong_in_a_lesson_once(spec, capsys):
    spec.write_text(SPEC.replace("depth: 5", "depth: 5\n  dark: {reinforced: 1}"))
    assert run(capsys, "check", spec)[0] == 0
    spec.write_text(SPEC.replace("max_tokens", "").replace("read: text", "read: logprobs"))
    status, _, err = run(capsys, "check", spec)
    assert status == 1
    assert err.count("logprobs") == 1
    assert "teach.teacher" in err


@pytest.mark.torch
@pytest.mark.parametrize(
    ("objective", "queries", "why"),
    [
        ("{adam: {}}", "split", "train.objective: adam must have dark examples"),
        ("{distil: {by: margin-mse}}", "split", "labels of the kind grade are on one of their own"),
        ("{distil: {}}", "titles", "train.data.dev: a share of the queries"),
    ],
)
def test_check_finds_what_a_recipe_cannot_learn(spec, capsys, objective, queries, why):
    """It was found when the teacher had been asked, and paid."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    train = (
        f"train: {{objective: {objective}, model: {{dense: {{base: minilm}}}}, steps: 20, "
        "data: {dev: 0.1}, negatives: {n: 3}, optimiser: {warm_up: 0}}\n"
    )
    spec.write_text(re.sub("queries: .*", f"queries: [{queries}]", SPEC) + train)
    status, _, err = run(capsys, "check", spec)
    assert status == 1
    assert why in err
    sound = spec.read_text().replace(objective, "{distil: {}}").replace("[titles]", "[split]")
    spec.write_text(sound)
    status, out, _ = run(capsys, "check", spec)
    assert status == 0
    assert "train is sound: distil trains a model of the kind dense, from minilm" in out


def test_what_an_llm_answered_is_kept_below_out(spec, folder, tmp_path, capsys):
    """It stands in no pipeline, and yet its cassette is made, and closed in the end."""
    out = tmp_path / "out"
    status, said, err = run(capsys, "teach", spec, "--data", folder, "--out", out)
    assert (status, err) == (0, "")
    assert "labels of 7 queries, kind grade" in said
    assert "Labels by pointwise" in (out / "labels.html").read_text()
    assert {path.name for path in (out / "tapes").glob("*.jsonl")} == {
        "judge.jsonl",
        "writer.jsonl",
    }
    labels = Labels.load(out / "labels", Corpus.load(folder))
    assert set(labels.sources) == {"split", "written"}
    usage = labels.origin.usage
    assert usage.calls == len(labels.run.rows) + 4, "what the writer cost is part of it"
    again = Labels.load(out / "labels", Corpus.load(folder)).origin
    assert again == labels.origin
    assert labels.run.scores.min() == 2.0
    assert labels.run.scores.max() < 2.001
    assert labels.run.kind == "grade"


def test_agreement_with_people_is_told(folder, tmp_path, capsys):
    train = Dataset.load(folder, "train")
    lines = []
    for query_id, grades in train.qrels.judgements.items():
        lines += [f"{query_id} 0 {doc_id} {2 * grade}" for doc_id, grade in grades.items()]
        other = next(doc_id for doc_id in train.corpus.doc_ids if doc_id not in grades)
        lines.append(f"{query_id} 0 {other} 0")
    (tmp_path / "llm.qrels").write_text("\n".join(lines))
    path = tmp_path / "spec.yaml"
    path.write_text(
        "limbeck: 1\npipelines: {said: [{recorded-run: {path: llm.qrels}}]}\n"
        "teach: {teacher: said, apart: [dev]}\n"
    )
    given = ("teach", path, "--data", folder, "--out", tmp_path / "out", "--judged-in", "train")
    _, out, err = run(capsys, *given)
    assert err == ""
    assert out.count("agreement with train: of ") == 1
    unknown = (*given[:4], "--out", tmp_path / "other", "--judged-in", "nosuch")
    assert "its splits are dev, train" in run(capsys, *unknown)[2]
    assert not (tmp_path / "other").exists(), "nobody was asked for nothing"
    told = json.loads(run(capsys, *given, "--at", 1, "--labels-at", 2, "--json")[1])["agreement"]
    assert told["share"] == 1.0
    page = (tmp_path / "out" / "labels.html").read_text()
    assert "Agreement with people" in page
    assert "Labels by said" in page, "by its name in the spec"


LESSON = """
teach:
  candidates: first
  teacher: [{pointwise: {llm: judge}}]
  queries: [{split: {n: 3}}, {log: {path: log.jsonl}}, {titles: {found_by: first, within: 2}},
    {written: {of: {doc2query: {llm: writer}}}}]
  relevant: 0.5
  apart: [dev, test]
"""
DARK = "teach: {candidates: first, teacher: {pointwise: {llm: judge}}, dark: {masked: [0.1, 0.2]}}"


@pytest.mark.parametrize("section", [LESSON, DARK])
def test_a_lesson_that_is_dumped_reads_back_equal(section, tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    spec = Spec.loads(SPEC[: SPEC.index("teach:")] + section, folder=tmp_path)
    assert spec.lesson is not None
    again = Spec.loads(spec.dump(), folder=tmp_path)
    assert again.lesson == spec.lesson
    assert again.pipelines == spec.pipelines


@pytest.mark.torch
@pytest.mark.parametrize("recipe", ["ance", "colbert", "cross-encoder", "dpr", "fine-tune"])
def test_a_recipe_that_is_dumped_reads_back_equal(recipe):
    path = Path(limbeck.__file__).parent / "training" / "recipes" / f"{recipe}.yaml"
    spec = Spec.load(path, ["negatives.guard={relative: 0.1}", "model.base=some/model"])
    assert spec.recipe is not None
    assert Spec.loads(spec.dump(), folder=path.parent).recipe == spec.recipe
