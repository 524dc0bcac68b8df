"""Masked language models as SPLADE reads them: for each term the highest logit at any token.

With onnxruntime one text is read a call, so that its logits are the same bits in every batch; see
`limbeck.retrieval.encoders.session`. With torch texts are read in padded batches, longest first;
padding is masked, so that a logit depends on its batch mates only by the rounding of matrix
products: within 1e-5 on a CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.encoders.base import encodable
from limbeck.retrieval.encoders.batches import by_length, padded
from limbeck.retrieval.encoders.folders import ModelFiles
from limbeck.retrieval.encoders.session import OnnxModel, in_threads
from limbeck.retrieval.encoders.sparse import Entries
from limbeck.retrieval.encoders.torch_model import TorchModel

__all__ = ["OnnxTermLogits", "TermLogits", "TorchTermLogits", "Weigh"]

_BATCH_TOKENS = 2048
"""Tokens of a padded batch: with 30,522 terms, 250 MB of logits."""

Weigh = Callable[[NDArray[np.float32]], Entries]
"""From the highest logit of each term, shape (n_terms,), to the entries of a sparse vector."""


class TermLogits(ABC):
    """Texts to the highest logit of each term. The model is loaded when the first text is read."""

    @property
    @abstractmethod
    def tokens(self) -> Sequence[str | None]:
        """The token of each number; None where the tokenizer has none."""

    @property
    @abstractmethod
    def special(self) -> Sequence[int]:
        """The numbers of the special tokens."""

    @property
    @abstractmethod
    def separator(self) -> str:
        """The token that stands between a query and a text joined to it."""

    @abstractmethod
    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the tokens of each text, without the special ones."""

    @abstractmethod
    def weighed(self, texts: Sequence[str], weigh: Weigh) -> list[Entries]:
        """Return what is made of the highest logits of each text.

        Each text is weighed as soon as it is read: all its logits would take 120 KB.
        """


class OnnxTermLogits(TermLogits):
    """A masked language model in ONNX whose first output is the logits."""

    def __init__(self, files: ModelFiles, max_tokens: int) -> None:
        """Remember what to load."""
        self._model = OnnxModel(files.model, files.tokenizer, max_tokens=max_tokens)

    @cached_property
    def tokens(self) -> Sequence[str | None]:
        """The token of each number; None where the tokenizer has none."""
        return [self._model.tokenizer.id_to_token(n) for n in range(self._model.width)]

    @property
    def special(self) -> Sequence[int]:
        """The numbers of the special tokens."""
        added = self._model.tokenizer.get_added_tokens_decoder()
        return [number for number, token in added.items() if token.special]

    @property
    def separator(self) -> str:
        """The separator of BERT."""
        return "[SEP]"

    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the tokens of each text, without the special ones."""
        return self._ids(texts, special=False)

    def weighed(self, texts: Sequence[str], weigh: Weigh) -> list[Entries]:
        """Return what is made of the highest logits of each text."""
        self._model.require_output("batch, tokens, terms")
        return in_threads(
            lambda ids: weigh(self._model.output(ids).max(axis=0)), self._ids(texts, special=True)
        )

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        encode = self._model.tokenizer.encode_batch
        found = encode([encodable(text) for text in texts], add_special_tokens=special)
        return [encoding.ids for encoding in found]


class TorchTermLogits(TermLogits):
    """A masked language model of transformers; one call at a time."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Remember what to load."""
        self._model = TorchModel(folder, "AutoModelForMaskedLM")
        self._max_tokens = max_tokens
        self._lock = Lock()

    @cached_property
    def tokens(self) -> Sequence[str | None]:
        """The token of each number; None where the tokenizer has none."""
        n_terms = int(self._model.network.config.vocab_size)
        tokens: list[str | None] = self._model.tokenizer.convert_ids_to_tokens(list(range(n_terms)))
        return tokens

    @property
    def special(self) -> Sequence[int]:
        """The numbers of the special tokens."""
        numbers: list[int] = self._model.tokenizer.all_special_ids
        return numbers

    @property
    def separator(self) -> str:
        """The separator of the model's tokenizer."""
        return self._model.separator

    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the tokens of each text, without the special ones."""
        with self._lock:
            return self._ids(texts, special=False)

    def weighed(self, texts: Sequence[str], weigh: Weigh) -> list[Entries]:
        """Return what is made of the highest logits of each text."""
        made: dict[int, Entries] = {}
        with self._lock:
            rows = self._ids(texts, special=True)
            for batch in by_length(list(map(len, rows)), _BATCH_TOKENS):
                highest = self._highest([rows[i] for i in batch])
                made.update((i, weigh(each)) for i, each in zip(batch, highest, strict=True))
        return [made[i] for i in range(len(texts))]

    def _ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self._model.tokenizer(
            [encodable(text) for text in texts],
            truncation=True,
            max_length=self._max_tokens,
            add_special_tokens=special,
        )["input_ids"]
        return ids

    def _highest(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the highest logit of each term in a batch, shape (n, n_terms)."""
        import torch

        given = padded(rows, self._model.pad)
        ids, mask = self._model.tensor(given.ids), self._model.tensor(given.mask)
        with torch.inference_mode():
            logits = self._model.network(input_ids=ids, attention_mask=mask).logits
            # Without padding one by one: a mask over all logits would cost two more passes.
            of_text = [logits[i, : len(row)].amax(dim=0) for i, row in enumerate(rows)]
            highest: NDArray[np.float32] = torch.stack(of_text).float().cpu().numpy()
        return highest
