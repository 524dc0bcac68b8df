"""What training asks of a network: texts in, representations out, parts of like length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.training.networks.vectors import Vectors
from limbeck.training.tokens import TokenTable
from limbeck.types import Documents, Query

__all__ = ["Computing", "Network", "Precision", "Side"]

Side = Literal["query", "document", "pair"]
Precision = Literal["fp32", "bf16"]


class Computing(NamedTuple):
    """How a network is computed; the vectors are the same but for rounding.

    Attributes:
        precision: of the computation; weights, gradients and what an optimiser keeps stay float32.
        part_tokens: tokens, padding included, that are computed together.
        packed: texts one behind the other instead of padded, where the model can.
        few_shapes: parts are filled up to one of few shapes, as a compiled model wants it.
    """

    precision: Precision = "fp32"
    part_tokens: int = 2048
    packed: bool = False
    few_shapes: bool = False


class Network(ABC):
    """A model with what it reads of queries and documents.

    Attributes:
        model: a module of torch, with its weights where they are.
        frozen: it is asked, and not trained.
        tables: the tokens of each side.
    """

    def __init__(self, model: Any, computing: Computing, *, frozen: bool = False) -> None:
        """Wrap a model."""
        self.model = model
        self.frozen = frozen
        self.tables: dict[Side, TokenTable] = {}
        self._computing = computing
        if frozen:
            model.requires_grad_(requires_grad=False).eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def readers(self) -> list[Any]:
        """The transformers inside: none, one, or one a tower."""
        return []

    @abstractmethod
    def read(self, corpus: Documents, queries: Sequence[Query], *, separator: str = " ") -> None:
        """Fill `tables` with documents and queries.

        Args:
            corpus: the documents, by row.
            queries: by their place.
            separator: stands between a document's title and its text.
        """

    @abstractmethod
    def kin(self, side: Side) -> str:
        """Return a word; sides that have the same are computed together."""

    @abstractmethod
    def computed(self, tokens: TokenTable, side: Side) -> Vectors:
        """Return the representations of texts, in their order; `kin` of several sides may mix."""

    def tokens(self, side: Side, rows: NDArray[np.int64]) -> TokenTable:
        """Return the tokens of some texts of a side."""
        return self.tables[side].taken(rows)

    def parts(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the places of texts that are computed together: about as long as each other.

        Args:
            lengths: tokens of each text.
        """
        order = np.argsort(-lengths, kind="stable")
        counted = lengths[order]
        parts: list[NDArray[np.int64]] = []
        start = 0
        while start < len(order):
            n = self._fitting(counted[start:])
            parts.append(order[start : start + n])
            start += n
        return parts

    def _fitting(self, lengths: NDArray[np.int64]) -> int:
        """Return how many of the next texts, longest first, are a part."""
        return max(1, self._computing.part_tokens // max(1, int(lengths[0])))
