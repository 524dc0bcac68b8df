"""Examples shown in prompts: pairs of a query and a passage that answers it, from a file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from limbeck.corpus import read_jsonl
from limbeck.errors import DataError, Problem

__all__ = ["Shot", "drawn", "examine_file", "read_shots"]


class Shot(NamedTuple):
    """One example."""

    query: str
    passage: str


def read_shots(file: Path) -> list[Shot]:
    """Return all examples of a JSONL file.

    Raises:
        DataError: a line has not the strings `query` and `passage`.
    """
    return [_shot(value, where) for where, value in read_jsonl(file)]


def drawn(file: Path | None, n: int, seed: int) -> tuple[Shot, ...]:
    """Return n examples of a JSONL file, drawn once; none where there is no file.

    Raises:
        DataError: it has fewer.
    """
    if file is None:
        return ()
    held = read_shots(file)
    if len(held) < n:
        raise DataError(
            f"{file} must hold {n} examples or more; it has {len(held)}; add some or lower shots"
        )
    return tuple(random.Random(seed).sample(held, n))  # noqa: S311 - a draw


def examine_file(file: Path | None, who: str, place: str, problems: list[Problem]) -> None:
    """Append a problem where a file of examples is named, and is not there."""
    if file is not None and not file.is_file():
        problems.append(Problem(place, f"{who} reads {file}, which is no file", "give its path"))


def _shot(value: dict[str, object], where: str) -> Shot:
    query, passage = value.get("query"), value.get("passage")
    if not isinstance(query, str) or not isinstance(passage, str):
        raise DataError(f"{where} must have strings `query` and `passage`; it has {sorted(value)}")
    return Shot(query, passage)
