"""What a token encoder is: two sides that turn a text into a vector for each of its tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, UsageError
from limbeck.retrieval.encoders.arithmetic import Arithmetic, require_arithmetic
from limbeck.types import Document

__all__ = ["TokenEncoder", "TokenSettings", "TokenVectors"]

_FEWEST = 4
"""[CLS], a marker, a word, [SEP]."""


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """A token encoder as a user names it; None leaves a length to the model.

    Attributes:
        encoder: "minilm", a folder, or a name on the Hugging Face hub.
        query_tokens: queries are cut to so many tokens, the special ones included; a ColBERT fills
            shorter ones with [MASK].
        document_tokens: documents are cut to so many tokens.
        arithmetic: of a model in torch.
    """

    encoder: str
    query_tokens: int | None = None
    document_tokens: int | None = None
    arithmetic: Arithmetic = "fp32"

    def __post_init__(self) -> None:
        require_arithmetic(self.arithmetic)
        if not self.encoder.strip():
            raise UsageError("an encoder must be a name or a folder; got an empty one")
        for name, value in (("query", self.query_tokens), ("document", self.document_tokens)):
            if value is not None and value < _FEWEST:
                raise UsageError(f"{name}_tokens must be {_FEWEST} or more; got {value}")


class TokenVectors(NamedTuple):
    """The token vectors of several texts, one text after the other, without padding.

    Attributes:
        bounds: int64, shape (n_texts + 1,); those of text i are vectors[bounds[i]:bounds[i + 1]].
        vectors: float32, shape (n_tokens, dim), each of length 1.
    """

    bounds: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @staticmethod
    def of(texts: Sequence[NDArray[np.float32]], dim: int) -> TokenVectors:
        """Return the vectors of texts that are given one by one, each of shape (n_tokens, dim)."""
        bounds = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        empty = np.zeros((0, dim), dtype=np.float32)
        return TokenVectors(bounds, np.concatenate([empty, *texts]).astype(np.float32, copy=False))

    def of_text(self, text: int) -> NDArray[np.float32]:
        """Return the vectors of one text, shape (n_tokens, dim)."""
        return self.vectors[self.bounds[text] : self.bounds[text + 1]]

    def finite(self, texts: Sequence[str]) -> TokenVectors:
        """Return these vectors; one that is not finite would rank first, or be lost unseen.

        Args:
            texts: names each text, such as "document 'd1'".

        Raises:
            DataError: a vector is not finite.
        """
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            text = int(np.searchsorted(self.bounds, int(np.argmin(finite)), side="right")) - 1
            raise DataError(
                f"token vectors must be finite; those of {texts[text]} are not; look at the encoder"
            )
        return self


class TokenEncoder(ABC):
    """Texts to token vectors. Models are loaded when the first text is encoded.

    Vectors have length 1, so that their inner products are cosines, and the order by squared
    distance is the same.

    Attributes:
        document_fingerprint: digest of all that a document's vectors depend on beside the document.
        fingerprint: digest of both sides.
    """

    document_fingerprint: str
    fingerprint: str

    @property
    @abstractmethod
    def dim(self) -> int:
        """The length of a vector."""

    @abstractmethod
    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Return the token vectors of queries, those of [MASK] augmentation included."""

    @abstractmethod
    def encode_documents(self, documents: Sequence[Document | str]) -> TokenVectors:
        """Return the token vectors of documents that take part in scoring, without padding."""
