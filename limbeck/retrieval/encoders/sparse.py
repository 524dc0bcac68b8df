"""What a sparse encoder is: two sides that turn a text into weights of the tokenizer's tokens."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.types import Document

__all__ = [
    "Entries",
    "SparseConvention",
    "SparseEncoder",
    "SparseSettings",
    "SparseVectors",
    "entries",
    "sparse_convention",
]

_FEWEST = 3
"""[CLS], a token, [SEP]."""


@dataclass(frozen=True, slots=True)
class SparseSettings:
    """A sparse encoder as a user names it.

    Attributes:
        encoder: a folder, or a name on the Hugging Face hub.
        max_tokens: texts are cut to so many tokens; None: the model's own length.
    """

    encoder: str
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.encoder.strip():
            raise UsageError("an encoder must be a name or a folder; got an empty one")
        if self.max_tokens is not None and self.max_tokens < _FEWEST:
            raise UsageError(f"max_tokens must be {_FEWEST} or more; got {self.max_tokens}")


@dataclass(frozen=True, slots=True)
class SparseConvention:
    """How a masked language model makes weights where its folder has no modules that say so.

    Attributes:
        query: "model": as a document's; "tokens": 1 for each token of the query; "idf": for each
            token what the folder's idf.json says.
        twice: the logarithm is taken twice, log(1 + log(1 + relu)).
        skips_special: special tokens such as [CLS] have no weight.
        towers: the models of queries and documents, where there are two.
    """

    query: Literal["model", "tokens", "idf"] = "model"
    twice: bool = False
    skips_special: bool = False
    towers: tuple[str, str] | None = None


_OPENSEARCH = r"opensearch-neural-sparse-encoding-"
_TABLE: tuple[tuple[str, SparseConvention], ...] = (
    (r"splade-v3-doc", SparseConvention("tokens")),
    (_OPENSEARCH + r"(v1|v2-distill)", SparseConvention(skips_special=True)),
    (
        _OPENSEARCH + r"(doc-v[12].*|multilingual-v1)",
        SparseConvention("idf", skips_special=True),
    ),
    (_OPENSEARCH + r"doc-v3.*", SparseConvention("idf", twice=True, skips_special=True)),
)
_TWO_TOWERS = re.compile(r"(.*efficient-splade-(?:v|vi-bt)-large-)(?:query|doc)", re.IGNORECASE)


def sparse_convention(encoder: str) -> SparseConvention:
    """Return how a model is used, by the last part of its name.

    Paper: SPLADE (Formal et al., SIGIR 2021 and 2022; Lassance and Clinchant, SIGIR 2022, for two
    towers), "Towards Competitive Search Relevance For Inference-Free Learned Sparse Retrievers"
    (Geng et al. 2024) for OpenSearch's; their released code and model cards.
    """
    stripped = encoder.rstrip("/\\")
    two = _TWO_TOWERS.fullmatch(stripped)
    if two:
        return SparseConvention(towers=(f"{two[1]}query", f"{two[1]}doc"))
    last = re.split(r"[/\\]", stripped)[-1].lower()
    found = (convention for pattern, convention in _TABLE if re.fullmatch(pattern, last))
    return next(found, SparseConvention())


Entries = tuple[NDArray[np.int32], NDArray[np.float32]]
"""The terms of one text, ascending and distinct, and their weights; both of shape (n_entries,)."""


def entries(weights: NDArray[np.float32]) -> Entries:
    """Return the entries that are not 0 of a vector that is given whole, shape (n_terms,)."""
    terms = np.flatnonzero(weights).astype(np.int32)
    return terms, weights[terms].astype(np.float32, copy=False)


class SparseVectors(NamedTuple):
    """The sparse vectors of several texts, one text after the other.

    Attributes:
        bounds: int64, shape (n_texts + 1,); text i has the entries bounds[i]:bounds[i + 1].
        terms: int32; numbers among the encoder's terms, ascending and distinct in each text.
        weights: float32, none of them 0.
    """

    bounds: NDArray[np.int64]
    terms: NDArray[np.int32]
    weights: NDArray[np.float32]

    @staticmethod
    def of(texts: Iterable[Entries]) -> SparseVectors:
        """Return the vectors of texts that are given one by one."""
        held = list(texts)
        return SparseVectors(
            np.cumsum([0, *(len(terms) for terms, _ in held)], dtype=np.int64),
            np.concatenate([np.zeros(0, dtype=np.int32), *(terms for terms, _ in held)]),
            np.concatenate([np.zeros(0, dtype=np.float32), *(weights for _, weights in held)]),
        )

    def of_text(self, text: int) -> Entries:
        """Return the terms of one text, and their weights."""
        where = slice(int(self.bounds[text]), int(self.bounds[text + 1]))
        return self.terms[where], self.weights[where]

    def top(self, n: int | None) -> SparseVectors:
        """Return the n heaviest terms of each text, of equal ones the lower; None: all."""
        if n is None:
            return self
        lengths = np.diff(self.bounds)
        segment = np.repeat(np.arange(len(lengths)), lengths)
        order = np.lexsort((self.terms, -self.weights, segment))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(self.bounds[:-1], lengths)
        kept = rank < n
        bounds = np.concatenate(([0], np.cumsum(np.minimum(lengths, n)))).astype(np.int64)
        return SparseVectors(bounds, self.terms[kept], self.weights[kept])


class SparseEncoder(ABC):
    """Texts to weights of terms. Models are loaded when the first text is encoded.

    Attributes:
        document_fingerprint: digest of all that a document's weights depend on beside the document.
        fingerprint: digest of both sides.
    """

    document_fingerprint: str
    fingerprint: str

    @property
    @abstractmethod
    def tokens(self) -> Sequence[str | None]:
        """The token of each number; None where a model has more numbers than its tokenizer."""

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The term of each number, all distinct: its token, or its number in brackets."""
        return tuple(f"[{n}]" if token is None else token for n, token in enumerate(self.tokens))

    @property
    @abstractmethod
    def separator(self) -> str:
        """The token that stands between a query and a text joined to it."""

    @abstractmethod
    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        """Return the weights of queries."""

    @abstractmethod
    def encode_documents(self, documents: Sequence[Document | str]) -> SparseVectors:
        """Return the weights of documents; a string is a text without a title."""
