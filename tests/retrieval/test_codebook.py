"""Centroids: how many, where, and what a coded vector loses."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.retrieval import threads
from limbeck.retrieval.codebook import Codebook, n_centroids, trained
from limbeck.retrieval.encoders.base import unit


def vectors_of(n: int, dim: int, seed: int = 0):
    return unit(np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32))


@pytest.mark.parametrize(
    ("n_tokens", "expected"),
    [
        (0, 1),
        (199, 1),
        (200, 2),
        (100_000, 512),  # one for each 100 tokens at most
        (1_242_251, 8192),
        (3_000_000, 16384),  # 2^floor(log2(16 sqrt(n))), as PLAID
        (10_000_000, 32768),
        (600_000_000, 65536),  # PLAID: 262,144; here an id has two bytes
    ],
)
def test_the_number_of_centroids(n_tokens, expected) -> None:
    assert n_centroids(n_tokens) == expected


@pytest.mark.parametrize("dim", [32, 48, 128])
@pytest.mark.parametrize("n_tokens", [1, 8, 33])
def test_products_are_those_of_the_coded_centroids(dim, n_tokens) -> None:
    codebook = Codebook.of(vectors_of(77, dim))
    query = vectors_of(n_tokens, dim, seed=1)
    found = codebook.products(query)
    assert found.shape == (77, -(-n_tokens // 8) * 8)
    np.testing.assert_allclose(found[:, :n_tokens], codebook.centroids @ query.T, atol=0.01)
    np.testing.assert_allclose(codebook.centroids, vectors_of(77, dim), atol=0.01)


def test_products_do_not_depend_on_threads(monkeypatch) -> None:
    codebook, query = Codebook.of(vectors_of(999, 64)), vectors_of(20, 64, seed=1)
    one = codebook.products(query)
    monkeypatch.setattr("limbeck.retrieval.codebook.n_threads", lambda _: 3)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 3)
    np.testing.assert_array_equal(codebook.products(query), one)


@pytest.mark.parametrize("n", [1, 31, 100, 9000])
def test_the_nearest_centroid_is_the_nearest(n) -> None:
    codebook, vectors = Codebook.of(vectors_of(50, 64)), vectors_of(n, 64, seed=1)
    products = vectors @ codebook.centroids.T
    cells = codebook.nearest(vectors)
    largest = products.max(axis=1)
    np.testing.assert_allclose(products[np.arange(n), cells], largest, atol=0.01)
    assert (cells == products.argmax(axis=1)).mean() > 0.95


def test_equal_centroids_go_to_the_lower() -> None:
    twins = np.repeat(vectors_of(5, 32), 3, axis=0)
    assert (Codebook.of(twins).nearest(vectors_of(40, 32, seed=1)) % 3 == 0).all()


def test_kmeans_finds_planted_clusters() -> None:
    centres = vectors_of(20, 64)
    random = np.random.default_rng(1)
    members = random.integers(20, size=4000)
    noise = 0.02 * random.standard_normal((4000, 64))
    points = unit((centres[members] + noise).astype(np.float32))
    codebook = trained(points, 40)
    near = codebook.centroids[codebook.nearest(points)]
    assert np.einsum("nd,nd->n", points, near).mean() > 0.97
    np.testing.assert_array_equal(trained(points, 40).codes, codebook.codes)


def test_more_centroids_than_distinct_vectors() -> None:
    codebook = trained(np.repeat(vectors_of(3, 32), 10, axis=0), 8)
    assert len(codebook) == 8
    assert np.isfinite(codebook.centroids).all()


def test_a_vector_that_is_its_centroid_has_no_residual() -> None:
    codebook = Codebook.of(vectors_of(1, 32))
    cells, codes = codebook.coded(np.repeat(codebook.centroids, 2, axis=0), 2)
    assert cells.tolist() == [0, 0]
    scales, factors = np.split(codes[:, -1:].copy().view(np.float16), 2, axis=1)
    np.testing.assert_allclose(scales, 0.0, atol=1e-6)
    np.testing.assert_allclose(factors, 1.0, atol=1e-2)


def test_a_vector_of_noughts_stays_one() -> None:
    """Brought to length 1, what its centroid and its residual leave would be near some queries."""
    book, given = Codebook.of(vectors_of(4, 32)), np.zeros((2, 32), dtype=np.float32)
    given[1] = vectors_of(1, 32, seed=1)
    _, codes = book.coded(given, 1)
    factors = codes[:, -1:].copy().view(np.float16)[:, 1]
    assert factors[0] == 0.0 < factors[1]
