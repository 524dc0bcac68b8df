"""Torch-free encoding with onnxruntime, one text a call.

In a padded batch a text's vector may depend on its batch mates: by the order in which a kernel
adds, and, in a model that quantises activations, by their values. One text a call, at its own
length and on one thread, makes a vector depend on the text alone, bit for bit, whatever the batch
and the number of cores. Several calls run at once instead, one a core. That costs nothing: on 2
idle cores, abstracts of 239 tokens, 25.9 docs/s so and 20.1 docs/s in padded batches of 32 with two
threads inside each call (benchmarks/dense_scifact.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.fingerprint import digest, fingerprint
from limbeck.retrieval.encoders.base import Encoder, encodable, unit
from limbeck.retrieval.encoders.conventions import Convention
from limbeck.retrieval.encoders.minilm import ModelFiles
from limbeck.types import Document

__all__ = ["OnnxEncoder"]

_MAX_TOKENS = 512
"""Positions that a BERT model has."""


class OnnxEncoder(Encoder):
    """A BERT-like ONNX model whose output is the last hidden state."""

    def __init__(self, files: ModelFiles, convention: Convention) -> None:
        """Remember what to load.

        Raises:
            UsageError: the model has fewer positions than `max_tokens`.
        """
        self._files = files
        self._pooling = convention.pooling
        self._normalise = convention.normalise
        self._max_tokens = convention.max_tokens or _MAX_TOKENS
        if self._max_tokens > _MAX_TOKENS:
            raise UsageError(f"max_tokens must be {_MAX_TOKENS} or less; got {self._max_tokens}")
        self._query_prefix = convention.query_prefix or ""
        self._document_prefix = convention.document_prefix or ""
        self.similarity = convention.similarity
        model = [files.digest, self._pooling, self._normalise, self._max_tokens]
        self.document_fingerprint = fingerprint([*model, self._document_prefix])
        self.fingerprint = digest(self.document_fingerprint, self._query_prefix)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._session.get_outputs()[0].shape[-1])

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
        return self._encode([self._query_prefix + text for text in texts])

    def encode_documents(self, documents: Sequence[Document | str]) -> NDArray[np.float32]:
        """Return the vectors of documents, shape (n, dim)."""
        texts = (d if isinstance(d, str) else d.contents for d in documents)
        return self._encode([self._document_prefix + text for text in texts])

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(
            str(self._files.model), options, providers=["CPUExecutionProvider"]
        )

    @cached_property
    def _tokenizer(self) -> Any:
        """The tokenizer without the truncation and the padding at 128 that its file asks for."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._files.tokenizer))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._max_tokens)
        return tokenizer

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        encoded = self._tokenizer.encode_batch([encodable(text) for text in texts])
        ids = [encoding.ids for encoding in encoded]
        pooled = np.stack(_in_threads(self._pooled, ids))
        return unit(pooled) if self._normalise else pooled

    def _pooled(self, ids: list[int]) -> NDArray[np.float32]:
        """Return one text's vector, shape (dim,); alone in its call it has no padding to mask."""
        row = np.array([ids], dtype=np.int64)
        feeds = {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "token_type_ids": np.zeros_like(row),
        }
        states = self._session.run(None, feeds)[0][0]
        first = self._pooling == "cls"
        pooled: NDArray[np.float32] = states[0] if first else states.mean(axis=0, dtype=np.float64)
        return pooled.astype(np.float32)


def _in_threads(
    work: Callable[[list[int]], NDArray[np.float32]], items: list[list[int]]
) -> list[NDArray[np.float32]]:
    """Return the results in the order of the items, several made at once."""
    n_threads = min(len(items), _n_cores())
    if n_threads == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(n_threads, thread_name_prefix="limbeck-encode") as pool:
        return list(pool.map(work, items))


def _n_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
