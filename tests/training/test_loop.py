"""A run from its recipe to a saved model: it learns, goes on bit for bit, says what is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.errors import DataError, TrainingError, UsageError
from limbeck.meter import metered
from limbeck.progress import listening
from limbeck.retrieval.bm25 import BM25
from limbeck.training import checkpoint, folders, loop, preparing, saving
from limbeck.training.loop import train
from limbeck.training.objectives.ance import ANCE
from limbeck.training.objectives.colbert import ColBERT
from limbeck.training.objectives.cross_encoder import CrossEncoder
from limbeck.training.objectives.dpr import DPR
from limbeck.training.objectives.tct_colbert import TCTColBERT
from limbeck.training.optimisers import Optimising
from limbeck.training.ranks import Ranks
from limbeck.training.recipe import BatchSize, Data, LoRA, Negatives, Recipe, Refresh, Watch
from limbeck.training.students import ColBERTStudent, CrossEncoderStudent, DenseStudent
from tests.training import world

pytestmark = pytest.mark.torch


def recipe(base: Path, **given) -> Recipe:
    usual = {
        "objective": DPR(tau=0.1),
        "model": DenseStudent(base=str(base), normalise=True),
        "data": Data(dev="dev"),
        "batch": BatchSize(examples=8),
        "steps": 6,
        "optimiser": Optimising(rate=1e-3, warm_up=2),
        "save_every": 3,
    }
    return Recipe(**usual | given)


def negatives(**given) -> Negatives:
    return Negatives(of=BM25(k=60), depth=40, kept=30, **given)


def weights(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {
        f"{file.parent.name}/{name}": tensor
        for file in sorted(out.glob("model/**/*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def alike(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether weights differ by rounding alone; a key's bias has no other gradient than that."""
    felt = a.keys() - {name for name in a if name.endswith("key.bias")}
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], atol=1e-4) for n in felt)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_model_learns_what_bm25_cannot_find(folder, base, tmp_path):
    made = train(
        recipe(
            base,
            model=DenseStudent(base=str(base), normalise=True, dropout=0.0),
            steps=200,
            optimiser=Optimising(rate=3e-3),
            negatives=negatives(),
            watch=Watch(every=50),
        ),
        folder,
        tmp_path / "out",
    )
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    seen = [line["dev"] for line in lines if "dev" in line]
    assert len(seen) == 5
    assert seen[0] < 0.3, "before the first step"
    assert made.best_score == max(seen)
    assert made.best_score > 0.8, "BM25 has .1"
    assert made.best_step == 50 * int(np.argmax(seen))
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] / 4


def test_what_is_saved_loads_in_sentence_transformers_and_in_a_pipeline(folder, base, tmp_path):
    from sentence_transformers import SentenceTransformer

    from limbeck.corpus import Corpus
    from limbeck.retrieval.dense import Dense

    made = train(recipe(base), folder, tmp_path / "out")
    model = SentenceTransformer(str(made.model), device="cpu")
    corpus = Corpus.load(folder / "corpus.jsonl")
    query = model.encode_query(["ask3 noise1"])
    documents = model.encode_document([corpus.document(row).contents for row in range(len(corpus))])
    run = Dense(encoder=str(made.model), k=5).bind(corpus)("ask3 noise1")
    scores = (documents @ query[0])[run.rows]
    assert np.allclose(run.scores, scores, atol=1e-5)
    assert (made.model / "README.md").read_text().startswith("---\nlibrary_name")


class Moving(DPR):
    """DPR with a state that moves with the optimiser, as a momentum encoder does."""

    def begin(self, examples, batches, n_steps):
        self.mean, self.moved = torch.zeros(1), 0

    def loss(self, batch, vectors):
        return super().loss(batch, vectors) * (1 + self.mean).squeeze()

    def after_step(self, step):
        self.mean, self.moved = 0.9 * self.mean + 0.1 * step, self.moved + 1

    def state(self):
        return {"mean": self.mean, "moved": self.moved}

    def load_state(self, state):
        self.mean, self.moved = state["mean"], state["moved"]


RESUMED = {
    "with a state": {
        "objective": Moving(tau=0.1),
        "batch": BatchSize(examples=4, accumulated=3),
    },
    "dpr": {},
    "accumulated": {"batch": BatchSize(examples=4, accumulated=3)},
    "cached": {"batch": BatchSize(examples=8, cached=True)},
    "by tokens": {"batch": BatchSize(tokens=120)},
    "lamb": {"optimiser": Optimising(name="lamb", rate=1e-3)},
    "ance": {
        "objective": ANCE(),
        "negatives": negatives(refresh=Refresh(every=2, depth=40, parts=2)),
    },
    "low-rank matrices": {"lora": LoRA(rank=2), "optimiser": Optimising(rate=1e-2)},
    "watched": {"watch": Watch(every=1, patience=5), "optimiser": Optimising(rate=3e-3)},
}


UNEQUAL = {"at", "seconds", "dev_seconds", "tokens"}


@pytest.mark.parametrize("kind", RESUMED)
@pytest.mark.parametrize("stopped_at", [3, 4, 5])
def test_a_run_that_was_stopped_ends_with_the_bits_of_one_that_was_not(
    folder, base, tmp_path, kind, stopped_at, monkeypatch
):
    """The checkpoint is of step 3, in mid-epoch, or not there; what came after is done again."""
    wanted = recipe(base, steps=8, **RESUMED[kind])
    whole = train(wanted, folder, tmp_path / "whole")
    real, calls = loop._clipped, []

    def killed(*given):
        calls.append(1)
        if len(calls) == stopped_at:
            raise RuntimeError("killed")
        return real(*given)

    monkeypatch.setattr(loop, "_clipped", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(wanted, folder, tmp_path / "stopped")
    assert checkpoint.newest(tmp_path / "stopped/checkpoints") == (3 if stopped_at > 3 else None)
    monkeypatch.setattr(loop, "_clipped", real)
    assert train(wanted, folder, tmp_path / "stopped").best_step == whole.best_step
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    logs = [
        [{k: v for k, v in json.loads(line).items() if k not in UNEQUAL}
         for line in (tmp_path / which / "log.jsonl").read_text().splitlines()]
        for which in ("whole", "stopped")
    ]  # fmt: skip
    assert logs[0] == logs[1]


def test_a_methods_state_moves_once_a_step_however_many_batches_it_has(folder, base, tmp_path):
    method = Moving(tau=0.1)
    batch = BatchSize(examples=4, accumulated=3)
    train(recipe(base, objective=method, batch=batch), folder, tmp_path / "out")
    assert method.moved == 6


def test_another_seed_gives_other_weights(folder, base, tmp_path):
    for seed in (0, 1):
        train(recipe(base, seed=seed), folder, tmp_path / str(seed))
    assert not same(weights(tmp_path / "0"), weights(tmp_path / "1"))


def test_a_stop_ends_the_step_and_is_gone_on_from(folder, base, tmp_path):
    wanted = recipe(base, steps=60, save_every=100)

    def stop():
        log = tmp_path / "out/log.jsonl"
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        train(wanted, folder, tmp_path / "out")
    stopper.join()
    at = checkpoint.newest(tmp_path / "out/checkpoints")
    assert at is not None
    assert 10 <= at < 60
    train(wanted, folder, tmp_path / "out")
    train(wanted, folder, tmp_path / "whole")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_what_was_done_early_is_saved_early_and_gone_on_from(folder, base, tmp_path, monkeypatch):
    """Killed before its first checkpoint, hundreds of steps on, a run began anew without a word."""
    wanted = recipe(base, steps=16, save_every=1000, watch=Watch(every=6))
    real, steps, told = loop._step, [], []

    def step(job, at):
        steps.append(at)
        if len(steps) == 13:
            raise InterruptedError
        return real(job, at)

    with listening(lambda *event: told.append(event), hear=told.append):
        with monkeypatch.context() as patched:
            patched.setattr(loop, "_step", step)
            with pytest.raises(InterruptedError):
                train(wanted, folder, tmp_path / "out")
        began = list(told)
        train(wanted, folder, tmp_path / "out")
    assert began.index("training begins: 16 steps") < began.index(("training", 0, 16, ""))
    assert any(
        ": nDCG@10 0." in str(heard) and heard.startswith("step 6") for heard in texts(began)
    )
    assert any(
        heard.endswith("looks at dev to come: 2") for _, at, _, heard in parts(began) if at == 10
    )
    again = texts(told[len(began) :])
    assert "training goes on from step 10 of 16" in again
    assert [heard.split(":")[0] for heard in again if "on dev" in heard][-2:] == [
        "step 12",
        "step 16",
    ]
    train(wanted, folder, tmp_path / "whole")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def texts(told: list) -> list[str]:
    return [heard for heard in told if isinstance(heard, str)]


def parts(told: list) -> list[tuple[str, int, int, str]]:
    return [heard for heard in told if heard[0] == "training" and not isinstance(heard, str)]


def test_small_temperatures_of_vectors_that_are_not_normalised_are_told_of(folder, base, tmp_path):
    """The loss began at 76, and nothing said why."""
    told = []
    for normalise, tau in ((True, 0.05), (False, 1.0), (False, 0.05)):
        student = DenseStudent(base=str(base), normalise=normalise)
        out = tmp_path / f"{normalise}-{tau}"
        with listening(lambda *_: None, hear=told.append):
            train(recipe(base, model=student, objective=DPR(tau=tau), steps=2), folder, out)
        is_told = any("not normalised, and tau is 0.05" in heard for heard in told)
        assert is_told == (not normalise and tau < 1)


def test_a_saved_model_does_not_hang_on_what_was_tokenised_before(folder, base, tmp_path):
    """The tokenizer's file had the lengths of the last call, and another digest the second time."""
    for out in ("first", "second"):  # which reads the tokens that the first one made
        train(recipe(base), folder, tmp_path / out)
    files = [sorted((tmp_path / out / "model").rglob("*")) for out in ("first", "second")]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    for first, second in zip(*files, strict=True):
        if first.is_file() and first.name != "README.md":
            assert first.read_bytes() == second.read_bytes(), first.name
    modes = {file.stat().st_mode & 0o777 for file in files[0] if file.is_file()}
    assert modes == {(tmp_path / "first/model").stat().st_mode & 0o666}, "whoever serves may read"


def test_a_finished_run_is_left_as_it_is(folder, base, tmp_path):
    train(recipe(base), folder, tmp_path / "out")
    saved = tmp_path / "out/model/README.md"
    saved.write_text("a card of one's own")
    train(recipe(base), folder, tmp_path / "out")
    assert saved.read_text() == "a card of one's own"
    shutil.rmtree(tmp_path / "out/model")
    train(recipe(base), folder, tmp_path / "out")
    assert (tmp_path / "out/model/modules.json").is_file()


def test_a_run_that_did_not_begin_leaves_nothing(folder, base, tmp_path):
    wanted = recipe(base, data=Data(split="nowhere"))
    with pytest.raises(
        DataError, match=r"qrels/nowhere.tsv; its splits are .*not the one you test"
    ):
        train(wanted, folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError):
        train(wanted, folder, tmp_path / "mine")
    assert (tmp_path / "mine").is_dir(), "nobody made it for this run"


def test_a_run_does_not_go_on_as_another(folder, base, tmp_path):
    train(recipe(base), folder, tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    train_rows = (other / "qrels/train.tsv").read_text().splitlines()
    (other / "qrels/train.tsv").write_text("\n".join(train_rows[:-2]) + "\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("x")
    for wanted, data, out in (
        (recipe(base, seed=3), folder, "out"),
        (recipe(base), other, "out"),
        (recipe(base), folder, "full"),
    ):
        with pytest.raises(UsageError, match="must be free, or hold this run"):
            train(wanted, data, tmp_path / out)


def test_a_run_does_not_go_on_from_another_model_in_the_same_place(folder, base, tmp_path):
    begun = tmp_path / "warm"
    for seed in (0, 1):
        wanted = recipe(world.bert(begun, seed=seed), steps=3)
        if seed:
            with pytest.raises(UsageError, match="another recipe, model or data"):
                train(wanted, folder, tmp_path / "out")
        else:
            train(wanted, folder, tmp_path / "out")


def test_more_parts_than_queries_are_refused(folder, base, tmp_path):
    wanted = negatives(refresh=Refresh(every=1, parts=99, depth=30))
    with pytest.raises(UsageError, match="number of training queries, 48, or less; got 99"):
        train(recipe(base, negatives=wanted), folder, tmp_path / "out")


def test_before_a_checkpoint_a_changed_recipe_begins_anew(folder, base, tmp_path):
    """What was mined for other queries is not taken over, nor is what was told of them."""
    first = recipe(base, negatives=negatives(), watch=Watch(every=1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "_look", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            train(first, folder, tmp_path / "out")
    assert (tmp_path / "out/candidates/v00000001").is_dir()
    second = dataclasses.replace(first, seed=3, data=Data(dev=0.3))
    train(second, folder, tmp_path / "out")
    train(second, folder, tmp_path / "fresh")
    assert same(weights(tmp_path / "out"), weights(tmp_path / "fresh"))
    log = (tmp_path / "out/log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in log]
    assert steps == sorted(steps)


def test_what_does_not_shape_the_model_may_change(folder, base, tmp_path, monkeypatch):
    """After memory ran out, or to watch a run elsewhere."""
    without = {"model": DenseStudent(base=str(base), normalise=True, dropout=0.0)}
    train(recipe(base, **without), folder, tmp_path / "whole")
    real, calls = loop._clipped, []

    def killed(*given):
        calls.append(1)
        if len(calls) == 5:
            raise TrainingError("killed")
        return real(*given)

    monkeypatch.setattr(loop, "_clipped", killed)
    with pytest.raises(TrainingError, match="killed"):
        train(recipe(base, **without), folder, tmp_path / "out")
    changed = recipe(base, **without, part_tokens=64, save_every=5, checkpointed=True)
    cached = dataclasses.replace(changed, batch=BatchSize(examples=8, cached=True))
    train(cached, folder, tmp_path / "out")
    assert len(calls) == 8, "it went on from step 3"
    assert alike(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_a_folder_is_used_by_one_process(folder, base, tmp_path):
    with (
        folders.alone(tmp_path / "out"),
        pytest.raises(UsageError, match="another one trains there"),
    ):
        train(recipe(base), folder, tmp_path / "out")


def test_a_better_look_after_the_last_checkpoint_is_not_lost_nor_taken_for_it(
    folder, base, tmp_path, monkeypatch
):
    """The best weights are those of the best step that is told, whatever was killed in between."""
    learning = {"steps": 120, "save_every": 50, "optimiser": Optimising(rate=3e-3)}
    wanted = recipe(base, watch=Watch(every=20), **learning)
    whole = train(wanted, folder, tmp_path / "whole")
    real = loop._look

    def look(job, at, watch):
        real(job, at, watch)
        if at.step == 80:
            raise RuntimeError("killed")

    monkeypatch.setattr(loop, "_look", look)
    with pytest.raises(RuntimeError, match="killed"):
        train(wanted, folder, tmp_path / "out")
    assert max(checkpoint.steps(tmp_path / "out/best")) > 50, "one that the checkpoint is not of"
    monkeypatch.setattr(loop, "_look", real)
    again = train(wanted, folder, tmp_path / "out")
    assert (again.best_step, again.best_score) == (whole.best_step, whole.best_score)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))
    kept = checkpoint.steps(tmp_path / "out/best")
    assert kept == [100, again.best_step], "the best ones of both checkpoints that are kept"
    shutil.rmtree(tmp_path / "out/checkpoints/step-00000120")
    assert train(wanted, folder, tmp_path / "out").best_step == whole.best_step


def test_a_loss_that_is_no_number_ends_the_run_and_the_checkpoint_stays(
    folder, base, tmp_path, monkeypatch
):
    real = DPR.loss
    steps = []

    def loss(self, batch, vectors):
        steps.append(1)
        return real(self, batch, vectors) * (float("nan") if len(steps) == 5 else 1.0)

    monkeypatch.setattr(DPR, "loss", loss)
    with pytest.raises(TrainingError, match=r"at step 5 .*the checkpoint of step 3 is kept"):
        train(recipe(base), folder, tmp_path / "out")
    assert checkpoint.newest(tmp_path / "out/checkpoints") == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_told_and_what_helps(folder, base, tmp_path, monkeypatch, error):
    def loss(*_):
        raise error

    monkeypatch.setattr(DPR, "loss", loss)
    with pytest.raises(TrainingError, match=r"must fit into memory; step 1 .*part_tokens"):
        train(recipe(base), folder, tmp_path / "out")


METHODS = {
    "dpr of two towers": (
        DPR(), {"towers": "two", "pooling": "cls", "title_separator": " [SEP] "}, "dense"
    ),
    "ance": (ANCE(), {"layer_norm": True, "pooling": "cls"}, "dense"),
    "colbert": (ColBERT(), {"dim": 8, "query_tokens": 10}, "colbert"),
    "cross-encoder": (CrossEncoder(), {}, "cross-encoder"),
    "cross-encoder by pairs": (CrossEncoder(loss_over="pairwise"), {}, "cross-encoder"),
    "binary cross-encoder": (CrossEncoder(loss_over="binary"), {}, "cross-encoder"),
}  # fmt: skip
STUDENTS = {
    "dense": DenseStudent,
    "colbert": ColBERTStudent,
    "cross-encoder": CrossEncoderStudent,
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(folder, base, tmp_path, name):
    objective, shape, kind = METHODS[name]
    made = train(
        recipe(
            base,
            objective=objective,
            model=STUDENTS[kind](base=str(base), dropout=0.0, **shape),
            negatives=negatives(n=3),
            steps=400,
            optimiser=Optimising(rate=3e-3),
            watch=Watch(every=200, pool=48),
        ),
        folder,
        tmp_path / "out",
    )
    assert made.best_score > 0.5, "BM25 has .1"
    assert weights(tmp_path / "out")


def test_a_student_learns_from_a_colbert(folder, base, tmp_path):
    teacher = train(
        recipe(
            base,
            objective=ColBERT(in_batch=True),
            model=ColBERTStudent(base=str(base), dim=16, query_tokens=10, dropout=0.0),
            negatives=negatives(),
            steps=200,
            optimiser=Optimising(rate=3e-3),
            watch=Watch(every=100),
        ),
        folder,
        tmp_path / "teacher",
    )
    student = train(
        recipe(
            base,
            objective=TCTColBERT(teacher=str(teacher.model), student_tau=0.05),
            model=DenseStudent(base=str(base), normalise=True, dropout=0.0),
            negatives=negatives(),
            steps=200,
            optimiser=Optimising(rate=3e-3),
            watch=Watch(every=100),
        ),
        folder,
        tmp_path / "student",
    )
    assert teacher.best_score > 0.8
    assert student.best_score > 0.8


def test_negatives_found_beside_are_taken_over_whole(folder, base, tmp_path, monkeypatch):
    """Every batch has the negatives of one version, the same for all of its queries."""
    refresh = Refresh(every=20, depth=60, beside=True)
    wanted = recipe(
        base,
        objective=ANCE(),
        negatives=Negatives(of=BM25(k=60), n=3, depth=60, kept=60, refresh=refresh),
        steps=100_000,
        save_every=20,
    )
    seen: list[int] = []
    runs: dict[int, object] = {}
    real = loop._gradient

    def gradient(job, batch):
        version = job.feed.version
        run = runs.setdefault(version, job.candidates.load(version))
        for query, passages in zip(batch.queries.tolist(), batch.passages, strict=True):
            own = set(run.rows[run.segment(query)].tolist())
            assert set(passages[1:].tolist()) <= own
        seen.append(version)
        if version >= 3:
            raise KeyboardInterrupt
        return real(job, batch)

    monkeypatch.setattr(loop, "_gradient", gradient)
    with metered() as meter, pytest.raises(KeyboardInterrupt):
        train(wanted, folder, tmp_path / "out")
    assert seen == sorted(seen)
    assert len(set(seen)) >= 2
    assert not np.array_equal(runs[1].rows, runs[seen[-1]].rows)
    told = [times for message, times in meter.notes.items() if "not to be had" in message]
    assert told, "the second process cannot say it"
    n_others = 2 * world.N_TOPICS - 2
    assert told[0] % ((60 - n_others) * 2 * world.N_TOPICS) == 0, "there are not 60 in any version"


def test_max_p_takes_a_documents_best_passage(folder, base, tmp_path):
    made = train(
        recipe(
            base,
            objective=ANCE(max_p=True),
            model=DenseStudent(base=str(base), normalise=True, dropout=0.0),
            data=Data(dev="dev", passages=3, max_passages=2),
            negatives=negatives(n=3),
            steps=240,
            optimiser=Optimising(rate=3e-3),
            watch=Watch(every=120),
        ),
        folder,
        tmp_path / "out",
    )
    assert made.best_score > 0.5


def test_low_rank_matrices_are_part_of_the_saved_weights(folder, base, tmp_path):
    pytest.importorskip("peft", reason="the extra training is not installed")
    from safetensors.torch import load_file

    made = train(
        recipe(base, lora=LoRA(rank=4), optimiser=Optimising(rate=1e-2)), folder, tmp_path / "out"
    )
    plain = train(recipe(base), folder, tmp_path / "plain")
    assert weights(tmp_path / "out").keys() == weights(tmp_path / "plain").keys()
    held = checkpoint.load(tmp_path / "out/checkpoints", 6).state["model"]
    assert all("lora" in name for name in held)
    assert plain.model.is_dir()
    start, saved = (
        load_file(base / "model.safetensors"),
        load_file(made.model / "model.safetensors"),
    )
    moved = {name for name, tensor in saved.items() if not torch.equal(tensor, start[name])}
    wanted = {name.removeprefix("0.model.base_model.model.").split(".lora_")[0] for name in held}
    adapted = {name.removeprefix("base_model.model.") for name in wanted}
    assert moved
    assert {name.removesuffix(".weight") for name in moved} == adapted - {"pooler.dense"}


HEADS = {
    "dense": (DenseStudent, {"pooling": "cls", "layer_norm": True}, DPR(), {"linear", "norm"}),
    "colbert": (ColBERTStudent, {"dim": 8, "query_tokens": 10}, ColBERT(), {"linear"}),
    "cross-encoder": (CrossEncoderStudent, {}, CrossEncoder(), {"classifier", "pooler"}),
}


@pytest.mark.parametrize("modules", [(), ("query", "value")], ids=str)
@pytest.mark.parametrize("kind", HEADS)
def test_new_heads_are_trained_in_full_beside_low_rank_matrices(
    folder, base, tmp_path, kind, modules
):
    pytest.importorskip("peft", reason="the extra training is not installed")
    cls, shape, objective, heads = HEADS[kind]
    wanted = recipe(
        base,
        objective=objective,
        model=cls(base=str(base), **shape),
        negatives=negatives(),
        lora=LoRA(rank=2, modules=modules),
        optimiser=Optimising(rate=1e-2),
    )
    before = {
        name: weights.clone()
        for name, weights in preparing.student_of(wanted).model.named_parameters()
    }
    train(wanted, folder, tmp_path / "out")
    held = checkpoint.load(tmp_path / "out/checkpoints", 6).state["model"]
    of_head = {name: weights for name, weights in held.items() if "lora" not in name}
    assert {head for head in heads for name in of_head if head in name.split(".")} == heads
    assert all(heads & set(name.split(".")) for name in of_head), "and nothing else is"
    assert not any(torch.equal(before[n], w) for n, w in of_head.items() if n.endswith("weight"))
    assert not any(heads & set(name.split(".")) for name in held.keys() - of_head.keys())
    saved = list(weights(tmp_path / "out").values())
    for name, trained in of_head.items():
        assert any(s.shape == trained.shape and torch.equal(s, trained) for s in saved), name


@pytest.mark.parametrize("modules", [(), ("query", "value", "dense")], ids=str)
def test_a_head_of_several_maps_gets_no_matrices(roberta, modules):
    pytest.importorskip("peft", reason="the extra training is not installed")

    model = CrossEncoderStudent(base=str(roberta))
    given = {"objective": CrossEncoder(), "model": model, "negatives": negatives()}
    student = preparing.student_of(recipe(roberta, lora=LoRA(modules=modules), **given))
    trained = {name for name, w in student.model.named_parameters() if w.requires_grad}
    in_full = {name.partition(".classifier.")[2] for name in trained if "lora" not in name}
    assert in_full == {f"{m}.{kind}" for m in ("dense", "out_proj") for kind in ("weight", "bias")}
    assert any("layer.0" in name for name in trained)


def test_matrices_for_maps_that_are_not_there_are_refused(folder, base, tmp_path):
    pytest.importorskip("peft", reason="the extra training is not installed")

    for name in ("nowhere", "LayerNorm"):
        with pytest.raises(UsageError, match=r"lora\.modules must name linear maps"):
            train(recipe(base, lora=LoRA(modules=(name,))), folder, tmp_path / "out")


@pytest.mark.parametrize("batch", [{"tokens": 120}, {"examples": 7}, {"tokens": 90}])
def test_epochs_have_as_many_steps_as_they_give_batches(folder, base, tmp_path, batch):
    wanted = recipe(base, steps=None, epochs=2, batch=BatchSize(**batch), save_every=1000)
    train(wanted, folder, tmp_path / "out")
    newest = checkpoint.newest(tmp_path / "out/checkpoints")
    feed = checkpoint.load(tmp_path / "out/checkpoints", newest).state["feed"]
    assert feed["epoch"] == 1, "the second one"
    assert feed["place"] > 1
    job = preparing.prepare(wanted, folder, tmp_path / "again", ranks=Ranks())
    first, second = (len(job.feed._batches.epoch(number)) for number in (0, 1))
    assert (newest, feed["place"]) == (first + second, second)


def test_patience_ends_a_run_that_gets_no_better(folder, base, tmp_path):
    made = train(
        recipe(
            base,
            steps=400,
            optimiser=Optimising(rate=1e-9),
            watch=Watch(every=2, patience=2),
        ),
        folder,
        tmp_path / "out",
    )
    assert made.best_step == 0, "no step made it better"
    assert checkpoint.newest(tmp_path / "out/checkpoints") < 400


def test_a_checkpointed_run_computes_twice_and_trains_the_same(folder, base, tmp_path, monkeypatch):
    from transformers.models.bert.modeling_bert import BertIntermediate

    real, calls = BertIntermediate.forward, []
    monkeypatch.setattr(BertIntermediate, "forward", lambda *given: calls.append(1) or real(*given))
    n_calls = []
    for name in ("plain", "checkpointed"):
        calls.clear()
        train(recipe(base, checkpointed=name != "plain"), folder, tmp_path / name)
        n_calls.append(len(calls))
    assert alike(weights(tmp_path / "plain"), weights(tmp_path / "checkpointed"))
    in_trial = 2 * 3  # layers, and the forwards in which attention is tried
    assert n_calls[1] - in_trial == 2 * (n_calls[0] - in_trial)


_NEEDS_COMPILER = pytest.mark.skipif(
    shutil.which("g++") is None, reason="what torch compiles for a CPU needs g++"
)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, in its compiler
@pytest.mark.parametrize("really", [False, pytest.param(True, marks=_NEEDS_COMPILER)])
def test_a_compiled_run_trains_the_same_and_leaves_nothing_in_the_model(
    folder, base, tmp_path, monkeypatch, really
):
    """Where there is no compiler, the model is given back as it was."""
    compiled, plain = [], []
    compiler = torch.compile if really else lambda forward, dynamic: forward
    monkeypatch.setattr(
        torch,
        "compile",
        lambda forward, dynamic: compiled.append(dynamic) or compiler(forward, dynamic=dynamic),
    )
    real = saving._plain
    monkeypatch.setattr(saving, "_plain", lambda *given: plain.append(real(*given)) or plain[-1])
    model = DenseStudent(base=str(base), normalise=True, dropout=0.0)
    for name in ("plain", "compiled"):
        train(recipe(base, model=model, compiled=name != "plain"), folder, tmp_path / name)
    assert alike(weights(tmp_path / "plain"), weights(tmp_path / "compiled"))
    assert compiled == [False]
    assert "forward" not in vars(plain[-1][0].model)


def test_optimiser_states_stay_float32_in_bf16(folder, base, tmp_path):
    train(recipe(base, precision="bf16"), folder, tmp_path / "bf16")
    state = checkpoint.load(tmp_path / "bf16/checkpoints", 6).state
    moments = [t for s in state["optimiser"]["state"].values() for t in s.values()]
    assert {t.dtype for t in moments if isinstance(t, torch.Tensor)} == {torch.float32}


def test_the_example_trains_exports_and_searches(folder, base, tmp_path, capsys):
    pytest.importorskip("onnxscript", reason="the extra training is not installed")
    path = Path(__file__).parents[2] / "examples" / "train.py"
    spec = importlib.util.spec_from_file_location("example_train", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(folder, tmp_path / "out", base=str(base), steps=6, tokens=64)
    assert "exported in 8 bits" in capsys.readouterr().out
