"""Records kept by content: what was once computed for a document is never computed again.

A store is a folder with two files that only grow: the rows of all records, and for each record the
16-byte digest of its document and the number of the row behind its last. A record is a few rows of
one type: one vector, or a vector for each token, or terms with weights. Rows are written before
their digest, so that after a kill the digests say how far both files are right; the torn rest is
cut off, and the work goes on there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import locked, writing
from limbeck.errors import ArtifactError
from limbeck.progress import track
from limbeck.types import Document, Documents

__all__ = ["Records", "Store", "remembered"]

_CHUNK = 64
"""Documents computed between two writes: what a kill can lose at most."""

_ENTRY = np.dtype([("key", "V16"), ("end", "<i8")])


class Records(NamedTuple):
    """Records in the rows of one array, which may be memory-mapped.

    Attributes:
        starts: int64, shape (n_records,); the first row of each.
        ends: int64, shape (n_records,); the row behind its last.
        rows: shape (n_rows, ...); rows of other records may lie between.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: NDArray[Any]

    def packed(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return bounds, shape (n_records + 1,), and a copy of the rows of these records alone."""
        lengths = self.ends - self.starts
        bounds = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        wanted = np.arange(bounds[-1]) + np.repeat(self.starts - bounds[:-1], lengths)
        return bounds, np.asarray(self.rows[wanted])


Compute = Callable[[Sequence[Document]], tuple[Sequence[int], NDArray[Any]]]
"""From documents to the number of rows of each, and the rows of all."""


class Store:
    """An open store. Reading needs no lock; who writes holds the lock of the folder."""

    def __init__(self, folder: Path, row_type: np.dtype[Any]) -> None:
        """Open the store in a folder, which is made where there is none.

        Args:
            folder: where the files lie; one row type a folder.
            row_type: the type of one row; a type with a shape for vectors.

        Raises:
            ArtifactError: the folder cannot be written.
        """
        self.folder = folder
        self._entries = folder / "entries.bin"
        self._rows = folder / "rows.bin"
        self._row_type = row_type
        self._places: dict[bytes, tuple[int, int]] = {}
        self._n_entries = 0
        self._mapped: NDArray[Any] = np.zeros(0, row_type)
        self._lock = Lock()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for file in (self._entries, self._rows):
                file.touch()
        self.refresh()

    def refresh(self) -> None:
        """Take up what was written since, by this process or another."""
        with self._lock:
            entries = np.fromfile(self._entries, _ENTRY, offset=self._n_entries * _ENTRY.itemsize)
            n_rows = self._rows.stat().st_size // self._row_type.itemsize
            entries = entries[: int(np.searchsorted(entries["end"], n_rows, side="right"))]
            if not len(entries):
                return
            ends = entries["end"].tolist()
            starts = [self._end, *ends[:-1]]
            if ends[-1] > self._end:  # an empty file cannot be mapped
                self._mapped = np.memmap(self._rows, self._row_type, mode="r", shape=(ends[-1],))
            keys = map(bytes, entries["key"].tolist())
            self._places.update(zip(keys, zip(starts, ends, strict=True), strict=True))
            self._n_entries += len(entries)

    @property
    def _end(self) -> int:
        return len(self._mapped)

    def missing(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return those of the keys that have no record."""
        return {key for key in keys if key not in self._places}

    def records(self, keys: Sequence[bytes]) -> Records:
        """Return the records of some keys, each of which has one."""
        places = np.array([self._places[key] for key in keys], dtype=np.int64).reshape(-1, 2)
        return Records(places[:, 0], places[:, 1], self._mapped)

    def append(self, keys: Sequence[bytes], counts: Sequence[int], rows: NDArray[Any]) -> None:
        """Write the rows of some records, then their digests, each down to the disk.

        Args:
            keys: the digests.
            counts: the number of rows of each record.
            rows: the rows of all of them, in their order.

        Raises:
            ArtifactError: nothing more can be written; both files end with the last whole record.
        """
        self.refresh()
        self._cut()
        entries = np.zeros(len(keys), _ENTRY)
        entries["key"] = [np.void(key) for key in keys]
        entries["end"] = self._end + np.cumsum(counts)
        try:
            _append(self._rows, np.ascontiguousarray(rows, self._row_type.base).tobytes())
            _append(self._entries, entries.tobytes())
        except OSError as error:
            self._cut()
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            why = "the disk is full" if full else str(error)
            raise ArtifactError(
                f"{self._rows} must be writable; {why}; {self._n_entries} records are kept: make "
                "room and run again, and the work goes on from there"
            ) from error
        self.refresh()

    def _cut(self) -> None:
        """Cut off what a kill, or a full disk, left half written."""
        whole = {
            self._entries: self._n_entries * _ENTRY.itemsize,
            self._rows: self._end * self._row_type.itemsize,
        }
        for file, size in whole.items():
            if file.stat().st_size != size:
                os.truncate(file, size)


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def remembered(
    store: Store, corpus: Documents, rows: Sequence[int], compute: Compute, *, label: str
) -> Records:
    """Return the records of some rows of a corpus.

    Those that no earlier call has left in the store are computed, longest document first, so that
    the pace only quickens and the largest need of memory comes first. Two processes do not compute
    at once for one store: the second waits and finds the records done.

    Args:
        store: where the records are kept.
        corpus: the documents.
        rows: their rows.
        compute: what makes the records of some documents.
        label: names the work for a progress bar.

    Raises:
        ArtifactError: the disk is full; the records written so far stay.
    """
    keys = [bytes.fromhex(corpus.digest(row)) for row in rows]
    if store.missing(keys):
        with locked(store.folder):
            store.refresh()
            missing = store.missing(keys)
            _fill(store, corpus, _rows_of(missing, keys, rows), compute, label)
    return store.records(keys)


def _rows_of(missing: set[bytes], keys: Sequence[bytes], rows: Sequence[int]) -> dict[bytes, int]:
    return {key: row for key, row in zip(keys, rows, strict=True) if key in missing}


def _fill(
    store: Store, corpus: Documents, rows: dict[bytes, int], compute: Compute, label: str
) -> None:
    order = sorted(rows, key=lambda key: -len(corpus.document(rows[key]).contents))
    done = (
        key
        for start in range(0, len(order), _CHUNK)
        for key in _computed(store, corpus, rows, order[start : start + _CHUNK], compute)
    )
    for _ in track(done, label=label, total=len(order)):
        pass


def _computed(
    store: Store, corpus: Documents, rows: dict[bytes, int], keys: list[bytes], compute: Compute
) -> list[bytes]:
    """Return the keys of a chunk once its records are on disk."""
    counts, made = compute([corpus.document(rows[key]) for key in keys])
    store.append(keys, counts, made)
    return keys
