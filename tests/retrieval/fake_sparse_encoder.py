"""A sparse encoder without a model: each word is a term, its weight the number of its letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limbeck.retrieval.encoders.sparse import SparseEncoder, SparseVectors
from limbeck.types import Document

WORDS = ("aa", "bbb", "cccc", "d", "eeeeee", "own", "[SEP]")


class FakeSparseEncoder(SparseEncoder):
    """Counts what it encodes; documents weigh `document_scale` times what queries do."""

    def __init__(self, *, document_scale: float = 1.0) -> None:
        self.document_fingerprint = "fake-documents".ljust(32, "0")
        self.fingerprint = "fake".ljust(32, "1")
        self.document_scale = document_scale
        self.seen_documents: list[str] = []
        self.seen_queries: list[str] = []

    @property
    def tokens(self) -> Sequence[str | None]:
        return [*WORDS, None]

    @property
    def separator(self) -> str:
        return "[SEP]"

    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        self.seen_queries += texts
        return self._encode(texts, 1.0)

    def encode_documents(self, documents: Sequence[Document | str]) -> SparseVectors:
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        self.seen_documents += texts
        return self._encode(texts, self.document_scale)

    def _encode(self, texts: Sequence[str], scale: float) -> SparseVectors:
        held = [sorted({WORDS.index(w) for w in text.split() if w in WORDS}) for text in texts]
        return SparseVectors.of(
            (
                np.array(terms, dtype=np.int32),
                np.array([len(WORDS[term]) * scale for term in terms], dtype=np.float32),
            )
            for terms in held
        )
