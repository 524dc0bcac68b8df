"""Encoding with a bare transformer: its token states, pooled as its convention says. Needs torch.

Texts are encoded in padded batches, longest first. Padding is masked, so that a vector depends on
its batch mates only by the rounding of matrix products: within 1e-6 of its length on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.fingerprint import digest, fingerprint
from limbeck.retrieval.encoders.arithmetic import Arithmetic, computing, told
from limbeck.retrieval.encoders.base import Encoder, encodable, unit
from limbeck.retrieval.encoders.batches import by_length, padded
from limbeck.retrieval.encoders.conventions import Convention
from limbeck.retrieval.encoders.folders import ModelFolder, input_length, read_json
from limbeck.retrieval.encoders.torch_model import TorchModel
from limbeck.types import Document

__all__ = ["TransformerEncoder"]

_BATCH_TOKENS = 8192
"""Tokens of a padded batch."""

_DPR_CLASSES = ("DPRQuestionEncoder", "DPRContextEncoder")


class _Input(NamedTuple):
    """One input: a text, or a pair of a title and a text."""

    first: str
    second: str | None = None


class TransformerEncoder(Encoder):
    """One model for both sides, or a model for each."""

    def __init__(
        self,
        folders: tuple[ModelFolder, ModelFolder],
        convention: Convention,
        arithmetic: Arithmetic = "fp32",
    ) -> None:
        """Remember what to load.

        Args:
            folders: of the query side and of the document side; the same folder for one model.
            convention: how the model is used; no pooling stated means the mean.
            arithmetic: of the model.
        """
        self._convention = convention
        self.similarity = convention.similarity
        of_query, of_document = folders
        self._document_tower = _Tower(of_document.path, convention, arithmetic)
        self._query_tower = (
            self._document_tower
            if of_query == of_document
            else _Tower(of_query.path, convention, arithmetic)
        )
        c = convention
        how = [c.pooling or "mean", bool(c.normalise), c.max_tokens, c.title_pair]
        document_side = [of_document.digest, how, c.document_prefix or "", *told(arithmetic)]
        self.document_fingerprint = fingerprint(document_side)
        self.fingerprint = digest(self.document_fingerprint, of_query.digest, c.query_prefix or "")

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._document_tower.dim

    @property
    def separator(self) -> str:
        """The separator of the model's tokenizer."""
        return self._query_tower.separator

    @property
    def max_tokens(self) -> int:
        """The length that longer texts are cut to."""
        return self._document_tower.max_tokens

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries, shape (n, dim)."""
        prefix = self._convention.query_prefix or ""
        return self._query_tower.encode([_Input(prefix + text) for text in texts])

    def encode_documents(self, documents: Sequence[Document | str]) -> NDArray[np.float32]:
        """Return the vectors of documents, shape (n, dim)."""
        return self._document_tower.encode([self._document_input(d) for d in documents])

    def _document_input(self, document: Document | str) -> _Input:
        prefix = self._convention.document_prefix or ""
        if isinstance(document, str):
            return _Input(prefix + document)
        if self._convention.title_pair and document.title:
            return _Input(prefix + document.title, document.text)
        return _Input(prefix + document.contents)


class _Tower:
    """A tokenizer and a model; one call at a time, for tokenizers are not safe for threads."""

    def __init__(self, folder: Path, convention: Convention, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self._pooling = convention.pooling or "mean"
        self._normalise = convention.normalise
        self._lock = Lock()
        stated = (read_json(folder / "config.json").get("architectures") or [""])[0]
        self._is_dpr = stated in _DPR_CLASSES
        if self._is_dpr and self._pooling != "cls":
            raise UsageError(
                f"DPR takes the [CLS] vector; got pooling={self._pooling!r}; leave it out"
            )
        # AutoModel would load a DPR passage model as a question model: with random weights.
        self._model = TorchModel(folder, stated if self._is_dpr else "AutoModel")
        self.max_tokens = input_length(folder, convention.max_tokens)

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self._model.folder)

    @property
    def dim(self) -> int:
        """The width of the last layer, or of DPR's projection where it has one."""
        return int(getattr(self._config, "projection_dim", 0) or self._config.hidden_size)

    @property
    def separator(self) -> str:
        return self._model.separator

    def encode(self, inputs: list[_Input]) -> NDArray[np.float32]:
        vectors = np.zeros((len(inputs), self.dim), dtype=np.float32)
        with self._lock:
            ids = [self._ids(each) for each in inputs]
            for batch in by_length(list(map(len, ids)), _BATCH_TOKENS):
                vectors[batch] = self._pooled([ids[i] for i in batch])
        return unit(vectors) if self._normalise else vectors

    def _ids(self, given: _Input) -> list[int]:
        second = None if given.second is None else encodable(given.second)
        cut: list[int] = self._model.tokenizer(
            encodable(given.first), second, truncation=True, max_length=self.max_tokens
        )["input_ids"]
        return cut

    def _pooled(self, batch: list[list[int]]) -> NDArray[np.float32]:
        """Return a batch's vectors; segments are left out, so that they are 0 for pairs too."""
        import torch

        given = padded(batch, self._model.pad)
        ids, mask = self._model.tensor(given.ids), self._model.tensor(given.mask)
        device = self._model.network.device
        with torch.inference_mode(), computing(self._arithmetic, device):
            out = self._model.network(input_ids=ids, attention_mask=mask)
            vectors: NDArray[np.float32] = self._pool(out, mask).float().cpu().numpy()
        return vectors

    def _pool(self, out: Any, mask: Any) -> Any:
        if self._is_dpr:
            return out.pooler_output  # the [CLS] state; DPR has no tanh pooler
        states = out.last_hidden_state
        if self._pooling == "cls":
            return states[:, 0]
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)
