"""Networks with one vector a text, one a token, or a weight a term."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.training.networks.network import Side
from limbeck.training.networks.text import TextNetwork
from limbeck.training.networks.vectors import Vectors
from limbeck.training.tokens import TokenTable

__all__ = ["DenseNetwork", "MultiVectorNetwork", "SparseNetwork"]


class DenseNetwork(TextNetwork):
    """A SentenceTransformer: a vector a text."""

    def preprocess(
        self, texts: list[str], side: Side
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and attention mask of texts as the model reads them, prompts included."""
        made = self.model.preprocess(texts, prompt=self._prompt(side), task=side)
        return made["input_ids"].numpy(), made["attention_mask"].numpy()

    def kin(self, side: Side) -> str:
        """Return one word for both sides, unless the model tells their tokens apart."""
        return side if self._tells_apart else "text"

    @property
    def _tells_apart(self) -> bool:
        from sentence_transformers.base.modules import Router

        leaves_prompts_out = not all(
            getattr(module, "include_prompt", True) for module in self.model
        )
        return leaves_prompts_out or any(isinstance(module, Router) for module in self.model)

    def _prompt(self, side: Side) -> str | None:
        prompts = self.model.prompts
        names = ("document", "passage", "corpus") if side == "document" else (side,)
        return next((prompts[name] for name in names if name in prompts), None) or None

    def _told(self, side: Side) -> dict[str, Any]:
        prompt = self._prompt(side)
        return {"prompt_length": self.readers[0]._get_prompt_length(prompt)} if prompt else {}

    def _representations(self, made: dict[str, Any]) -> Vectors:
        return Vectors(made["sentence_embedding"].float())


class MultiVectorNetwork(DenseNetwork):
    """A MultiVectorEncoder: a vector a token."""

    def kin(self, side: Side) -> str:
        """Return the side: the two have other markers, and other tokens count."""
        return side

    def _padded(self, tokens: TokenTable) -> dict[str, Any]:
        made = super()._padded(tokens)
        ids, mask = made["input_ids"], made["attention_mask"]
        return made | {"query_expansion_positions": (mask == 0) & (ids != self.pad)}

    def _representations(self, made: dict[str, Any]) -> Vectors:
        return Vectors(made["token_embeddings"].float(), made["attention_mask"].bool())


class SparseNetwork(DenseNetwork):
    """A SparseEncoder: a weight a term of the vocabulary, most of them 0, as one long vector."""
