"""Alignment: a student's vectors are drawn to those of a larger encoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from limbeck.errors import UsageError
from limbeck.retrieval.embeddings import embed
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.conventions import Settings
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.training.batches import Batch
from limbeck.training.examples import Examples
from limbeck.training.networks import Vectors

__all__ = ["Alignment"]


class Alignment:
    """1 - the cosine of a student's vector with the encoder's, over the queries and passages.

    An encoder with more dimensions is seen through those that hold most of its documents, so that
    the inner products of its vectors stay about what they are.

    Paper: Kim et al., "EmbedDistill", arXiv 2301.12005, match embeddings of queries and documents.
    We differ: they train a map between the two spaces, here it is the singular vectors of the
    documents'; and they take squared distances.
    """

    def __init__(self, name: str, examples: Examples) -> None:
        """Encode the training queries and the documents; what is in the cache is not done again.

        Args:
            name: of the encoder: a folder, or a name on the hub.
            examples: the texts.
        """
        encoder = open_encoder(Settings(name))
        self._documents = unit(embed(examples.corpus, range(len(examples.corpus)), encoder))
        self._queries = unit(encoder.encode_queries([query.text for query in examples.queries]))
        self._map: NDArray[np.float32] | None = None

    def loss(self, batch: Batch, queries: Vectors, passages: Vectors) -> Tensor:
        """Return the mean over the batch's queries, and that over its passages, halved.

        Raises:
            UsageError: the encoder has fewer dimensions than the student.
        """
        missed = [
            1 - functional.cosine_similarity(found.values, self._wanted(held[rows], found.values))
            for found, held, rows in (
                (queries, self._queries, batch.queries),
                (passages, self._documents, batch.rows),
            )
        ]
        return torch.stack([each.mean() for each in missed]).mean()

    def _wanted(self, vectors: NDArray[np.float32], like: Tensor) -> Tensor:
        dim = like.shape[1]
        if self._map is None:
            self._map = self._mapped(dim)
        return torch.from_numpy(vectors @ self._map).to(like.device, like.dtype)

    def _mapped(self, dim: int) -> NDArray[np.float32]:
        """Return the map to the student's space, shape (dim of the encoder, dim)."""
        own = self._documents.shape[1]
        if own == dim:
            return np.eye(dim, dtype=np.float32)
        if own < dim:
            raise UsageError(
                f"an encoder to align to must have as many dimensions as the student, {dim}, or "
                f"more; it has {own}; take a larger one"
            )
        _, vectors = np.linalg.eigh(self._documents.T @ self._documents)
        return np.ascontiguousarray(vectors[:, ::-1][:, :dim], dtype=np.float32)
