"""A network with a score a pair of query and document."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.training.networks.network import Side
from limbeck.training.networks.pairs import PairLayout, pair_layout
from limbeck.training.networks.text import TextNetwork
from limbeck.training.networks.vectors import Vectors
from limbeck.training.tokens import TokenTable

__all__ = ["PairNetwork"]


class PairNetwork(TextNetwork):
    """A CrossEncoder: a score a pair of query and document."""

    @cached_property
    def _layout(self) -> PairLayout:
        return pair_layout(self.model.tokenizer, self.max_tokens)

    def preprocess(
        self, texts: list[str], side: Side
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and attention mask of texts alone, as they stand in a pair."""
        del side
        made = self.model.tokenizer(
            texts,
            add_special_tokens=False,
            truncation=True,
            max_length=self.max_tokens,
            padding=True,
            return_tensors="np",
        )
        return made["input_ids"], made["attention_mask"]

    def kin(self, side: Side) -> str:
        """Return the side, which is always the pair."""
        return side

    def tokens(self, side: Side, rows: NDArray[np.int64]) -> TokenTable:
        """Return the tokens of some pairs: rows of queries and of documents, shape (n_pairs, 2)."""
        assert side == "pair", side
        sides: tuple[Side, Side] = ("query", "document")
        return self._layout.joined(
            *(self.tables[s].taken(rows[:, place]) for place, s in enumerate(sides))
        )

    def _task(self, side: Side) -> dict[str, Any]:
        del side
        return {}

    def _representations(self, made: dict[str, Any]) -> Vectors:
        return Vectors(made["scores"].float())
