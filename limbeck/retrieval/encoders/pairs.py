"""What reads a query and a document together: its settings, its inputs, and its one output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.retrieval.encoders.arithmetic import Arithmetic, require_arithmetic
from limbeck.retrieval.encoders.base import encodable

__all__ = ["Pair", "PairInput", "PairModel", "PairSettings", "PairTokenizer"]

_FEWEST = 5
"""[CLS], a token of the query, [SEP], a token of the document, [SEP]."""


class Pair(NamedTuple):
    """What a model reads together."""

    query: str
    document: str


class PairInput(NamedTuple):
    """A pair as a model reads it: token ids with the special ones, and the segment of each."""

    ids: list[int]
    segments: list[int]


@dataclass(frozen=True, slots=True)
class PairSettings:
    """A pair model as a user names it.

    Attributes:
        model: a folder, or a name on the Hugging Face hub.
        label: the label whose logit is the score; None: the model has one.
        max_tokens: pairs are cut to so many tokens, the special ones included; None: the model's
            own length.
        arithmetic: of a model in torch.
    """

    model: str
    label: int | None = None
    max_tokens: int | None = None
    arithmetic: Arithmetic = "fp32"

    def __post_init__(self) -> None:
        require_arithmetic(self.arithmetic)
        if not self.model.strip():
            raise UsageError("a model must be a name or a folder; got an empty one")
        if self.max_tokens is not None and self.max_tokens < _FEWEST:
            raise UsageError(f"max_tokens must be {_FEWEST} or more; got {self.max_tokens}")
        if self.label is not None and self.label < 0:
            raise UsageError(f"label must be 0 or more; got {self.label}; labels count from 0")


class PairModel(ABC):
    """Pairs of query and document to logits. The model is loaded when the first pair is scored.

    Attributes:
        fingerprint: digest of all that a logit depends on beside the pair.
    """

    fingerprint: str

    @abstractmethod
    def logits(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Return the logit of each pair, shape (n_pairs,)."""


class PairTokenizer:
    """Pairs to token ids, "[CLS] query [SEP] document [SEP]" or what the model has in its place.

    Where a pair is too long, the end of the document is cut off. Only where the query alone would
    leave no room for a token of the document, both are cut to one length.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        """Take over a `tokenizers.Tokenizer`; its own truncation and padding are taken out."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._room = max_tokens - tokenizer.num_special_tokens_to_add(is_pair=True)
        self._lock = Lock()

    def inputs(self, pairs: Sequence[Pair]) -> list[PairInput]:
        """Return the input of each pair; each distinct text is tokenised once."""
        with self._lock:
            queries = self._encoded([pair.query for pair in pairs])
            documents = self._encoded([pair.document for pair in pairs])
            joined = [self._joined(queries[p.query], documents[p.document]) for p in pairs]
            self._tokenizer.no_truncation()
            return joined

    def _joined(self, query: Any, document: Any) -> PairInput:
        cut = "only_second" if len(query.ids) < self._room else "longest_first"
        self._tokenizer.enable_truncation(self._max_tokens, strategy=cut)
        found = self._tokenizer.post_process(query, document)
        return PairInput(found.ids, found.type_ids)

    def _encoded(self, texts: list[str]) -> dict[str, Any]:
        distinct = list(dict.fromkeys(texts))
        found = self._tokenizer.encode_batch(
            [encodable(text) for text in distinct], add_special_tokens=False
        )
        return dict(zip(distinct, found, strict=True))
