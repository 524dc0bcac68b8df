"""An encoder without a model: words hashed to directions, so that shared words mean nearness."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.encoders.base import Encoder, unit
from limbeck.types import Document


def word_vector(word: str, dim: int) -> NDArray[np.float64]:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=dim)


class FakeEncoder(Encoder):
    """Counts what it encodes; `pause_s` makes it slow, `side_shift` its two sides different."""

    def __init__(
        self,
        *,
        similarity: str = "cosine",
        dim: int = 8,
        name: str = "fake",
        side_shift: float = 0.0,
        pause_s: float = 0.0,
    ) -> None:
        self.similarity = similarity
        self.document_fingerprint = name.ljust(32, "0")
        self.fingerprint = name.ljust(32, "1")
        self.seen_documents: list[str] = []
        self.seen_queries: list[str] = []
        self._dim = dim
        self._side_shift = side_shift
        self._pause_s = pause_s

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def separator(self) -> str:
        return "[SEP]"

    @property
    def max_tokens(self) -> int:
        return 512

    def vector(self, text: str) -> NDArray[np.float32]:
        words = text.lower().split() or [""]
        mean = np.mean([word_vector(word, self._dim) for word in words], axis=0)
        return mean.astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen_queries += texts
        return self._encode(texts) + np.float32(self._side_shift)

    def encode_documents(self, documents: Sequence[Document | str]) -> NDArray[np.float32]:
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        self.seen_documents += texts
        time.sleep(self._pause_s)
        return self._encode(texts)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self._dim), dtype=np.float32)
        vectors = np.stack([self.vector(text) for text in texts])
        return unit(vectors) if self.similarity == "cosine" else vectors
