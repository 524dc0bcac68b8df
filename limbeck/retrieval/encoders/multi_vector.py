"""Token vectors of a sentence-transformers MultiVectorEncoder or PyLate folder. Needs torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from limbeck.errors import UsageError
from limbeck.fingerprint import digest
from limbeck.retrieval.encoders.arithmetic import computing, told
from limbeck.retrieval.encoders.base import encodable, unit
from limbeck.retrieval.encoders.folders import ModelFolder, without_bars
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenSettings, TokenVectors
from limbeck.types import Document

__all__ = ["MultiVectorFolderEncoder", "is_multi_vector"]

_TYPES = frozenset({"ColBERT", "MultiVectorEncoder"})
_MARKS = frozenset({"query_expansion", "do_query_expansion", "query_prefix", "skiplist_words"})


def is_multi_vector(folder: Path) -> bool:
    """Return whether a folder says that its model makes a vector for each token."""
    try:
        modules = (folder / "modules.json").read_text(encoding="utf-8")
        text = (folder / "config_sentence_transformers.json").read_text(encoding="utf-8")
        stated = json.loads(text)
    except (OSError, ValueError):
        return False
    named = "pylate." in modules or "multi_vector" in modules
    return named or stated.get("model_type") in _TYPES or bool(_MARKS & stated.keys())


class MultiVectorFolderEncoder(TokenEncoder):
    """A folder with a modules.json, encoded by its own modules; its own lengths and markers."""

    def __init__(self, folder: ModelFolder, settings: TokenSettings) -> None:
        """Remember what to load.

        Raises:
            UsageError: lengths are stated; such a folder states its own.
        """
        if settings.query_tokens or settings.document_tokens:
            raise UsageError(
                f"the model {folder.path} states its own lengths; got query_tokens "
                f"{settings.query_tokens} and document_tokens {settings.document_tokens}; leave "
                "them out, or change them in the model's folder"
            )
        self._folder = folder.path
        self._lock = Lock()
        self._arithmetic = settings.arithmetic
        self.document_fingerprint = digest("tokens", folder.digest, *told(settings.arithmetic))
        self.fingerprint = digest(self.document_fingerprint)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import MultiVectorEncoder

        with without_bars():
            return MultiVectorEncoder(str(self._folder), local_files_only=True)

    @cached_property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._model.get_embedding_dimension())

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Return the token vectors of queries, those of [MASK] augmentation included."""
        return self._encode("encode_query", list(texts))

    def encode_documents(self, documents: Sequence[Document | str]) -> TokenVectors:
        """Return the token vectors of documents."""
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        return self._encode("encode_document", texts)

    def _encode(self, side: str, texts: list[str]) -> TokenVectors:
        if not texts:
            return TokenVectors.of([], self.dim)
        with self._lock, computing(self._arithmetic, self._model.device):
            made = getattr(self._model, side)(
                [encodable(text) for text in texts], convert_to_numpy=True, show_progress_bar=False
            )
        return TokenVectors.of([unit(each) for each in made], self.dim)
