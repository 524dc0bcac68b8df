"""Recipes as files: ours read, and what is wrong with one is told in a line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from safetensors.torch import load_file

from limbeck.errors import SpecError, UsageError
from limbeck.spec.spec import Spec
from limbeck.training import card
from limbeck.training.objectives.dpr import DPR
from limbeck.training.students import DenseStudent

pytestmark = pytest.mark.torch

OURS = sorted((files("limbeck.training") / "recipes").iterdir(), key=str)

PLAIN = """
limbeck: 1
train:
  objective: {dpr: {tau: 0.1}}
  model: {dense: {base: model, normalise: true}}
  data: {dev: dev}
  negatives: {of: bm25, n: 2, depth: 10, kept: 4}
  batch: {examples: 8}
  steps: 4
  watch: {every: 2, pool: 10}
pipelines:
  bm25: [{bm25: {k: 20}}]
"""


@pytest.fixture
def spec(tmp_path, base) -> Path:
    shutil.copytree(base, tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(PLAIN)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_ours_read(file):
    changes = ["objective.teacher=some/model"] if file.name == "tct-colbert.yaml" else []
    recipe = Spec.load(file, changes).recipe
    assert recipe is not None
    assert recipe.negatives is not None


def test_a_recipe_is_what_the_file_says(spec, base):
    recipe = Spec.load(spec).recipe
    assert recipe.objective == DPR(tau=0.1)
    assert recipe.model == DenseStudent(base=str(spec.parent / "model"), normalise=True)
    assert recipe.negatives.of.name == "bm25"
    assert (recipe.negatives.of.k, recipe.negatives.n) == (20, 2)


def test_changes_stand_above_the_file(spec, base, monkeypatch):
    monkeypatch.chdir(spec.parent)
    changes = [
        "optimiser.rate=1e-5",
        "objective.tau=0.5",
        f"model.dense.base={base}",
        "steps=null",
        "epochs=2",
        "negatives.guard={relative: 0.05}",
    ]
    recipe = Spec.load(spec, changes).recipe
    assert recipe.optimiser.rate == 1e-5
    assert recipe.objective.tau == 0.5
    assert recipe.model.base == str(base.resolve())
    assert (recipe.steps, recipe.epochs) == (None, 2)
    assert recipe.negatives.guard.relative == 0.05
    plain = Spec.load(spec).recipe
    assert dataclasses.replace(recipe, steps=4, epochs=None).batch == plain.batch


WRONG = {
    "lr=1": "lr",
    "optimiser.lr=1": "lr",
    "optimiser.rate=fast": "rate",
    "optimiser.rate=-1.0": "must be above 0",
    "optimiser.name=sgd": "must be 'adamw' or 'lamb'",
    "objective={dqr: {}}": "no objective",
    "model={dens: {base: x}}": "no kind of model",
    "model={dense: {}}": "must have `base`",
    "model={colbert: {base: model}}": None,
    "objective={cross-encoder: {}}": "must train a model of the kind cross-encoder; got dense",
    "negatives.of=bm52": "no index, pipeline or node",
    "negatives=null": "a watch over a pool must have negatives",
    "batch={}": "so many examples or so many tokens",
    "epochs=3": "so many steps or so many epochs",
    "steps=0": "must be 1 or more",
    "precision=fp8": "precision",
    "watch.every=0": "must be 1 or more",
    "negatives.pick=best": "pick",
    "seed=-1": "seed must be 0 or more",
    "optimiser.warm_up=9": "warm_up must lie in",
    "data.dev=null": "a watch must have dev queries",
    "negatives.refresh={every: 2, beside: true}": "every 500 steps or more; got every 2",
    "negatives.n=9": "n must lie in",
    "negatives.refresh={every: 2, depth: 1}": "refresh.depth must be kept",
    "negatives={of: bm25, kept: 2, guard: {above: 9.0}, refresh: {every: 2}}": "must be a relative",
    "optimiser.betas=[0.9, 1.5]": "betas must lie in [0, 1)",
    "optimiser.weight_decay=-1.0": "weight_decay be 0 or more",
    "model.document_tokens=-5": "document_tokens must be 1 or more",
    "model.query_tokens=0": "query_tokens must be 1 or more",
    "lora={rank: 0}": "rank must be 1 or more",
    "data={dev: dev, max_passages: 2}": "max_passages must be of documents that are cut",
    "model.base=./nowhere": "must be there",
    "batch.examples=-1": "command line: train.batch: examples must be 1 or more",
}


@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_is_told_with_its_place(spec, change):
    if WRONG[change] is None:
        assert Spec.load(spec, [change]).recipe is not None
        return
    with pytest.raises(SpecError) as error:
        Spec.load(spec, [change])
    assert WRONG[change] in str(error.value)
    assert "train" in str(error.value)


@pytest.mark.parametrize("change", ["steps", "=3", "optimiser..rate=1"])
def test_a_change_must_be_key_and_value(spec, change):
    with pytest.raises(UsageError, match="a change must be key=value"):
        Spec.load(spec, [change])


def test_a_path_in_the_file_stays_below_it(spec):
    spec.write_text(PLAIN.replace("base: model", "base: /etc"))
    with pytest.raises(SpecError, match="a model must be"):
        Spec.load(spec)


def test_a_length_beyond_the_models_is_refused(base):
    with pytest.raises(UsageError, match="document_tokens must be 258 or less"):
        DenseStudent(base=str(base), document_tokens=259).load()


def limbeck(
    *arguments: object, cwd: Path, launcher: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *launcher, "-m", "limbeck", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )


def test_the_command_trains_goes_on_and_tells_the_score(spec, folder):
    wanted = ("train", spec.name, "--data", folder, "--out", "out", "--json")
    made = limbeck(*wanted, cwd=spec.parent)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["step"] in {2, 4}
    assert (spec.parent / told["model"] / "modules.json").is_file()
    again = limbeck(*wanted, cwd=spec.parent)
    assert json.loads(again.stdout) == told
    card = (spec.parent / "out/model/README.md").read_text()
    assert "tau: 0.1" in card
    assert "nDCG@10" in card


CROSS_ENCODER = ("objective={cross-encoder: {}}", "model={cross-encoder: {base: model}}")


def test_a_cross_encoder_has_neither_a_whole_corpus_to_search_nor_an_index(spec):
    assert Spec.load(spec, CROSS_ENCODER).recipe.model.name == "cross-encoder"
    for change, told in (
        ("watch.pool=null", "must be watched over a pool"),
        ("negatives.refresh={every: 2}", "a cross-encoder has no index"),
    ):
        with pytest.raises(SpecError, match=told):
            Spec.load(spec, (*CROSS_ENCODER, change))


def test_ctrl_c_is_one_line_and_ends_the_process_beside(spec, folder):
    """A terminal sends it to all processes of the command."""
    changes = ("negatives.refresh={every: 2, beside: true}", "save_every=1", "steps=100000")
    command = [sys.executable, "-m", "limbeck", "train", spec.name, *changes, "watch=null"]
    running = subprocess.Popen(
        [*command, "--data", str(folder), "--out", "out"],
        cwd=spec.parent,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    versions = spec.parent / "out/candidates"
    deadline = time.monotonic() + 90
    while not (versions / "v00000002").is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert (versions / "v00000002").is_dir() or len(list(versions.glob("v*"))) > 1, told
    assert running.returncode == 130
    assert "Traceback" not in told
    assert "the same command goes on where it was" in told


def test_the_card_names_the_folder_and_no_path_as_a_model_of_the_hub(spec, folder):
    (spec.parent / "my-model").mkdir()
    given = ("train", "../recipe.yaml", "--data", folder, "--out", ".")
    made = limbeck(*given, cwd=spec.parent / "my-model")
    assert made.returncode == 0, made.stderr
    text = (spec.parent / "my-model/model/README.md").read_text()
    assert "\n# my-model\n" in text
    assert "base_model" not in text


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("intfloat/e5-small", "intfloat/e5-small"),
        ("/models/mine", None),
        ("./mine", None),
    ],
)
def test_the_cards_base_is_what_the_hub_calls_it(base, name):
    assert card._on_hub(base) == name


def test_two_ranks_train_the_model_of_one(spec, folder):
    """The same batches, losses and weights; one of the two writes and tells."""
    shared = ("train", spec.name, "model.dense.dropout=0", "--data", str(folder), "--json")
    alone = limbeck(*shared, "--out", "alone", cwd=spec.parent)
    assert alone.returncode == 0, alone.stderr
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    both = limbeck(*shared, "--out", "both", cwd=spec.parent, launcher=launcher)
    assert both.returncode == 0, both.stderr
    assert json.loads(both.stdout)["dev"] == pytest.approx(json.loads(alone.stdout)["dev"])
    lines = [
        [json.loads(line) for line in (spec.parent / out / "log.jsonl").read_text().splitlines()]
        for out in ("alone", "both")
    ]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    wanted, found = (
        load_file(spec.parent / out / "model/model.safetensors") for out in ("alone", "both")
    )
    for name, held in wanted.items():  # a key's bias has no gradient but noise, which Adam follows
        assert torch.allclose(found[name], held, atol=1e-5) or name.endswith("key.bias"), name


def test_the_commands_mistakes_are_one_line(spec, folder, tmp_path):
    (tmp_path / "empty/qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        (tmp_path / f"empty/{name}.jsonl").write_bytes((folder / f"{name}.jsonl").read_bytes())
    (tmp_path / "empty/qrels/train.tsv").write_text("query-id\tcorpus-id\tscore\n")
    (tmp_path / "empty/qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    for arguments, told in (
        ((spec.name, "lr=1", "--data", folder), "lr"),
        (("dqr", "--data", folder), "one of ance, ance-warm-up, colbert"),
        (("fine-tun", "--data", folder), "did you mean fine-tune?"),
        (("fine-tune", "--data", "mini"), "its splits are test; name theirs as data.split, which"),
        (("fine-tune", "--data", "nowhere"), "'nowhere' does not exist. See limbeck train --help"),
        (("fine-tune", "--data", folder, "batch.examples=-1"), "command line: train.batch: "),
        ((spec.name, "data.split=trian", "--data", folder), "trian"),
        ((spec.name, "--data", tmp_path / "empty"), "train"),
        ((spec.name, "--data", folder, "batch.examples=4000"), "4000"),
    ):
        made = limbeck("train", *arguments, "--out", "out", cwd=spec.parent)
        assert made.returncode in {1, 2}
        assert told in made.stderr
        assert "Traceback" not in made.stderr
        errors = [line for line in made.stderr.splitlines() if line.startswith("limbeck: ")]
        assert len(errors) == 1, made.stderr
        assert told == "4000" or not (spec.parent / "out").exists(), "only that one found negatives"
