"""Codes of vectors beside what is known of quantising a normal variable."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.errors import UsageError
from limbeck.retrieval.codes import decoded, middle, quantise, rotated, width_of

BITS = (1, 2, 4, 8)


def vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("dim", [32, 100, 128, 384])
def test_the_rotation_keeps_inner_products(dim):
    given = vectors(20, dim)
    turned = rotated(given)
    assert turned.shape == (20, -(-dim // 32) * 32)
    assert np.allclose(turned @ turned.T, given @ given.T, atol=1e-5)


def test_the_rotation_spreads_what_stands_in_one_dimension():
    turned = rotated(np.eye(128, dtype=np.float32)[:1])
    assert np.abs(turned).max() < 0.5


@pytest.mark.parametrize("bits", BITS)
def test_a_vector_has_the_same_codes_in_every_batch(bits):
    given = vectors(50, 96)
    whole = quantise(given, bits)
    assert np.array_equal(np.concatenate([quantise(v[None], bits) for v in given]), whole)


@pytest.mark.parametrize(("bits", "error"), [(1, 0.3634), (2, 0.1188), (4, 0.01154)])
def test_the_error_is_that_of_evenly_spaced_levels(bits, error):
    """Max 1960, table II: the mean square error for a normal variable of variance 1.

    The dimensions of a vector whose length is known have lighter tails: a little less is lost.
    """
    given = vectors(400, 384)
    lost = ((decoded(quantise(given, bits), bits) - rotated(given)) ** 2).sum(axis=1)
    assert 0.95 * error < np.mean(lost) < 1.01 * error


def test_eight_bits_lose_next_to_nothing():
    given = vectors(100, 384)
    assert np.abs(decoded(quantise(given, 8), 8) - rotated(given)).max() < 1.5e-3


@pytest.mark.parametrize("bits", BITS)
def test_unit_scales_give_length_one(bits):
    lengths = np.linalg.norm(decoded(quantise(vectors(50, 128), bits, unit=True), bits), axis=1)
    assert np.allclose(lengths, 1.0, atol=1e-3)


@pytest.mark.parametrize("bits", BITS)
def test_codes_lie_where_they_are_said_to(bits):
    given = vectors(3, 64)
    tokens = quantise(given, bits)
    assert tokens.shape == (3, width_of(64, bits))
    assert tokens.flags.c_contiguous
    levels = decoded(tokens, bits)
    n_words = width_of(64, bits) - 1
    for row in range(3):
        scale = np.array([tokens[row, -1]], np.uint32).view(np.float16)[0]
        for d in range(64):
            word = int(tokens[row, (d // 4) % n_words])
            start = 8 * (d % 4) + bits * (d // (4 * n_words))
            code = (word >> start) & ((1 << bits) - 1)
            expected = np.float32(scale) * np.float32(code - middle(bits))
            assert levels[row, d] == expected


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("unit", [False, True])
def test_a_vector_of_noughts_stays_one(unit, bits):
    """At length 1 it would be near some queries, by chance."""
    given = np.concatenate([np.zeros((2, 32), np.float32), vectors(1, 32)])
    made = decoded(quantise(given, bits, unit=unit), bits)
    assert made.any(axis=1).tolist() == [False, False, True]
    assert quantise(np.zeros((0, 32), np.float32), bits).shape == (0, width_of(32, bits))


def test_other_numbers_of_bits_are_refused():
    with pytest.raises(UsageError, match="1, 2, 4 or 8; got 3"):
        width_of(128, 3)
