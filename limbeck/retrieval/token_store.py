"""Coded tokens of documents on disk: three files that only grow, and are mapped to be read.

`cells.bin` and `codes.bin` have a row for each token. `documents.bin` has, for each document, its
16-byte digest and the number of the token behind its last; it is written last, so that after a
kill it says how far the others are right. The torn rest is cut off when more is written. What one
reader has mapped stays as it is, for nothing is ever written over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError

__all__ = ["TokenStore"]

_ENTRY = np.dtype([("digest", "V16"), ("end", "<i8")])


class TokenStore:
    """An open store.

    Attributes:
        ends: int64, shape (n_docs,); the token behind the last of each document.
        cells: uint16, shape (n_tokens,); in each document in rising order.
        codes: uint32, shape (n_tokens, width).
    """

    def __init__(self, folder: Path, width: int) -> None:
        """Open the store in a folder, with all whole documents; there may be none yet.

        Args:
            folder: where the files lie.
            width: words of a token's codes.
        """
        self.folder = folder
        self._types = {
            "cells": np.dtype("<u2"),
            "codes": np.dtype(("<u4", (width,))),
            "documents": _ENTRY,
        }
        made = self._size("documents") > 0
        entries = np.fromfile(self._file("documents"), _ENTRY) if made else np.zeros(0, _ENTRY)
        n_tokens = min(self._n_rows("cells"), self._n_rows("codes"))
        self._take(entries[: int(np.searchsorted(entries["end"], n_tokens, side="right"))])

    @staticmethod
    def opened(folder: Path, width: int, n_docs: int, n_tokens: int) -> TokenStore:
        """Return the store with its first documents, which an index says are there.

        Raises:
            ArtifactError: a file is missing or too short.
        """
        try:
            store = TokenStore(folder, width)
            store._require({"documents": n_docs, "cells": n_tokens, "codes": n_tokens})
            store._take(store._entries[:n_docs])
        except OSError as error:
            raise ArtifactError(
                f"{folder} must be readable; got: {error.strerror}; build the index again"
            ) from error
        return store

    def _require(self, n_rows: Mapping[str, int]) -> None:
        for name, n in n_rows.items():
            needed, found = n * self._types[name].itemsize, self._size(name)
            if found < needed:
                raise ArtifactError(
                    f"{self._file(name)} must have {needed} bytes or more; it has {found}; the "
                    "index is truncated, build it again"
                )

    def _take(self, entries: NDArray[Any]) -> None:
        """Map the files as far as some documents reach."""
        self._entries = entries
        self.ends = np.ascontiguousarray(entries["end"])
        self.cells = self._mapped("cells")
        self.codes = self._mapped("codes")

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.ends)

    @property
    def n_tokens(self) -> int:
        """The number of tokens of all documents."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first token of each document."""
        return np.concatenate(([0], self.ends[:-1])) if len(self.ends) else self.ends

    def places(self) -> dict[bytes, int]:
        """Return the number of each document, by its digest."""
        return {bytes(key): place for place, key in enumerate(self._entries["digest"].tolist())}

    def append(
        self,
        digests: Sequence[bytes],
        counts: Iterable[int],
        cells: NDArray[np.uint16],
        codes: NDArray[np.uint32],
    ) -> None:
        """Write some documents down to the disk. Who appends holds a lock.

        Args:
            digests: one for each document.
            counts: how many tokens each has.
            cells: of all their tokens.
            codes: of all their tokens.

        Raises:
            ArtifactError: the disk is full; the documents written so far stay.
        """
        entries = np.zeros(len(digests), _ENTRY)
        entries["digest"] = [np.void(digest) for digest in digests]
        entries["end"] = self.n_tokens + np.cumsum(np.fromiter(counts, np.int64))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._cut()
            for name, rows in (("cells", cells), ("codes", codes), ("documents", entries)):
                _append(self._file(name), np.ascontiguousarray(rows, self._types[name].base))
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            why = "the disk is full" if full else error.strerror or str(error)
            raise ArtifactError(
                f"{self.folder} must be writable; {why}; {len(self)} documents are kept: make room "
                "and run again, and the work goes on from there"
            ) from error
        self._take(np.concatenate([self._entries, entries]))

    def _cut(self) -> None:
        """Cut off what a kill, or a full disk, left half written."""
        whole = {"cells": self.n_tokens, "codes": self.n_tokens, "documents": len(self)}
        for name, n_rows in whole.items():
            size = n_rows * self._types[name].itemsize
            if self._size(name) > size:
                os.truncate(self._file(name), size)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _size(self, name: str) -> int:
        file = self._file(name)
        return file.stat().st_size if file.is_file() else 0

    def _n_rows(self, name: str) -> int:
        return self._size(name) // self._types[name].itemsize

    def _mapped(self, name: str) -> NDArray[Any]:
        kind = self._types[name]
        if not self.n_tokens:
            return np.zeros((0, *kind.shape), dtype=kind.base)
        return np.memmap(self._file(name), kind, mode="r", shape=(self.n_tokens,))


def _append(path: Path, rows: NDArray[Any]) -> None:
    with open(path, "ab") as file:
        file.write(rows.tobytes())
        file.flush()
        os.fsync(file.fileno())
