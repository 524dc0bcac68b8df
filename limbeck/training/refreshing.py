"""When negatives are found anew: in step with the loop, or beside it in a process of its own.

A refresh is a new version of the candidates, which is there whole or not at all. The loop goes over
to it between two steps, so no batch mixes two.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

import torch

from limbeck.errors import ArtifactError
from limbeck.retrieval.bm25 import BM25
from limbeck.training import checkpoint
from limbeck.training.candidates import FIRST, Candidates
from limbeck.training.examples import Examples
from limbeck.training.folders import Folders
from limbeck.training.negatives import refreshed
from limbeck.training.networks import Network
from limbeck.training.preparing import Job, examples_of, student_of
from limbeck.training.recipe import Recipe

__all__ = ["Refresher"]

_LOOK_EVERY_S = 0.5


class Refresher:
    """Keeps a run's negatives fresh, where its recipe says so; a context that ends the process."""

    def __init__(self, job: Job) -> None:
        """Look at what is wanted; nothing is started yet."""
        self._job = job
        negatives = job.recipe.negatives
        self._refresh = None if negatives is None else negatives.refresh
        self._process: BaseProcess | None = None

    def __enter__(self) -> Self:
        """Start the second process, where there is to be one."""
        if self._refresh is not None and self._refresh.beside and self._job.leads:
            recipe, folders = _bare(self._job.recipe), self._job.folders
            self._process = multiprocessing.get_context("spawn").Process(
                target=_beside, args=(recipe, folders, os.getpid()), daemon=True
            )
            with _deaf():
                self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the second process; what it had not published is not missed."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def refresh(self, step: int) -> None:
        """Let the next batches have the newest negatives; where it is time, find them first.

        Raises:
            ArtifactError: the process beside ended by itself.
        """
        if self._refresh is None:
            return
        if self._refresh.beside:
            self._adopt_newest()
        elif step and step % self._refresh.every == 0:
            self._in_step(step)

    def _adopt_newest(self) -> None:
        if self._process is not None and not self._process.is_alive():
            raise ArtifactError(
                "the process that refreshes the negatives must stay up; it ended with status "
                f"{self._process.exitcode}; look at what it wrote above"
            )
        job = self._job
        job.feed.adopt(int(job.ranks.agreed(job.candidates.newest() or 0)))

    def _in_step(self, step: int) -> None:
        """Find negatives by the model as it is."""
        job = self._job
        version = 0
        if job.leads:
            version = _published(job.recipe, job.student, job.examples, job.candidates, step)
        job.feed.adopt(int(job.ranks.agreed(version)))


def _bare(recipe: Recipe) -> Recipe:
    """Return a recipe as it was before the run began, so that another process can be given it.

    What was opened or read since stays here. The negatives' pipeline, which may hold anything, is
    not needed there.
    """
    assert recipe.negatives is not None
    guard = recipe.negatives.guard
    if guard is not None and guard.scorer is not None:
        guard = dataclasses.replace(guard, scorer=dataclasses.replace(guard.scorer))
    negatives = dataclasses.replace(recipe.negatives, of=BM25(), guard=guard)
    objective: Any = recipe.objective
    return dataclasses.replace(
        recipe, negatives=negatives, objective=dataclasses.replace(objective)
    )


def _published(
    recipe: Recipe, network: Network, examples: Examples, candidates: Candidates, step: int
) -> int:
    """Find the negatives of the part of the queries whose turn it is, and publish the version."""
    assert recipe.negatives is not None
    newest = candidates.newest()
    assert newest is not None, "the first version is there before the first step"
    made = refreshed(
        network,
        examples,
        recipe.negatives,
        candidates.load(newest),
        generation=newest - FIRST,
        seed=recipe.seed,
    )
    by = f"the model of step {step}"
    return candidates.publish(made.run, made_by=by, step=step, notes=made.notes)


def _beside(recipe: Recipe, folders: Folders, parent: int) -> None:
    """Find negatives by each new checkpoint, for as long as the loop's process lives."""
    assert recipe.negatives is not None
    assert recipe.negatives.refresh is not None
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    examples = examples_of(recipe, folders.data)
    network = student_of(recipe)
    if torch.cuda.is_available():
        network.model.to(_free_gpu())
    separator = recipe.model.between
    network.read(examples.corpus, examples.queries, separator=separator)
    candidates = Candidates(folders.candidates, examples.corpus)
    last = candidates.told(candidates.newest() or FIRST)["step"]
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
        step = checkpoint.newest(folders.checkpoints)
        if step is None or step < last + recipe.negatives.refresh.every:
            continue
        try:
            held = checkpoint.load(folders.checkpoints, step).state["model"]
        except ArtifactError:  # a newer one has taken its place
            continue
        _take(network, held)
        _published(recipe, network, examples, candidates, step)
        last = step


def _take(network: Network, held: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, weights in network.model.named_parameters():
            if name in held:
                weights.copy_(held[name])


def _free_gpu() -> torch.device:
    """Return the GPU behind those of the training ranks, or the last one where none is left."""
    n_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return torch.device("cuda", min(n_ranks, torch.cuda.device_count() - 1))


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes inside that no signal to the whole group ends: who started them does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
