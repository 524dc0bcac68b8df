"""A run after its last step: the best weights, saved as sentence-transformers saves a model."""

from __future__ import annotations

from typing import Any

import torch

from limbeck.artifact import write_atomically
from limbeck.retrieval.encoders.conventions import write_own
from limbeck.retrieval.encoders.folders import without_bars
from limbeck.training import checkpoint
from limbeck.training.attention import attend_usually
from limbeck.training.card import Trained, card
from limbeck.training.modules import readers
from limbeck.training.preparing import Job
from limbeck.training.served import write_older_words
from limbeck.training.students import DenseStudent

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
    model = _plain(job)
    with checkpoint.saving(trained.model) as beside, without_bars():
        _forget_lengths(model)
        model.save_pretrained(str(beside), create_model_card=False)
        if job.recipe.model.name == DenseStudent.name:
            write_older_words(beside, _longest(job))
        write_own(beside, title_separator=job.recipe.model.between)
        write_atomically(beside / "README.md", card(job, trained))


def _forget_lengths(model: Any) -> None:
    """Take out of tokenizers how they last padded and cut: loaders go by a folder's settings."""
    for reader in readers(model):
        tokenizer = getattr(reader.tokenizer, "backend_tokenizer", None)
        if tokenizer is not None:
            tokenizer.no_padding()
            tokenizer.no_truncation()


def _longest(job: Job) -> int:
    """Return the tokens of a query or a document at most."""
    reader = job.student.readers[0]
    lengths = [reader.query_length, reader.document_length]
    return max(length or int(reader.max_seq_length) for length in lengths)


def _plain(job: Job) -> Any:
    """Return the student without what only training needed."""
    student = job.student
    for reader in student.readers:
        if job.recipe.lora:
            reader.model = reader.model.merge_and_unload()
        reader.model.__dict__.pop("forward", None)
        attend_usually(reader.model)
    return student.model.to("cpu").eval()
