"""Token pooling: Ward's clusters, and their means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.retrieval._pooling_kernels import ward
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.tokens import TokenVectors
from limbeck.retrieval.pooling import pooled


def vectors_of(n: int, dim: int = 16, seed: int = 0):
    return unit(np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32))


def clusters_of(labels) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 60), seed=st.integers(0, 99), share=st.floats(0.0, 1.0))
def test_clusters_are_those_of_scipy(n, seed, share) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    vectors = vectors_of(n, seed=seed).astype(np.float64)
    n_clusters = 1 + int(share * (n - 1))
    distances = ((vectors[:, None] - vectors) ** 2).sum(axis=2)
    found = ward(distances, n_clusters)
    assert sorted(set(found.tolist())) == list(range(n_clusters))
    if n > 1:
        tree = hierarchy.linkage(vectors, "ward")
        expected = hierarchy.fcluster(tree, n_clusters, "maxclust")
        assert clusters_of(found) == clusters_of(expected)


def test_a_pooled_vector_is_the_mean_of_its_cluster_at_length_1() -> None:
    pairs = np.repeat(vectors_of(4), 2, axis=0) + 0.01 * vectors_of(8, seed=1)
    tokens = TokenVectors.of([unit(pairs)], 16)
    made = pooled(tokens, 2)
    means = unit(unit(pairs).reshape(4, 2, 16).mean(axis=1))
    np.testing.assert_allclose(made.vectors, means, atol=1e-6)


def test_each_document_is_pooled_by_itself() -> None:
    texts = [vectors_of(n, seed=n) for n in (5, 0, 1, 12)]
    made = pooled(TokenVectors.of(texts, 16), 3)
    assert np.diff(made.bounds).tolist() == [2, 0, 1, 4]
    alone = pooled(TokenVectors.of([texts[3]], 16), 3)
    np.testing.assert_array_equal(made.of_text(3), alone.vectors)
    np.testing.assert_allclose(np.linalg.norm(made.vectors, axis=1), 1.0, atol=1e-6)


def test_a_factor_of_1_changes_nothing() -> None:
    tokens = TokenVectors.of([vectors_of(5)], 16)
    assert pooled(tokens, 1) is tokens
