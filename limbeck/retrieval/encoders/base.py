"""What an encoder is: two sides that turn texts into vectors, and the score kind they go with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.encoders.conventions import Similarity
from limbeck.types import Document

__all__ = ["Encoder", "encodable", "unit"]


class Encoder(ABC):
    """Texts to vectors. Models are loaded when the first text is encoded, or `dim` is asked for.

    Attributes:
        similarity: the score kind: "cosine" or "dot".
        document_fingerprint: digest of all that a document's vector depends on beside the document:
            model content, pooling, prefix, length.
        fingerprint: digest of both sides.
    """

    similarity: Similarity
    document_fingerprint: str
    fingerprint: str

    @property
    @abstractmethod
    def dim(self) -> int:
        """The length of a vector."""

    @property
    @abstractmethod
    def separator(self) -> str:
        """The token that stands between a query and a text joined to it."""

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """The length, in tokens with the special ones, that longer texts are cut to."""

    @abstractmethod
    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries, shape (n, dim)."""

    @abstractmethod
    def encode_documents(self, documents: Sequence[Document | str]) -> NDArray[np.float32]:
        """Return the vectors of documents, shape (n, dim); a string is a text without a title."""


def encodable(text: str) -> str:
    """Return a text that tokenizers take: a lone surrogate, which is no character, becomes "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows at length 1; a row of zeros stays as it is.

    The sum runs over float64 rows that lie whole in memory: einsum with a cast, or matmul, would
    cut them at places that depend on the batch.
    """
    exact = np.ascontiguousarray(vectors, dtype=np.float64)
    length = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    length[length == 0.0] = 1.0
    units: NDArray[np.float32] = (exact / length).astype(np.float32)
    return units
