"""The folder of a student, as sentence-transformers saves a model, and as servers read it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from limbeck.retrieval.encoders.conventions import write_own
from limbeck.retrieval.encoders.folders import without_bars
from limbeck.training import checkpoint
from limbeck.training.attention import attend_usually
from limbeck.training.modules import readers
from limbeck.training.networks import Network
from limbeck.training.preparing import student_of
from limbeck.training.recipe import Recipe
from limbeck.training.served import write_older_words
from limbeck.training.students import DenseStudent

__all__ = ["save_student", "save_untrained"]


def save_student(student: Network, recipe: Recipe, folder: Path) -> None:
    """Write a student to an empty folder, without what only training needed, which it loses.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    model = _plain(student, recipe)
    _forget_lengths(model)
    with without_bars():
        model.save_pretrained(str(folder), create_model_card=False)
    if recipe.model.name == DenseStudent.name:
        write_older_words(folder, _longest(student))
    write_own(folder, title_separator=recipe.model.between)


def save_untrained(recipe: Recipe, folder: Path) -> None:
    """Write what a student is before its first step, with all that a recipe says of it.

    Raises:
        LimbeckError: the base cannot be that, or the folder cannot be written.
    """
    plain = dataclasses.replace(recipe, lora=None, compiled=False, checkpointed=False)
    with checkpoint.saving(folder) as beside:
        save_student(student_of(plain), plain, beside)


def _plain(student: Network, recipe: Recipe) -> Any:
    for reader in student.readers:
        if recipe.lora:
            reader.model = reader.model.merge_and_unload()
        reader.model.__dict__.pop("forward", None)
        attend_usually(reader.model)
    return student.model.to("cpu").eval()


def _forget_lengths(model: Any) -> None:
    """Take out of tokenizers how they last padded and cut: loaders go by a folder's settings."""
    for reader in readers(model):
        tokenizer = getattr(reader.tokenizer, "backend_tokenizer", None)
        if tokenizer is not None:
            tokenizer.no_padding()
            tokenizer.no_truncation()


def _longest(student: Network) -> int:
    """Return the tokens of a query or a document at most."""
    reader = student.readers[0]
    lengths = [reader.query_length, reader.document_length]
    return max(length or int(reader.max_seq_length) for length in lengths)
