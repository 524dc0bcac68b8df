"""Document vectors kept by content: what was once encoded is never encoded again.

A folder for each document side of an encoder holds two files that only grow: the 16-byte digests
of documents, and their vectors. A vector is written before its digest, so that after a kill the
shorter file says how far both are right; the torn rest is cut off, and the encoding goes on there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import cache_folder, locked
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError
from limbeck.progress import track
from limbeck.retrieval.encoders.base import Encoder

__all__ = ["embed"]

_CHUNK = 64
"""Documents encoded between two writes: what a kill can lose at most."""

_KEY_BYTES = 16


def embed(corpus: Corpus, rows: Sequence[int], encoder: Encoder) -> NDArray[np.float32]:
    """Return the vectors of some rows of a corpus, shape (len(rows), dim).

    Those that no earlier call has left in the cache are encoded, longest first, so that the pace
    only quickens and the largest need of memory comes first. Two processes do not encode at once
    with one encoder: the second waits and finds the vectors done.

    Raises:
        ArtifactError: the disk is full; the vectors written so far stay.
        DataError: the encoder made a vector that is not finite.
    """
    keys = [bytes.fromhex(corpus.digests[row]) for row in rows]
    folder = cache_folder("embeddings", encoder.document_fingerprint)
    with locked(folder):
        store = _Store(folder, encoder.dim)
        known = store.positions()
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
        if missing:
            _encode(corpus, missing, encoder, store)
            known = store.positions()
        return store.take([known[key] for key in keys])


def _encode(corpus: Corpus, missing: dict[bytes, int], encoder: Encoder, store: _Store) -> None:
    order = sorted(missing, key=lambda key: -len(corpus.document(missing[key]).contents))
    kept = (
        key
        for start in range(0, len(order), _CHUNK)
        for key in _kept(order[start : start + _CHUNK], corpus, missing, encoder, store)
    )
    for _ in track(kept, label="encoding documents", total=len(order)):
        pass


def _kept(
    keys: list[bytes], corpus: Corpus, rows: dict[bytes, int], encoder: Encoder, store: _Store
) -> list[bytes]:
    """Return the keys of a chunk once its vectors are on disk."""
    vectors = encoder.encode_documents([corpus.document(rows[key]) for key in keys])
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        doc_id = corpus.doc_ids[rows[keys[int(np.argmin(finite))]]]
        raise DataError(
            f"vectors must be finite; that of document {doc_id!r} is not; look at the encoder"
        )
    store.append(keys, vectors)
    return keys


class _Store:
    """The two files of one encoder; used under a lock."""

    def __init__(self, folder: Path, dim: int) -> None:
        """Open the files, and cut off what a kill left half written."""
        self._keys = folder / "keys.bin"
        self._vectors = folder / f"vectors-{dim}.f32"
        self._dim = dim
        folder.mkdir(parents=True, exist_ok=True)
        for file in (self._keys, self._vectors):
            file.touch()
        self._cut(self._n_whole())

    def _n_whole(self) -> int:
        n_keys = self._keys.stat().st_size // _KEY_BYTES
        return min(n_keys, self._vectors.stat().st_size // (4 * self._dim))

    def _cut(self, n: int) -> None:
        for file, size in ((self._keys, _KEY_BYTES), (self._vectors, 4 * self._dim)):
            if file.stat().st_size != n * size:
                os.truncate(file, n * size)

    def positions(self) -> dict[bytes, int]:
        """Return where the vector of each digest lies."""
        data = self._keys.read_bytes()
        size = _KEY_BYTES
        return {data[i * size : (i + 1) * size]: i for i in range(len(data) // size)}

    def take(self, positions: list[int]) -> NDArray[np.float32]:
        """Return the vectors at some positions, shape (len(positions), dim)."""
        if not positions:
            return np.zeros((0, self._dim), dtype=np.float32)
        stored = np.memmap(self._vectors, dtype="<f4", mode="r").reshape(-1, self._dim)
        return np.asarray(stored[positions], dtype=np.float32)

    def append(self, keys: list[bytes], vectors: NDArray[np.float32]) -> None:
        """Write the vectors, then their digests, each down to the disk.

        Raises:
            ArtifactError: nothing more can be written; both files end with the last whole chunk.
        """
        n_before = self._n_whole()
        try:
            _append(self._vectors, vectors.astype("<f4").tobytes())
            _append(self._keys, b"".join(keys))
        except OSError as error:
            self._cut(n_before)
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            why = "the disk is full" if full else str(error)
            raise ArtifactError(
                f"{self._vectors} must be writable; {why}; {n_before} vectors are kept: make room "
                "and run again, and the encoding goes on from there"
            ) from error


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
