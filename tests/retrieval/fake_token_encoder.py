"""A token encoder without a model: each word has a direction of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenVectors
from limbeck.types import Document
from tests.retrieval.fake_encoder import word_vector


class FakeTokenEncoder(TokenEncoder):
    """Counts what it encodes."""

    def __init__(self, *, dim: int = 16, name: str = "fake") -> None:
        self.document_fingerprint = name.ljust(32, "0")
        self.fingerprint = name.ljust(32, "1")
        self.seen_documents: list[str] = []
        self._dim = dim

    @property
    def dim(self) -> int:
        return self._dim

    def vectors(self, text: str) -> np.ndarray:
        words = text.lower().split()
        made = [word_vector(word, self._dim) for word in words]
        return unit(np.array(made, dtype=np.float32).reshape(-1, self._dim))

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        return TokenVectors.of([self.vectors(text) for text in texts], self._dim)

    def encode_documents(self, documents: Sequence[Document | str]) -> TokenVectors:
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        self.seen_documents += texts
        return TokenVectors.of([self.vectors(text) for text in texts], self._dim)
