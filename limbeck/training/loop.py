"""The loop: a recipe in, a trained model out."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch

from limbeck.errors import TrainingError
from limbeck.progress import announcer, teller
from limbeck.training import checkpoint
from limbeck.training.batches import Batch
from limbeck.training.card import Trained
from limbeck.training.finishing import finish
from limbeck.training.folders import alone
from limbeck.training.gradients import Added, accumulate
from limbeck.training.optimisers import rate
from limbeck.training.preparing import Job, prepare
from limbeck.training.ranks import together
from limbeck.training.recipe import Recipe, Watch
from limbeck.training.refreshing import Refresher

__all__ = ["train"]

_KEPT = 2
_TOLD_EVERY = 10
_NOTHING_DONE = -1
"""Step 0 has been done where the dev split was looked at before the first step."""

_FIRST_SAVED = 10
"""What was not saved is lost where a process is killed; what came before the first step, too."""


def train(recipe: Recipe, folder: Path, out: Path) -> Trained:
    """Train a model as a recipe says, and return what became of it.

    A run that was stopped goes on from its last checkpoint when it is called for again; on a CPU
    it ends with the same bits, but where negatives are found beside it.

    Args:
        recipe: what to do.
        folder: the collection, in BEIR layout.
        out: where the model, checkpoints and the log are written.

    Raises:
        UsageError: the recipe cannot be followed, or the folder is another run's, or in use.
        DataError: the collection has nothing to train on.
        TrainingError: the loss is not a number any more, or memory ran out.
        KeyboardInterrupt: the run was stopped; all that was done is in a checkpoint.
    """
    with together() as ranks, alone(out) if ranks.rank == 0 else nullcontext():
        with _within_memory("what comes before its first step"):
            job = prepare(recipe, folder, out, ranks=ranks)
        try:
            at = _restored(job)
            was_over = at.is_over(job.n_steps)
            with Refresher(job) as refresher, _stopping() as stopped:
                _loop(job, at, refresher, stopped)
        finally:
            job.journal.close()
        with _within_memory("saving the model", job):
            return finish(
                job,
                at.step,
                best_step=at.best_step,
                best_score=at.best_score,
                again=was_over,
            )


@dataclass
class _At:
    """How far a run is, and what its best look saw.

    Attributes:
        step: steps that were done.
        best_score: of the looks at the dev split.
        best_step: of that look.
        patience_left: looks without a better one that are left; None: any number.
        versions: of the negatives, at the newest checkpoints.
        best_steps: the best looks, at the newest checkpoints.
    """

    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    patience_left: int | None = None
    versions: list[int] = field(default_factory=list)
    best_steps: list[int] = field(default_factory=list)

    def is_over(self, n_steps: int) -> bool:
        return self.step >= n_steps or self.patience_left == 0


def _loop(job: Job, at: _At, refresher: Refresher, stopped: Sequence[int]) -> None:
    watch = job.recipe.watch
    if watch and at.step == 0:
        with _within_memory("a look at the dev split", job):
            _look(job, at, watch)
    since, tokens = time.perf_counter(), 0
    teller()("training", at.step, job.n_steps, "")
    while not at.is_over(job.n_steps):
        with _within_memory(f"step {at.step + 1}", job):
            refresher.refresh(at.step)
            done = _step(job, at.step)
        at.step += 1
        tokens += done.tokens
        is_last = at.step == job.n_steps
        if at.step % _TOLD_EVERY == 0 or is_last:
            _tell(job, at.step, done, tokens, time.perf_counter() - since)
            since, tokens = time.perf_counter(), 0
        if watch and (at.step % watch.every == 0 or is_last):
            looked_at = time.perf_counter()
            with _within_memory("a look at the dev split", job):
                _look(job, at, watch)
            since += time.perf_counter() - looked_at
        is_stopped = bool(job.ranks.agreed(len(stopped)))
        if is_stopped or at.is_over(job.n_steps) or _is_saved(at.step, job.recipe.save_every):
            _save(job, at)
        if is_stopped:
            raise KeyboardInterrupt


def _is_saved(step: int, every: int) -> bool:
    return step == _FIRST_SAVED or step % every == 0


class _Step(NamedTuple):
    """What a step was: its loss, the gradient's norm, the learning rate, tokens trained on."""

    loss: float
    norm: float
    rate: float
    tokens: int


def _step(job: Job, step: int) -> _Step:
    """Move the weights once."""
    recipe = job.recipe
    torch.manual_seed(_seed(recipe.seed, step, job.ranks.rank))
    rate_now = _set_rate(job, step)
    loss, tokens = 0.0, 0
    for _ in range(recipe.batch.accumulated):
        batch = job.feed.next()
        added = _gradient(job, batch)
        loss, tokens = loss + added.loss, tokens + added.tokens
    job.ranks.add_gradients(job.weights.values())
    norm = _clipped(job, loss, step)
    job.optimiser.step()
    job.optimiser.zero_grad(set_to_none=True)
    recipe.objective.after_step(step)
    return _Step(loss, norm, rate_now, tokens)


def _gradient(job: Job, batch: Batch) -> Added:
    """Add the gradient of a batch to the weights; its loss is a share of the step's."""
    objective, parts = job.recipe.objective, job.recipe.batch.accumulated
    return accumulate(
        job.networks,
        objective.views(batch),
        lambda vectors: objective.loss(batch, vectors) / parts,
        ranks=job.ranks,
        cached=job.recipe.batch.cached,
    )


@contextmanager
def _within_memory(what: str, job: Job | None = None) -> Iterator[None]:
    """Say what helps where memory runs out, and which checkpoint is kept.

    Raises:
        TrainingError: it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not is_known and "can't allocate memory" not in str(error):  # as the CPU's words are
            raise
        raise TrainingError(
            f"a run must fit into memory; {what} did not{'' if job is None else _kept(job)}; lower "
            "part_tokens, set batch.cached or checkpointed, or lower the batch"
        ) from error


def _clipped(job: Job, loss: float, step: int) -> float:
    """Return the gradient's norm, which is cut to the recipe's.

    Raises:
        TrainingError: the loss or the norm is not a number.
    """
    clip = job.recipe.optimiser.clip or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(job.weights.values(), clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingError(
            f"loss and gradient must be numbers; at step {step + 1} they are {loss} and {norm}"
            f"{_kept(job)}; lower optimiser.rate, or warm up longer"
        )
    return norm


def _kept(job: Job) -> str:
    newest = checkpoint.newest(job.folders.checkpoints)
    if newest is None:
        return ", and there is no checkpoint yet"
    return f"; the checkpoint of step {newest} is kept in {job.folders.checkpoints}"


def _seed(seed: int, step: int, rank: int) -> int:
    """Return what dropout is drawn from at a step: nothing of it has to be kept."""
    return ((seed * 1_000_003 + step) * 1_009 + rank) % (1 << 63)


def _set_rate(job: Job, step: int) -> float:
    """Set the learning rate of a step, and return it."""
    wanted = job.recipe.optimiser
    share = rate(
        step, job.n_steps, warm_up=wanted.warm_up_steps(job.n_steps), schedule=wanted.schedule
    )
    for group in job.optimiser.param_groups:
        group["lr"] = wanted.rate * share
    return wanted.rate * share


def _tell(job: Job, step: int, done: _Step, tokens: int, took_s: float) -> None:
    said = f"loss {done.loss:.3f}, {tokens / took_s:,.0f} tokens/s"
    if looks := _looks_left(job, step):
        said += f", looks at dev to come: {looks}"
    teller()("training", step, job.n_steps, said)
    _write(job, step, **done._asdict() | {"tokens": tokens, "seconds": took_s})


def _looks_left(job: Job, step: int) -> int:
    """Return how often the dev split will be looked at from a step on, the last one with it."""
    watch = job.recipe.watch
    return -(-job.n_steps // watch.every) - (step - 1) // watch.every if watch else 0


def _write(job: Job, step: int, **numbers: float) -> None:
    if job.leads:
        version = {} if job.feed.version is None else {"version": float(job.feed.version)}
        job.journal.tell(step, numbers | version)


def _look(job: Job, at: _At, watch: Watch) -> None:
    """Measure the model on the dev split, and keep the weights if they are the best so far."""
    began = time.perf_counter()
    score = job.ranks.agreed(job.watcher.score(job.student) if job.watcher else 0.0)
    _write(job, at.step, dev=score, dev_seconds=time.perf_counter() - began)
    is_best = at.best_score is None or score > at.best_score
    if job.leads:
        so_far = ", the best so far" if is_best else f"; {at.best_score:.4f} is the best so far"
        announcer()(f"step {at.step:,}: nDCG@10 {score:.4f} on dev{so_far}")
    if is_best:
        at.best_score, at.best_step = score, at.step
        at.patience_left = watch.patience
        if job.leads:
            checkpoint.save(job.folders.best, at.step, {"model": _held(job)})
    elif at.patience_left is not None:
        at.patience_left -= 1


def _held(job: Job) -> dict[str, torch.Tensor]:
    return {name: weights.detach() for name, weights in job.weights.items()}


def _save(job: Job, at: _At) -> None:
    """Write a checkpoint, and remove what none of those that stay needs."""
    if job.feed.version is not None:
        at.versions = [*at.versions[1 - _KEPT :], job.feed.version]
    at.best_steps = [*at.best_steps[1 - _KEPT :], at.best_step]
    if job.leads:
        state = {
            "at": vars(at),
            "model": _held(job),
            "optimiser": job.optimiser.state_dict(),
            "objective": job.recipe.objective.state(),
            "feed": job.feed.state(),
        }
        folders = job.folders
        checkpoint.save(folders.checkpoints, at.step, state)
        checkpoint.keep(folders.checkpoints, checkpoint.steps(folders.checkpoints)[-_KEPT:])
        checkpoint.keep(folders.best, at.best_steps)
        job.candidates.keep(at.versions)
    job.ranks.wait()


def _restored(job: Job) -> _At:
    """Return where the run goes on, with everything as it was there and nothing of what came after.

    Raises:
        ArtifactError: the checkpoint is damaged.
    """
    newest = checkpoint.newest(job.folders.checkpoints)
    held = None if newest is None else checkpoint.load(job.folders.checkpoints, newest).state
    at = _At() if held is None else _At(**held["at"])
    if job.leads:
        job.journal.go_on_from(_NOTHING_DONE if held is None else at.step)
        job.candidates.forget_from(at.step)
        checkpoint.keep(job.folders.best, at.best_steps)
    job.ranks.wait()
    announcer()(_beginning(job, at))
    if held is None:
        if (version := job.candidates.newest()) is not None:
            job.feed.adopt(version)
        return at
    with torch.no_grad():
        for name, weights in job.weights.items():
            weights.copy_(held["model"][name])
    job.optimiser.load_state_dict(held["optimiser"])
    job.recipe.objective.load_state(held["objective"])
    job.feed.load_state(held["feed"])
    return at


def _beginning(job: Job, at: _At) -> str:
    """Return in words where a run begins."""
    if at.is_over(job.n_steps):
        return f"training was done after step {at.step:,}"
    if at.step:
        return f"training goes on from step {at.step:,} of {job.n_steps:,}"
    return f"training begins: {job.n_steps:,} steps"


@contextmanager
def _stopping() -> Iterator[Sequence[int]]:
    """Yield what has the first Ctrl-C or SIGTERM once it came: the step under way is ended first.

    A list, since a handler must take no lock: a second signal may come while it holds it.
    """
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's form
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
