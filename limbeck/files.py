"""Files that nodes read: their one name, the digest of their content, their lines by id."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from limbeck.corpus import read_jsonl
from limbeck.errors import DataError, UsageError
from limbeck.fingerprint import digest

__all__ = [
    "NOT_FOR_TORCH",
    "content_digest",
    "content_of",
    "folder_digest",
    "lines_by_id",
    "resolved",
]

_T = TypeVar("_T")

_OF_MODELS = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors", "*.bin")
NOT_FOR_TORCH = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "training*")


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


def content_digest(file: Path) -> str:
    """Return the sha256 of a file's content; it is read again only where the file has changed."""
    found = file.stat()
    return _read_digest(file, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _read_digest(file: Path, size_bytes: int, changed_ns: int) -> str:  # noqa: ARG001 - a key
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the digest of the model in a folder: configuration, tokenizer, weights for torch."""
    files = sorted({f for pattern in _OF_MODELS for f in folder.rglob(pattern) if f.is_file()})
    parts: list[str] = []
    for file in files:
        name = file.relative_to(folder)
        if not _is_hidden(name) and not any(map(name.match, NOT_FOR_TORCH)):
            parts += [name.as_posix(), content_digest(file)]
    return digest(*parts)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


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
