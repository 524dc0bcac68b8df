"""Torch-free encoding with onnxruntime; see `limbeck.retrieval.encoders.session`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.fingerprint import digest, fingerprint
from limbeck.retrieval.encoders.base import Encoder, encodable, unit
from limbeck.retrieval.encoders.conventions import Convention
from limbeck.retrieval.encoders.minilm import ModelFiles
from limbeck.retrieval.encoders.session import OnnxModel, in_threads
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenSettings, TokenVectors
from limbeck.types import Document

__all__ = ["OnnxEncoder", "OnnxTokenEncoder"]

_MAX_TOKENS = 512
"""Positions that a BERT model has."""


class OnnxEncoder(Encoder):
    """A BERT-like ONNX model whose output is the last hidden state."""

    def __init__(self, files: ModelFiles, convention: Convention) -> None:
        """Remember what to load.

        Raises:
            UsageError: the model has fewer positions than `max_tokens`.
        """
        self._model = _model(files, convention.max_tokens)
        shorter = convention.query_tokens
        self._of_queries = _model(files, shorter) if shorter else self._model
        self._pooling = convention.pooling
        self._normalise = convention.normalise
        self._max_tokens = convention.max_tokens or _MAX_TOKENS
        self._query_prefix = convention.query_prefix or ""
        self._document_prefix = convention.document_prefix or ""
        self._between = convention.title_separator
        self.similarity = convention.similarity
        model = [files.digest, self._pooling, self._normalise, self._max_tokens]
        joining = convention.joining
        self.document_fingerprint = fingerprint([*model, self._document_prefix, *joining])
        of_queries = [self._query_prefix, *([str(shorter)] if shorter else [])]
        self.fingerprint = digest(self.document_fingerprint, *of_queries)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._model.width

    @property
    def separator(self) -> str:
        """The separator of BERT."""
        return "[SEP]"

    @property
    def max_tokens(self) -> int:
        """The length that longer texts are cut to."""
        return self._max_tokens

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries, shape (n, dim)."""
        return self._encode(self._of_queries, [self._query_prefix + text for text in texts])

    def encode_documents(self, documents: Sequence[Document | str]) -> NDArray[np.float32]:
        """Return the vectors of documents, shape (n, dim)."""
        texts = (d if isinstance(d, str) else d.joined(self._between) for d in documents)
        return self._encode(self._model, [self._document_prefix + text for text in texts])

    def _encode(self, reader: OnnxModel, texts: list[str]) -> NDArray[np.float32]:
        """Return the vectors of texts, cut as a model's tokenizer cuts them."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        pooled = np.stack(in_threads(self._pooled, _ids(reader, texts)))
        return unit(pooled) if self._normalise else pooled

    def _pooled(self, ids: list[int]) -> NDArray[np.float32]:
        """Return one text's vector, shape (dim,); alone in its call it has no padding to mask."""
        states = self._model.output(ids)
        first = self._pooling == "cls"
        pooled: NDArray[np.float32] = states[0] if first else states.mean(axis=0, dtype=np.float64)
        return pooled.astype(np.float32)


class OnnxTokenEncoder(TokenEncoder):
    """The token states of a BERT-like ONNX model, [CLS] and [SEP] included, each at length 1."""

    def __init__(self, files: ModelFiles, settings: TokenSettings, max_tokens: int | None) -> None:
        """Remember what to load.

        Args:
            files: the model.
            settings: the lengths that a user states.
            max_tokens: the length where none is stated.

        Raises:
            UsageError: the model has fewer positions than are asked for.
        """
        of_query = settings.query_tokens or max_tokens
        of_document = settings.document_tokens or max_tokens
        self._of_query = _model(files, of_query)
        self._of_document = (
            _model(files, of_document) if of_document != of_query else self._of_query
        )
        self.document_fingerprint = fingerprint(["tokens", files.digest, of_document])
        self.fingerprint = digest(self.document_fingerprint, str(of_query))

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._of_document.width

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Return the token vectors of queries."""
        return self._encoded(self._of_query, list(texts))

    def encode_documents(self, documents: Sequence[Document | str]) -> TokenVectors:
        """Return the token vectors of documents."""
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        return self._encoded(self._of_document, texts)

    def _encoded(self, model: OnnxModel, texts: list[str]) -> TokenVectors:
        made = in_threads(lambda ids: unit(model.output(ids)), _ids(model, texts))
        return TokenVectors.of(made, self.dim)


def _model(files: ModelFiles, max_tokens: int | None) -> OnnxModel:
    if max_tokens is not None and max_tokens > _MAX_TOKENS:
        raise UsageError(f"max_tokens must be {_MAX_TOKENS} or less; got {max_tokens}")
    return OnnxModel(files.model, files.tokenizer, max_tokens=max_tokens or _MAX_TOKENS)


def _ids(model: OnnxModel, texts: list[str]) -> list[list[int]]:
    encoded = model.tokenizer.encode_batch([encodable(text) for text in texts])
    return [encoding.ids for encoding in encoded]
