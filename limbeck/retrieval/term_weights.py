"""Document weights of terms kept by content: what was once encoded is never encoded again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import cache_folder
from limbeck.corpus import Corpus
from limbeck.errors import DataError
from limbeck.retrieval.encoders.sparse import SparseEncoder, SparseVectors
from limbeck.retrieval.store import Store, remembered
from limbeck.types import Document

__all__ = ["term_weights"]

_ROW = np.dtype([("term", "<i4"), ("weight", "<f4")])


def term_weights(
    corpus: Corpus, rows: Sequence[int], encoder: SparseEncoder, *, label: str
) -> SparseVectors:
    """Return the weights of some rows of a corpus.

    Those that no earlier call has left in the cache are encoded.

    Args:
        corpus: documents.
        rows: which of them.
        encoder: what reads them.
        label: of the work, for a progress bar.

    Raises:
        ArtifactError: the disk is full; the weights written so far stay.
        DataError: the encoder made a weight that is not finite.
    """

    def records_of(documents: Sequence[Document]) -> tuple[list[int], NDArray[np.void]]:
        bounds, terms, weights = encoder.encode_documents(documents)
        if not np.isfinite(weights).all():
            at = int(np.searchsorted(bounds, np.argmin(np.isfinite(weights)), side="right")) - 1
            raise DataError(
                f"weights must be finite; one of document {documents[at].doc_id!r} is not; "
                "look at the encoder"
            )
        records = np.zeros(len(terms), dtype=_ROW)
        records["term"], records["weight"] = terms, weights
        return np.diff(bounds).tolist(), records

    if not rows:
        return SparseVectors.of([])
    store = Store(cache_folder("term-weights", encoder.document_fingerprint), _ROW)
    found = remembered(store, corpus, rows, records_of, label=label)
    bounds, records = found.packed()
    terms, weights = (np.ascontiguousarray(records[name]) for name in ("term", "weight"))
    return SparseVectors(bounds, terms, weights)
