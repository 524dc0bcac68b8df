"""A network of vectors that were made before: those of queries are turned, documents' are as is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from limbeck.retrieval.embeddings import embed
from limbeck.retrieval.encoders.adapted import write_adapter
from limbeck.retrieval.encoders.base import Encoder, unit
from limbeck.training.networks.network import Computing, Network, Side
from limbeck.training.networks.vectors import Vectors
from limbeck.training.tokens import TokenTable
from limbeck.types import Documents, Query

__all__ = ["Adapter", "AdapterNetwork"]


class Adapter(nn.Module):
    """The matrix, as the sum of the unit matrix and what is learned.

    Attributes:
        base: the name of the encoder.
        encoder: whose query vectors are turned.
    """

    def __init__(self, base: str, encoder: Encoder, *, rank: int | None) -> None:
        """Begin with the unit matrix."""
        super().__init__()
        self.base = base
        self.encoder = encoder
        dim = encoder.dim
        self.down = nn.Parameter(torch.zeros(dim, rank or dim))
        self.up = nn.Parameter(torch.randn(rank, dim) / dim**0.5) if rank else None

    @property
    def change(self) -> Tensor:
        """What is added to the unit matrix, shape (dim, dim)."""
        return self.down if self.up is None else self.down @ self.up

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the vectors turned."""
        return vectors + vectors @ self.change

    def save_pretrained(self, folder: str, *, create_model_card: bool) -> None:
        """Write the adapter, as `Dense` reads it."""
        del create_model_card
        matrix = (torch.eye(len(self.down)) + self.change).detach().cpu().numpy()
        write_adapter(Path(folder), matrix, encoder=self.base, of=self.encoder)


class AdapterNetwork(Network):
    """Reads no tokens: a text is its number, which stands in the table as its one token."""

    def __init__(self, model: Adapter, computing: Computing, *, frozen: bool = False) -> None:
        """Wrap a matrix."""
        super().__init__(model, computing, frozen=frozen)
        self._vectors: dict[Side, NDArray[np.float32]] = {}

    def read(self, corpus: Documents, queries: Sequence[Query], *, separator: str = " ") -> None:
        """Encode queries and documents, once; documents that the cache has are not encoded."""
        del separator  # the encoder knows its own
        encoder: Encoder = self.model.encoder
        found: dict[Side, NDArray[np.float32]] = {
            "query": encoder.encode_queries([query.text for query in queries]),
            "document": embed(corpus, range(len(corpus)), encoder),
        }
        for side, vectors in found.items():
            is_cosine = encoder.similarity == "cosine"
            self._vectors[side] = unit(vectors) if is_cosine else vectors
            self.tables[side] = _numbers(len(vectors))

    def kin(self, side: Side) -> str:
        """Return the side."""
        return side

    def computed(self, tokens: TokenTable, side: Side) -> Vectors:
        """Return the vectors of texts; queries' turned, and of length 1 where cosines count."""
        given = self._vectors[side][tokens.ids.astype(np.int64)]
        vectors = torch.from_numpy(given).to(self.device)
        if side == "document":
            return Vectors(vectors)
        turned = self.model(vectors)
        is_cosine = self.model.encoder.similarity == "cosine"
        return Vectors(functional.normalize(turned, dim=1) if is_cosine else turned)


def _numbers(n: int) -> TokenTable:
    """Return the table of n texts, each of which has its number as its one token."""
    return TokenTable(np.arange(n), np.ones(n, np.uint8), np.arange(n + 1))
