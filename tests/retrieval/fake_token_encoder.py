"""A token encoder without a model: a word's vector, moved a little by its position."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenVectors
from limbeck.types import Document
from tests.retrieval.fake_encoder import word_vector


class FakeTokenEncoder(TokenEncoder):
    """Counts the documents it encodes; `pause_s` makes each of them slow."""

    def __init__(self, *, dim: int = 32, name: str = "fake", pause_s: float = 0.0) -> None:
        self.document_fingerprint = name.ljust(32, "0")
        self.fingerprint = name.ljust(32, "1")
        self.seen: list[str] = []
        self._dim = dim
        self._pause_s = pause_s

    @property
    def dim(self) -> int:
        return self._dim

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        return TokenVectors.of([self.of(text) for text in texts], self._dim)

    def encode_documents(self, documents: Sequence[Document | str]) -> TokenVectors:
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        self.seen += texts
        time.sleep(self._pause_s * len(texts))
        return self.encode_queries(texts)

    def of(self, text: str) -> NDArray[np.float32]:
        """Return the vectors of one text, shape (n_words, dim)."""
        words = text.lower().split()
        moved = [
            word_vector(word, self._dim) + 0.3 * word_vector(f"{word} {position}", self._dim)
            for position, word in enumerate(words)
        ]
        return unit(np.array(moved, dtype=np.float32).reshape(-1, self._dim))
