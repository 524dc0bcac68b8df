"""docT5query: queries written by a sequence-to-sequence model. Needs torch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import cache_folder
from limbeck.corpus import Corpus
from limbeck.errors import Problem, UsageError
from limbeck.fingerprint import digest
from limbeck.retrieval.encoders.base import encodable
from limbeck.retrieval.encoders.folders import (
    ModelFolder,
    examine_model,
    local_folder,
    model_folder,
    require_torch,
)
from limbeck.retrieval.encoders.torch_model import TorchModel
from limbeck.retrieval.expansion import Expander, Written
from limbeck.retrieval.store import Store, remembered
from limbeck.types import Document

__all__ = ["DocT5Query"]


@dataclass(frozen=True)
class DocT5Query(Expander):
    """Documents expanded by queries that a sequence-to-sequence model such as T5 samples.

    Documents are read one at a time, all their queries at once, and the dice are thrown by the
    document's content: what is written for a document depends on no other one. It is kept in the
    cache by content; what a kill loses is a few documents. A document that is blank gets none.

    Paper: Nogueira, Lin, "From doc2query to docTTTTTquery", 2019: top-k sampling with k = 10, 40
    queries a passage. Another processor may round otherwise and sample other queries.

    Attributes:
        model: a folder, or a name on the Hugging Face hub (extra `torch`), such as
            castorini/doc2query-t5-base-msmarco.
        n: queries written for each document.
        top_k: how many of the likeliest tokens are sampled from.
        max_tokens: tokens of each query at most.
        document_tokens: documents are cut to so many tokens.
        document_prefix: stands before each document.
        seed: other dice.
    """

    name: ClassVar[str] = "doct5query"

    model: str
    n: int = field(default=40, kw_only=True)
    top_k: int = field(default=10, kw_only=True)
    max_tokens: int = field(default=64, kw_only=True)
    document_tokens: int = field(default=512, kw_only=True)
    document_prefix: str = field(default="", kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        if min(self.n, self.top_k, self.max_tokens, self.document_tokens) < 1:
            raise UsageError(
                "n, top_k, max_tokens and document_tokens of doct5query must be 1 or more; got "
                f"{self.n}, {self.top_k}, {self.max_tokens}, {self.document_tokens}"
            )

    @property
    def origin(self) -> str:
        """Digest of parameters and of the model's content."""
        return digest(self.fingerprint, self._folder.digest)

    @property
    def most(self) -> int | None:
        """The queries written for each document."""
        return self.n

    def examine_inside(self, place: str, problems: list[Problem]) -> None:
        """Examine whether a model that is named by a path is there."""
        examine_model(lambda: local_folder(self.model), place, problems)

    def write(self, corpus: Corpus) -> list[Written]:
        """Return the queries of each document, by row.

        Raises:
            ArtifactError: the model cannot be had, or the disk is full.
            MissingExtraError: the extra `torch` is not installed.
        """
        require_torch(f"{self.name} with {self.model!r}")
        store = Store(cache_folder("doct5query", self.origin), np.dtype("u1"))
        rows = range(len(corpus))
        found = remembered(store, corpus, rows, self._written, label=f"{self.name}: documents")
        return [
            Written(tuple(json.loads(found.rows[start:end].tobytes())))
            for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)
        ]

    def _written(self, documents: Sequence[Document]) -> tuple[list[int], NDArray[np.uint8]]:
        """Return the queries of each document as JSON: the length of each, and the bytes of all."""
        found = [json.dumps(self._sampled(document)).encode() for document in documents]
        return [len(data) for data in found], np.frombuffer(b"".join(found), dtype=np.uint8)

    def _sampled(self, document: Document) -> list[str]:
        import torch

        if not document.contents.strip():
            return []
        text = encodable(self.document_prefix + document.contents)
        tokenizer, model = self._loaded.tokenizer, self._loaded.network
        read = tokenizer(
            text, truncation=True, max_length=self.document_tokens, return_tensors="pt"
        ).to(model.device)
        dice = [model.device] if model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=dice):
            torch.manual_seed(int(digest(str(self.seed), text)[:15], 16))
            ids = model.generate(
                input_ids=read["input_ids"],
                attention_mask=read["attention_mask"],
                do_sample=True,
                num_beams=1,
                temperature=1.0,
                top_k=self.top_k,
                top_p=1.0,
                max_new_tokens=self.max_tokens,
                num_return_sequences=self.n,
            )
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text for text in (" ".join(text.split()) for text in texts) if text]

    @cached_property
    def _folder(self) -> ModelFolder:
        return model_folder(self.model)

    @cached_property
    def _loaded(self) -> TorchModel:
        return TorchModel(self._folder.path, "AutoModelForSeq2SeqLM")
