"""Runs by a network as it now is: for watching it, and for finding negatives anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.retrieval.vectors import VectorIndex
from limbeck.training.encoding import encoded, representations
from limbeck.training.networks import MultiVectorNetwork, Network, Vectors, joined
from limbeck.training.scores import all_scores
from limbeck.types import Documents, Run

__all__ = ["reranked", "searched"]

_MOST_PRODUCTS = 1 << 24
"""Products of a query's token and a document's that are held at once."""

_ALL = (1 << 32) - 1


def searched(
    network: Network,
    queries: NDArray[np.int64],
    query_ids: Sequence[str],
    pool: NDArray[np.int64],
    *,
    k: int,
    corpus: Documents,
) -> Run:
    """Return the best documents of a pool for each query.

    Args:
        network: a dense one, or one with a vector a token.
        queries: which of its queries.
        query_ids: their ids.
        pool: rows of the corpus, rising.
        k: hits of a query at most.
        corpus: of the rows.
    """
    search = _by_tokens if isinstance(network, MultiVectorNetwork) else _by_vectors
    bounds, rows, scores = search(network, queries, pool, min(k, len(pool)))
    kind = "maxsim" if isinstance(network, MultiVectorNetwork) else "dot"
    return Run.ranked(query_ids, bounds, rows, scores, kind=kind, corpus=corpus)


_Found = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


def _by_vectors(
    network: Network, queries: NDArray[np.int64], pool: NDArray[np.int64], k: int
) -> _Found:
    vectors = encoded(network, "document", pool, label="documents encoded")
    arrays = VectorIndex.arrays(vectors, pool.astype(np.int32), "flat")
    asked = encoded(network, "query", queries, label="queries encoded")
    return VectorIndex.from_arrays(arrays).search(asked, k)


def _by_tokens(
    network: Network, queries: NDArray[np.int64], pool: NDArray[np.int64], k: int
) -> _Found:
    parts = list(representations(network, "query", queries, label="queries encoded"))
    asked = joined([made for _, made in parts], [places for places, _ in parts])
    best = torch.empty((len(queries), 0), dtype=torch.int64, device=asked.values.device)
    for places, made in representations(network, "document", pool, label="documents encoded"):
        rows = torch.from_numpy(pool[places]).to(best.device)
        best = torch.cat([best, _keys(_scores(asked, made), rows)], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    scores, found = _of_keys(best)
    bounds = np.arange(len(queries) + 1, dtype=np.int64) * k
    return bounds, found.cpu().numpy().ravel().astype(np.int32), scores.cpu().numpy().ravel()


def _scores(asked: Vectors, made: Vectors) -> Tensor:
    """Return the score of every query with every document, of some queries at a time."""
    of_query = asked.values.shape[1] * made.values.shape[0] * made.values.shape[1]
    n = max(1, _MOST_PRODUCTS // max(1, of_query))
    starts = range(0, len(asked.values), n)
    return torch.cat([all_scores(asked.of(slice(start, start + n)), made) for start in starts])


def _keys(scores: Tensor, rows: Tensor) -> Tensor:
    """Return a number for each score, the higher one the better by the tie rule.

    It holds the bits of the score, which are in its order where those of a negative one are turned
    round, above those of the row, all turned round. -0.0 is 0.0 here, and what is no number stands
    above all, so that it does not go unseen.
    """
    plain = torch.where(scores.isnan(), torch.nan, scores + 0.0)
    return (_in_order(plain.view(torch.int32).long()) << 32) | (rows ^ _ALL)


def _of_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores and the rows of keys."""
    scores = _in_order(keys >> 32).to(torch.int32).view(torch.float32)
    return scores, (keys & _ALL) ^ _ALL


def _in_order(bits: Tensor) -> Tensor:
    """Return the bits of scores as numbers in the order of the scores, and these as bits again."""
    return torch.where(bits < 0, bits ^ (_ALL >> 1), bits)


def reranked(network: Network, queries: NDArray[np.int64], run: Run) -> Run:
    """Return a run in the order of a cross-encoder's scores.

    Args:
        network: a cross-encoder's.
        queries: which of its queries the run is of.
        run: whose rows the network's documents are.
    """
    pairs = np.stack([np.repeat(queries, np.diff(run.bounds)), run.rows], axis=1)
    scores = encoded(network, "pair", pairs.astype(np.int64), label="pairs scored")
    return Run.ranked(
        run.query_ids,
        run.bounds,
        run.rows,
        scores.reshape(-1),
        kind="logit",
        corpus=run.corpus,
    )
