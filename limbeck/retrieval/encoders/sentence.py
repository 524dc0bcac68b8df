"""Encoding with a sentence-transformers model, by its own modules and prompts. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.fingerprint import digest, fingerprint
from limbeck.retrieval.encoders.arithmetic import Arithmetic, computing, told
from limbeck.retrieval.encoders.base import Encoder, encodable
from limbeck.retrieval.encoders.conventions import Convention
from limbeck.retrieval.encoders.folders import ModelFolder, require_length, without_bars
from limbeck.types import Document

__all__ = ["SentenceEncoder"]


class SentenceEncoder(Encoder):
    """A folder with a modules.json; padded batches, within 1e-6 of each text alone on a CPU."""

    def __init__(
        self,
        folder: ModelFolder,
        convention: Convention,
        *,
        similarity_stated: bool,
        arithmetic: Arithmetic = "fp32",
    ) -> None:
        """Remember what to load.

        Args:
            folder: the model's folder.
            convention: how the model is used; what it leaves open, the model's own files say.
            similarity_stated: whether a user stands behind the similarity, or only a default.
            arithmetic: of the model.

        Raises:
            UsageError: the model has fewer positions than are asked for.
        """
        require_length(folder.path, convention.max_tokens)
        self._folder = folder.path
        self._convention = convention
        self._similarity_stated = similarity_stated
        self._lock = Lock()
        self._arithmetic = arithmetic
        self.similarity = convention.similarity
        c = convention
        self.document_fingerprint = fingerprint(
            [
                *[folder.digest, bool(c.normalise), c.max_tokens, c.document_prefix],
                *c.joining,
                *told(arithmetic),
            ]
        )
        self.fingerprint = digest(self.document_fingerprint, fingerprint(c.query_prefix))

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._model.get_embedding_dimension())

    @property
    def separator(self) -> str:
        """The separator of the model's tokenizer."""
        return str(getattr(self._model.tokenizer, "sep_token", None) or " ")

    @property
    def max_tokens(self) -> int:
        """The length that longer texts are cut to."""
        return int(self._model.max_seq_length)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer

        with without_bars():
            model = SentenceTransformer(str(self._folder))
        own = str(model.similarity_fn_name)
        if own not in {"cosine", self.similarity} and not self._similarity_stated:
            raise UsageError(
                f"the model {self._folder} compares vectors by {own!r}, which its name does not "
                f"tell; state it: similarity={own!r} (or 'cosine', if that is what you want)"
            )
        if self._convention.max_tokens is not None:
            model.max_seq_length = self._convention.max_tokens
        return model

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries, shape (n, dim)."""
        return self._encode("encode_query", list(texts), self._convention.query_prefix)

    def encode_documents(self, documents: Sequence[Document | str]) -> NDArray[np.float32]:
        """Return the vectors of documents, shape (n, dim)."""
        between = self._convention.title_separator
        texts = [d if isinstance(d, str) else d.joined(between) for d in documents]
        return self._encode("encode_document", texts, self._convention.document_prefix)

    def _encode(self, side: str, texts: list[str], prefix: str | None) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        with self._lock, computing(self._arithmetic, self._model.device):
            vectors: NDArray[np.float32] = getattr(self._model, side)(
                [encodable(text) for text in texts],
                prompt=prefix,
                normalize_embeddings=bool(self._convention.normalise),
                show_progress_bar=False,
            )
        return np.asarray(vectors, dtype=np.float32)
