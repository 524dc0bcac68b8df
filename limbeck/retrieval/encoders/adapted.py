"""An encoder whose query vectors are turned by a matrix: documents are as they were.

So the index of the encoder inside is used as it is. The folder of an adapter has a small file that
names the encoder, and the matrix.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import write_atomically
from limbeck.errors import ArtifactError
from limbeck.files import content_digest
from limbeck.fingerprint import digest
from limbeck.retrieval.encoders.base import Encoder
from limbeck.retrieval.encoders.conventions import ADAPTER
from limbeck.retrieval.encoders.folders import read_json
from limbeck.types import Document

__all__ = ["AdaptedEncoder", "inner_encoder", "is_adapter", "write_adapter"]

_MATRIX = "matrix.npy"


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter."""
    return (folder / ADAPTER).is_file()


def inner_encoder(folder: Path) -> str:
    """Return the name, or the folder, of the encoder that an adapter is for.

    Raises:
        ArtifactError: the adapter does not say.
    """
    stated = read_json(folder / ADAPTER).get("encoder")
    if not isinstance(stated, str) or not stated:
        raise ArtifactError(
            f"{folder / ADAPTER} must name the encoder that the adapter is for; it does not; train "
            "it again"
        )
    beside = folder / stated
    return os.fspath(beside.resolve()) if beside.is_dir() else stated


def write_adapter(folder: Path, matrix: NDArray[np.float32], *, encoder: str, of: Encoder) -> None:
    """Write an adapter into a folder.

    Args:
        folder: that is written.
        matrix: what query vectors are multiplied with, shape (dim, dim).
        encoder: its name, or its folder, which is named as it is reached from the one written.
        of: the encoder, to be told from others.
    """
    is_folder = Path(encoder).is_dir()
    named = os.path.relpath(Path(encoder).resolve(), folder.resolve()) if is_folder else encoder
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / _MATRIX, matrix.astype(np.float32), allow_pickle=False)
    told = {"encoder": named, "fingerprint": of.fingerprint, "similarity": of.similarity}
    write_atomically(folder / ADAPTER, json.dumps(told, indent=1) + "\n")


class AdaptedEncoder(Encoder):
    """The encoder inside, and its query vectors turned."""

    def __init__(self, folder: Path, inner: Encoder) -> None:
        """Wrap an encoder.

        Raises:
            ArtifactError: it is not the one that the adapter was trained for.
        """
        told: dict[str, Any] = read_json(folder / ADAPTER)
        if told.get("fingerprint") != inner.fingerprint:
            raise ArtifactError(
                f"the adapter {folder} must be used with the encoder that it was trained for; "
                f"{told.get('encoder')} is another one now; train it again"
            )
        self._inner = inner
        self._file = folder / _MATRIX
        self.similarity = inner.similarity
        self.document_fingerprint = inner.document_fingerprint
        self.fingerprint = digest(inner.fingerprint, content_digest(self._file))

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._inner.dim

    @property
    def separator(self) -> str:
        """That of the encoder inside."""
        return self._inner.separator

    @property
    def max_tokens(self) -> int:
        """That of the encoder inside."""
        return self._inner.max_tokens

    @cached_property
    def _matrix(self) -> NDArray[np.float32]:
        matrix: NDArray[np.float32] = np.load(self._file, allow_pickle=False)
        return matrix

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries, shape (n, dim), each turned by itself."""
        vectors = self._inner.encode_queries(texts)
        return np.array([vector @ self._matrix for vector in vectors], np.float32).reshape(
            vectors.shape
        )

    def encode_documents(self, documents: Sequence[Document | str]) -> NDArray[np.float32]:
        """Return the vectors of documents, shape (n, dim), as the encoder inside has them."""
        return self._inner.encode_documents(documents)
