"""Distilling a pipeline, from its spec to the card and to the spec in which the student stands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.pipeline import Top
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.cutoff import Cutoff
from limbeck.retrieval.fusion import Fuse
from limbeck.spec.spec import Spec
from limbeck.training.distilling import with_student
from limbeck.training.lesson import Lesson
from limbeck.training.loop import train
from limbeck.training.networks import Computing, network
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Recipe
from limbeck.training.searching import searched
from limbeck.training.students import DenseStudent
from tests.training import world

pytestmark = pytest.mark.torch

SPEC = """
limbeck: 1
pipelines:
  first: [{bm25: {k: 40}}]
  slow: [{dense: {encoder: teacher, k: 40}}]
  both: [{fuse: {of: [first, slow]}}]
  other: [{dense: {encoder: model, k: 40}}]
teach:
  teacher: slow
  queries: [split, {titles: {n: 5}}]
  depth: 20
  apart: [dev]
train:
  objective: {distil: {tau: 0.1}}
  model: {dense: {base: model, normalise: true, dropout: 0}}
  negatives: {n: 4, depth: 16, kept: 12}
  batch: {examples: 16}
  steps: 150
  optimiser: {rate: 5.0e-3}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory, folder, base) -> Path:
    """A spec whose teacher knows the tiny world."""
    place = tmp_path_factory.mktemp("distil")
    knowing = Recipe(
        objective=DPR(tau=0.1),
        model=DenseStudent(base=str(base), normalise=True, dropout=0.0),
        data=Data(dev=None),
        batch=BatchSize(examples=16),
        steps=150,
        optimiser=Optimising(rate=5e-3),
    )
    made = train(knowing, folder, place / "knowing").model
    shutil.copytree(made, place / "teacher")
    shutil.copytree(base, place / "model")
    (place / "spec.yaml").write_text(SPEC)
    return place / "spec.yaml"


def limbeck(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limbeck", *map(str, arguments)]
    # As a user has it: without the warnings of other packages as errors.
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def test_a_pipeline_is_distilled_and_what_the_student_keeps_is_told(spec, folder, tmp_path):
    given = ("distill", spec, "--data", folder, "--out", tmp_path, "--split", "dev")
    made = limbeck(*given, "--gate", "0.5", "--json", cwd=spec.parent)
    assert made.returncode == 0, made.stderr
    card = json.loads(made.stdout)
    assert card == json.loads((tmp_path / "retention.json").read_text())
    scores = {name: each["mean"] for name, each in card["scores"].items()}
    assert set(scores) == {"teacher", "student", "student in 8 bits", "base"}
    assert scores["teacher"] > 0.8
    assert card["retention"] == pytest.approx(scores["student"] / scores["teacher"])
    assert card["retention"] > 0.6
    above = scores["teacher"] - scores["base"]
    assert card["gain_kept"] == pytest.approx((scores["student"] - scores["base"]) / above)
    assert card["to_base"]["wins"] > card["to_base"]["losses"]
    assert card["lessons"]["n_queries"] == 52, "5 titles, and 48 queries but one that leaks"
    assert len(card["lessons"]["leaks"]) == 1
    assert card["leak_guard"] == "leaks were kept out"
    assert card["lessons"]["training_s"] > 0
    page = (tmp_path / "retention.html").read_text()
    assert f"keeps {100 * card['retention']:.1f} % of its teacher's nDCG@10" in page
    assert "1 queries were kept out" in page
    modules = json.loads((tmp_path / "training" / "base" / "modules.json").read_text())
    assert modules[-1]["type"].endswith("Normalize"), "the base is as the recipe makes it"
    base = DenseStudent(base=str(spec.parent / "model"), normalise=True)
    held = network(base.load(), Computing("fp32", 4096, packed=True), frozen=True)
    dataset = Dataset.load(folder, "dev")
    held.read(dataset.corpus, dataset.queries)
    places, ids = np.arange(len(dataset.queries)), [q.query_id for q in dataset.queries]
    before = searched(
        held, places, ids, np.arange(len(dataset.corpus)), k=1000, corpus=dataset.corpus
    )
    untaught = evaluate(before, dataset.qrels, ("nDCG@10",)).means()["nDCG@10"]
    assert scores["base"] == pytest.approx(untaught, abs=1e-6), "and it has learned nothing"
    reproduce = json.loads((tmp_path / "report" / "report.json").read_text())["reproduce"]
    assert reproduce["command"].startswith(f"limbeck distill {spec} --data")
    assert reproduce["spec"] == SPEC

    student = Spec.load(tmp_path / "spec.yaml").pipelines["slow"].bind(Corpus.load(folder))
    dataset = Dataset.load(folder, "dev")
    found = evaluate(student(dataset.queries), dataset.qrels, ("nDCG@10",)).means()["nDCG@10"]
    assert found == pytest.approx(scores["student"])

    both = Spec.load(tmp_path / "spec.yaml").pipelines["both"]
    assert both.of[1] == Spec.load(tmp_path / "spec.yaml").pipelines["slow"]
    assert "other is not in" in made.stderr, "its model lies outside of the folder"

    again = limbeck(*given, "--gate", "1.5", cwd=spec.parent)
    assert again.returncode == 1
    assert "must keep 150.0% of its teacher's nDCG@10, and more than its base" in again.stderr
    assert "leak guard: 1 queries were kept out" in again.stdout
    assert "Traceback" not in again.stderr
    assert f"retention {card['retention']:.1%}" in again.stdout


def test_a_pipeline_teaches_and_the_guard_says_what_it_kept_out(spec, folder, tmp_path):
    given = ("teach", spec, "--data", folder, "--out", tmp_path, "queries=[split]")
    made = limbeck(*given, cwd=spec.parent)
    assert made.returncode == 0, made.stderr
    assert "of 47 queries, kind cosine" in made.stdout
    assert "leak guard: 1 queries were kept out" in made.stdout
    clean = limbeck(*given[:5], tmp_path / "b", "queries=[titles]", "--json", cwd=spec.parent)
    told = json.loads(clean.stdout)
    assert told["leaks"] == []
    assert told["n_apart"] == 24
    assert told["n_queries"] == 48


MASKED = "{splade: {base: masked, dropout: 0}}"
OTHERS = {
    "splade": ["train.objective={distil-splade: {}}", f"train.model={MASKED}"],
    "adapter": ["train.model={adapter: {base: model}}"],
    "colbert": ["train.model={colbert: {base: model, dim: 0}}"],
    "cross-encoder": [
        "train.objective={distil-cross-encoder: {}}",
        "train.model={cross-encoder: {base: model}}",
        "teach.candidates=first",
        "teach.teacher={maxsim: {encoder: teacher}}",
    ],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_students_stand_in_too(spec, folder, tmp_path, kind):
    if not (spec.parent / "masked").is_dir():
        world.masked_bert(spec.parent / "masked")
    given = ("distill", spec, *OTHERS[kind], "train.steps=3", "train.optimiser.warm_up=0")
    given = (*given, "teach.gate=1.9", "--data", folder, "--out", tmp_path, "--split", "dev")
    made = limbeck(*given, cwd=spec.parent)
    assert made.returncode == 1, made.stderr
    assert "must keep 190.0% of its teacher's nDCG@10" in made.stderr
    card = json.loads((tmp_path / "retention.json").read_text())
    assert set(card["scores"]) == {"teacher", "student", "base"}
    name = "student" if kind == "cross-encoder" else "slow"
    corpus, dataset = Corpus.load(folder), Dataset.load(folder, "dev")
    student = Spec.load(tmp_path / "spec.yaml").pipelines[name].bind(corpus)
    found = evaluate(student(dataset.queries), dataset.qrels, ("nDCG@10",)).means()["nDCG@10"]
    assert found == pytest.approx(card["scores"]["student"]["mean"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["teach.teacher=nobody"], "'nobody' is no index, pipeline or node"),
        (["teach.queries=[splits]"], "'splits' is no source of queries"),
        (["teach.depth=0"], "depth must be 1 or more"),
        (["teach.apart=[]"], "split that is measured on must be kept apart"),
        (["train.data.dev=dev"], "must not choose the weights; 'dev' is also train.data.dev"),
        (["train.objective={adam: {}}"], "adam must have dark examples; the lesson makes none"),
        (["train.objective={distil: {by: margin-mse, tau: 0.1}}"], "give scale, or take kl"),
        (["train.data.dev=0.5", "teach.queries=[titles]"], "the lesson has none of a split"),
        (["train.data.labels=labels"], "leave it out, or learn from these alone"),
        (["train.model={cross-encoder: {base: model}}"], "must train a model of the kind dense"),
        (["teach={teacher: slow, dark: {}}"], "give candidates"),
        (
            [
                "teach.candidates=first",
                "teach.teacher={maxsim: {encoder: teacher}}",
                "teach.dark={}",
            ],
            "must be learned from, or scoring them is for nothing; distil does not",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_line(spec, folder, tmp_path, changes, why):
    given = ("distill", spec, *changes, "--data", folder, "--out", tmp_path, "--split", "dev")
    made = limbeck(*given, "train.steps=1", cwd=spec.parent)
    assert made.returncode in {1, 2}
    assert why in made.stderr
    assert "Traceback" not in made.stderr


def test_a_spec_without_the_sections_is_refused(spec, folder, tmp_path):
    bare = tmp_path / "bare.yaml"
    bare.write_text("limbeck: 1\npipelines: {first: [bm25]}\n")
    for command in ("teach", "distill"):
        made = limbeck(command, bare, "--data", folder, "--out", tmp_path / "o", cwd=tmp_path)
        assert made.returncode == 2
        assert "must have a section `teach`; it has none" in made.stderr


def test_dark_examples_stand_on_the_card(spec, folder, tmp_path):
    given = ("distill", spec, "train.objective={adam: {tau: 0.1}}", "train.steps=3")
    given = (*given, "train.optimiser.warm_up=0", "teach.candidates=first", "teach.gate=1.9")
    teacher = ("teach.teacher={maxsim: {encoder: teacher}}", "teach.dark={reinforced: 1, noisy: 1}")
    where = ("--data", folder, "--out", tmp_path, "--split", "dev")
    made = limbeck(*given, *teacher, *where, cwd=spec.parent)
    assert made.returncode == 1, made.stderr
    card = json.loads((tmp_path / "retention.json").read_text())
    assert {"mean of negatives", "mean of noisy", "mean of positives"} <= set(
        card["lessons"]["dark"]
    )


HYBRID = Fuse((BM25(), BM25(k1=2.0)))
STUDENT = BM25(b=0.1)


@pytest.mark.parametrize(
    ("given", "lesson", "wanted"),
    [
        (HYBRID, Lesson(teacher=HYBRID), STUDENT),
        (HYBRID >> Top(3), Lesson(teacher=HYBRID), STUDENT >> Top(3)),
        (Fuse((HYBRID, BM25())), Lesson(teacher=HYBRID), Fuse((STUDENT, BM25()))),
        (
            BM25() >> Cutoff(share=0.5) >> Top(3),
            Lesson(teacher=Cutoff(share=0.5), candidates=BM25()),
            STUDENT >> Top(3),
        ),
        (
            Fuse((BM25() >> Cutoff(share=0.5), HYBRID)),
            Lesson(teacher=Cutoff(share=0.5), candidates=BM25()),
            Fuse((STUDENT, HYBRID)),
        ),
        (BM25() >> Top(3), Lesson(teacher=HYBRID), BM25() >> Top(3)),
    ],
)
def test_a_student_stands_for_its_teacher_and_for_what_that_was_given(given, lesson, wanted):
    """Before a reranker the student stood behind the first stage, whose hits were thrown away."""
    assert with_student(given, lesson, STUDENT) == wanted
