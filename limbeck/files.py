"""Files that nodes read: their one name, the digest of their content, their lines by id."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from limbeck.corpus import read_jsonl
from limbeck.errors import DataError, UsageError
from limbeck.fingerprint import digest

__all__ = ["content_of", "lines_by_id", "resolved"]

_T = TypeVar("_T")


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return the one name of a path, absolute and without links, as specs are read too.

    So parts are equal that name the same file, and a later change of the folder changes nothing.

    Raises:
        UsageError: no file can have this path.
    """
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a zero byte
        raise UsageError(
            f"a path must name a file; got {os.fspath(path)!r}, and: {error}; give another"
        ) from None


def content_of(path: Path) -> str:
    """Return the digest of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return digest(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path} must be a readable JSONL file; got: {error.strerror}; give another"
        ) from error


def lines_by_id(
    path: Path, name: str, read: Callable[[Mapping[str, Any], str], _T]
) -> dict[str, _T]:
    """Return what is read of each line of a JSONL file, by the id that the line has.

    Args:
        path: the file.
        name: of the id.
        read: is given a line and its place, for messages.

    Raises:
        DataError: a line is no object, or has no id of its own.
    """
    found: dict[str, _T] = {}
    for where, value in read_jsonl(path):
        identifier = value.get(name)
        if not isinstance(identifier, str) or identifier in found:
            raise DataError(
                f"{where} must have a `{name}` of its own, a string; got {identifier!r}"
            )
        found[identifier] = read(value, where)
    return found
