"""A run after its last step: the best weights, saved as sentence-transformers saves a model."""

from __future__ import annotations

import torch

from limbeck.artifact import write_atomically
from limbeck.training import checkpoint
from limbeck.training.card import Trained, card
from limbeck.training.preparing import Job
from limbeck.training.saving import save_student

__all__ = ["finish"]


def finish(
    job: Job, n_steps: int, *, best_step: int, best_score: float | None, again: bool
) -> Trained:
    """Write the model with its card, after so many steps, and return where it is.

    Args:
        job: the run.
        n_steps: that it had.
        best_step: whose weights are kept, where there is a score.
        best_score: theirs on the dev split.
        again: whether the run had ended before: a model that is there stays as it is.
    """
    step = n_steps if best_score is None else best_step
    trained = Trained(job.folders.model, n_steps, step, best_score)
    if job.leads and not (again and trained.model.is_dir()):
        if best_score is not None:
            _load_best(job, step)
        _save(job, trained)
    job.ranks.wait()
    return trained


def _load_best(job: Job, step: int) -> None:
    held = checkpoint.load(job.folders.best, step).state["model"]
    with torch.no_grad():
        for name, weights in job.weights.items():
            weights.copy_(held[name])


def _save(job: Job, trained: Trained) -> None:
    """Write the model folder beside its place, and rename it."""
    with checkpoint.saving(trained.model) as beside:
        save_student(job.student, job.recipe, beside)
        write_atomically(beside / "README.md", card(job, trained))
