"""Token pooling: fewer vectors for a document, each the mean of tokens that are alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.tokens import TokenVectors

__all__ = ["pooled"]


def pooled(tokens: TokenVectors, factor: int) -> TokenVectors:
    """Return token vectors with one vector, of length 1, for each cluster of a document's tokens.

    A document of n tokens keeps ceil(n / factor) vectors. Clusters are made by Ward's method:
    those two are joined, again and again, whose joining adds least to the sum of squared distances
    from the means.

    Paper: Clavié, Chaffin and Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal
    Performance Impact via Token Pooling", 2024. We differ: distances are those of the vectors (the
    released code clusters the rows of the matrix of cosines), and the first token may be joined.

    Args:
        tokens: of some documents.
        factor: 1 leaves the tokens as they are.
    """
    if factor == 1 or not len(tokens.vectors):
        return tokens
    made = [_means(tokens.of_text(text), factor) for text in range(len(tokens.bounds) - 1)]
    return TokenVectors.of(made, tokens.vectors.shape[1])


def _means(vectors: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    from limbeck.retrieval._pooling_kernels import ward

    n_kept = -(-len(vectors) // factor)
    if n_kept == len(vectors):
        return vectors
    exact = vectors.astype(np.float64)
    squared = (exact * exact).sum(axis=1)
    distances = squared[:, None] + squared - 2.0 * exact @ exact.T
    clusters = ward(distances, n_kept)
    sums = np.zeros((n_kept, vectors.shape[1]))
    np.add.at(sums, clusters, exact)
    return unit(sums.astype(np.float32))
