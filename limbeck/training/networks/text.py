"""Networks of models that read tokens: padded, or one behind the other."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.artifact import cache_folder
from limbeck.fingerprint import canonical_json, digest
from limbeck.training.attention import attend, packed_features
from limbeck.training.dropout import quicken
from limbeck.training.modules import readers
from limbeck.training.networks.network import Computing, Network, Side
from limbeck.training.networks.vectors import Vectors
from limbeck.training.tokens import TokenTable, tokenised
from limbeck.types import Documents, Query

__all__ = ["TextNetwork"]

_WIDTHS = (16, 32, 64, 96, 128, 192, 256, 384, 512)
"""Where shapes are few: the lengths that texts are padded to."""


class TextNetwork(Network):
    """A model of sentence-transformers."""

    def __init__(self, model: Any, computing: Computing, *, frozen: bool = False) -> None:
        """Wrap a model."""
        super().__init__(model, computing, frozen=frozen)
        self._packed = self._prepared() and computing.packed

    def _prepared(self) -> bool:
        """Make attention and dropout quick, and return whether texts can be packed."""
        if self._computing.few_shapes:
            return False
        for reader in self.readers:
            quicken(reader.model)
        can = [attend(reader) for reader in self.readers]
        return all(can)

    @property
    def pad(self) -> int:
        """The id of padding."""
        return int(self.model.tokenizer.pad_token_id or 0)

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return len(self.model.tokenizer)

    @property
    def reading(self) -> str:
        """Digest of all that shapes the tokens of a text."""
        readers = [
            [reader.max_seq_length, reader.query_length, reader.document_length]
            for reader in self.readers
        ]
        expansions = [reader.query_expansion for reader in self.readers]
        prompts = getattr(self.model, "prompts", {})
        tokenizer = json.loads(self.model.tokenizer.backend_tokenizer.to_str())
        for set_by_the_last_call in ("truncation", "padding"):
            tokenizer.pop(set_by_the_last_call, None)
        kind = type(self).__name__
        return digest(canonical_json([kind, tokenizer, readers, expansions, prompts]))

    @property
    def max_tokens(self) -> int:
        """Tokens of a text at most, what is put around it included."""
        return int(self.model.max_seq_length)

    @property
    def readers(self) -> list[Any]:
        """The transformers inside: one, or one a tower."""
        return readers(self.model)

    def read(self, corpus: Documents, queries: Sequence[Query], *, separator: str = " ") -> None:
        """Take the tokens of documents and queries, from the cache where it has them."""
        texts = [query.text for query in queries]
        self.tables["query"] = self._table("query", iter(texts), len(texts), digest(*texts))
        read = (corpus.document(row).joined(separator) for row in range(len(corpus)))
        of = digest(corpus.fingerprint, separator)
        self.tables["document"] = self._table("document", read, len(corpus), of)

    def _table(self, side: Side, texts: Iterator[str], n_texts: int, of: str) -> TokenTable:
        return tokenised(
            texts,
            n_texts,
            lambda chunk: self.preprocess(chunk, side),
            folder=cache_folder("tokens", digest(canonical_json([side, self.reading, of]))),
            pad=self.pad,
            vocabulary=self.vocabulary,
            label=f"tokens of {'queries' if side == 'query' else 'documents'}",
        )

    @abstractmethod
    def preprocess(
        self, texts: list[str], side: Side
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and attention mask of texts as the model reads them, prompts included."""

    @abstractmethod
    def _representations(self, made: dict[str, Any]) -> Vectors:
        """Return what the model's output holds."""

    def _fitting(self, lengths: NDArray[np.int64]) -> int:
        """Return how many of the next texts, longest first, are a part."""
        room = self._computing.part_tokens
        if self._packed:
            return max(1, int(np.searchsorted(np.cumsum(lengths), room, side="right")))
        return max(1, room // max(1, self._width(int(lengths[0]))))

    def _width(self, longest: int) -> int:
        if not self._computing.few_shapes:
            return longest
        return next((width for width in _WIDTHS if width >= longest), longest)

    def computed(self, tokens: TokenTable, side: Side) -> Vectors:
        """Return the representations of texts, in their order; `kin` of several sides may mix."""
        is_packed = self._packed and bool(tokens.attended.all()) and side != "pair"
        features = self._one_behind_other(tokens) if is_packed else self._padded(tokens)
        with self._autocast():
            made = self.model(features | self._told(side), **self._task(side))
        return self._representations(made).of(slice(len(tokens)))

    def _one_behind_other(self, tokens: TokenTable) -> dict[str, Any]:
        return packed_features(
            torch.from_numpy(tokens.ids.astype(np.int64)).to(self.device),
            torch.from_numpy(tokens.bounds.astype(np.int32)).to(self.device),
            int(tokens.lengths.max()),
            self.readers[0]._infer_flatten_position_offset(),
        )

    def _padded(self, tokens: TokenTable) -> dict[str, Any]:
        width = self._width(int(tokens.lengths.max(initial=0)))
        whole = self._filled(tokens, width) if self._computing.few_shapes else tokens
        made = {
            "input_ids": whole.padded(whole.ids, self.pad, width=width),
            "attention_mask": whole.padded(whole.attended, 0, width=width),
        }
        if whole.segments is not None:
            made["token_type_ids"] = whole.padded(whole.segments, 0, width=width)
        return {name: torch.from_numpy(matrix).to(self.device) for name, matrix in made.items()}

    def _filled(self, tokens: TokenTable, width: int) -> TokenTable:
        """Return the texts with the first one again behind them, as many as the shape has."""
        n_rows = max(len(tokens), self._computing.part_tokens // width)
        rows = np.zeros(n_rows, dtype=np.int64)
        rows[: len(tokens)] = np.arange(len(tokens))
        return tokens.taken(rows)

    def _told(self, side: Side) -> dict[str, Any]:
        """Return what else the model's modules look for."""
        del side
        return {}

    def _task(self, side: Side) -> dict[str, Any]:
        return {"task": side}

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._computing.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)
