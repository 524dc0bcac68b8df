"""Scores of queries and passages from their representations, with a gradient."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.training.networks import Vectors

__all__ = ["all_scores", "own_scores"]


def all_scores(queries: Vectors, passages: Vectors) -> Tensor:
    """Return the score of every query with every passage, shape (n_queries, n_passages).

    The inner product; where there is a vector for each token, the sum over a query's tokens of the
    highest one among the passage's.

    Paper: Khattab and Zaharia, ColBERT, arXiv 2004.12832, eq. 3.
    """
    if passages.where is None:
        return queries.values @ passages.values.T
    found = torch.einsum("qid,pjd->qpij", queries.values, passages.values)
    highest = found.masked_fill(~passages.where[None, :, None], float("-inf")).amax(dim=3)
    return _summed(highest, queries)


def own_scores(queries: Vectors, passages: Vectors, places: NDArray[np.int64]) -> Tensor:
    """Return the score of each query with its own passages, shape (n_queries, n_own).

    Args:
        queries: one each.
        passages: those of all queries.
        places: which of them are a query's own, shape (n_queries, n_own).
    """
    own = torch.from_numpy(places).to(passages.values.device)
    values = passages.values[own]
    if passages.where is None:
        return torch.einsum("qd,qpd->qp", queries.values, values)
    found = torch.einsum("qid,qpjd->qpij", queries.values, values)
    highest = found.masked_fill(~passages.where[own][:, :, None], float("-inf")).amax(dim=3)
    return _summed(highest, queries)


def _summed(highest: Tensor, queries: Vectors) -> Tensor:
    """Return the sum over the query tokens that count; shapes (n_queries, n_passages, n_tokens)."""
    if queries.where is None:
        return highest.sum(dim=2)
    return highest.masked_fill(~queries.where[:, None], 0.0).sum(dim=2)
