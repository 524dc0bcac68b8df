"""Document vectors kept by content: what was once encoded is never encoded again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import cache_folder
from limbeck.errors import DataError
from limbeck.retrieval.encoders.base import Encoder
from limbeck.retrieval.store import Store, remembered
from limbeck.types import Document, Documents

__all__ = ["embed"]


def embed(
    corpus: Documents, rows: Sequence[int], encoder: Encoder, *, label: str = "encoding documents"
) -> NDArray[np.float32]:
    """Return the vectors of some rows of a corpus, shape (len(rows), dim).

    Those that no earlier call has left in the cache are encoded.

    Args:
        corpus: documents.
        rows: which of them.
        encoder: what reads them.
        label: of the work, for a progress bar.

    Raises:
        ArtifactError: the disk is full; the vectors written so far stay.
        DataError: the encoder made a vector that is not finite.
    """

    def vectors_of(documents: Sequence[Document]) -> tuple[list[int], NDArray[np.float32]]:
        vectors = encoder.encode_documents(documents)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            doc_id = documents[int(np.argmin(finite))].doc_id
            raise DataError(
                f"vectors must be finite; that of document {doc_id!r} is not; look at the encoder"
            )
        return [1] * len(documents), vectors

    if not rows:
        return np.zeros((0, encoder.dim), dtype=np.float32)
    vector = np.dtype(("<f4", (encoder.dim,)))
    store = Store(cache_folder("embeddings", encoder.document_fingerprint), vector)
    found = remembered(store, corpus, rows, vectors_of, label=label)
    return np.asarray(found.rows[found.starts], dtype=np.float32)
