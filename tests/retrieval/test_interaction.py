"""MaxSim in compiled code beside the formula."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limbeck.retrieval import interaction
from limbeck.retrieval.codes import decoded, quantise, rotated
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.interaction import CodedTokens, FloatTokens, ResidualTokens, lanes_of

LENGTHS = (5, 0, 1, 8, 9, 300, 2, 7, 16, 31)
QUERY_LENGTHS = (1, 7, 8, 16, 20, 32, 33, 60, 90)


def random(n: int, dim: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32))


def packed(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents of all lengths, with tokens of nobody between them."""
    lengths = np.array(LENGTHS)
    ends = np.cumsum(lengths + 3) - 3
    return random(int(ends[-1]) + 3, dim, 1), ends - lengths, ends


def naive(query, rows, starts, ends) -> np.ndarray:
    """The formula; a document without a token has the lowest score there can be."""
    scores = []
    for start, end in zip(starts, ends, strict=True):
        products = query.astype(np.float64) @ rows[start:end].astype(np.float64).T
        scores.append(products.max(axis=1).sum() if end > start else -len(query))
    return np.array(scores)


@pytest.mark.parametrize("n_query", QUERY_LENGTHS)
@pytest.mark.parametrize("dim", [4, 31, 128])
def test_floats_are_the_formula(n_query, dim):
    rows, starts, ends = packed(dim)
    query = random(n_query, dim, 2)
    scores = FloatTokens(rows).scores(query, starts, ends)
    assert scores.dtype == np.float32
    assert np.allclose(scores, naive(query, rows, starts, ends), rtol=0, atol=1e-5)


def test_halves_are_the_formula_of_the_rounded_numbers():
    rows, starts, ends = packed(64)
    rows[5] = 0.0
    rows[6] *= 1e-6  # numbers that float16 holds with few bits
    halves = rows.astype(np.float16)
    query = random(20, 64, 2)
    scores = FloatTokens(halves).scores(query, starts, ends)
    assert np.allclose(scores, naive(query, halves, starts, ends), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("n_query", [3, 24, 40])
def test_codes_are_the_formula_of_what_they_stand_for(bits, n_query):
    """The query is brought to 8 bits too, which moves a cosine by no more than .002 here."""
    rows, starts, ends = packed(96)
    tokens = quantise(rows, bits, unit=True)
    query = random(n_query, 96, 2)
    scores = CodedTokens(tokens, bits).scores(query, starts, ends)
    expected = naive(rotated(query), decoded(tokens, bits), starts, ends)
    assert np.abs(scores - expected).max() < 0.002 * n_query


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_residuals_are_added_to_their_centroid_and_brought_to_length_one(bits):
    rows, starts, ends = packed(64)
    centroids, query = random(10, 64, 3), random(18, 64, 2)
    nearest = (rows @ centroids.T).argmax(axis=1).astype(np.uint16)
    tokens = quantise(rows - centroids[nearest], bits)
    near = rotated(centroids)[nearest] + decoded(tokens, bits)
    factors = (1.0 / np.linalg.norm(near, axis=1)).astype(np.float16)
    tokens[:, -1] |= factors.view(np.uint16).astype(np.uint32) << 16
    products = centroids @ lanes_of(query).T
    scores = ResidualTokens(tokens, bits, nearest).scores(query, products, starts, ends)
    expected = naive(rotated(query), near * factors[:, None].astype(np.float32), starts, ends)
    assert np.abs(scores - expected).max() < 0.002 * len(query)


def test_nothing_stands_in_for_a_token_that_is_not_there():
    """Padding of noughts would beat cosines below 0 (ColBERT's code sets it to -9999)."""
    query = random(5, 32, 0)
    rows = np.repeat(-query.mean(axis=0, keepdims=True), 3, axis=0)
    rows = unit(rows)
    expected = naive(query, rows, [0], [3])
    assert expected < 0
    for tokens in (FloatTokens(rows), CodedTokens(quantise(rows, 8, unit=True), 8)):
        assert tokens.scores(query, np.array([0]), np.array([3])) == pytest.approx(
            expected, abs=0.02
        )


def test_no_query_and_no_documents():
    rows, starts, ends = packed(32)
    none = np.zeros((0, 32), np.float32)
    for tokens in (FloatTokens(rows), CodedTokens(quantise(rows, 2), 2)):
        assert not tokens.scores(none, starts, ends).any()
        assert tokens.scores(random(4, 32, 1), starts[:0], ends[:0]).shape == (0,)


@pytest.mark.parametrize("bits", [None, 2])
def test_a_score_depends_on_query_and_document_alone(bits, monkeypatch):
    rows, starts, ends = packed(64)
    query = random(20, 64, 2)
    tokens = FloatTokens(rows) if bits is None else CodedTokens(quantise(rows, bits), bits)
    whole = tokens.scores(query, starts, ends)
    alone = [tokens.scores(query, starts[i : i + 1], ends[i : i + 1])[0] for i in range(len(ends))]
    assert np.array_equal(whole, alone)
    monkeypatch.setattr(interaction, "_WORTH", 1)  # every document is worth a thread
    assert np.array_equal(tokens.scores(query, starts, ends), whole)


_SCORES = """
import sys
import numpy as np
from limbeck.retrieval import _lanes
from limbeck.retrieval.codes import quantise
from limbeck.retrieval.interaction import CodedTokens, FloatTokens
from tests.retrieval.test_interaction import packed, random
rows, starts, ends = packed(64)
query = random(21, 64, 2)
forms = [FloatTokens(rows), *(CodedTokens(quantise(rows, b, unit=True), b) for b in (1, 2, 4, 8))]
np.save(sys.argv[1], np.stack([form.scores(query, starts, ends) for form in forms]))
print(_lanes.HAS_DOT_BYTES)
"""


def _ran(script: list[str], variables: dict[str, str]) -> str:
    """Return what a script prints."""
    ran = subprocess.run(
        script,
        env=os.environ | variables,
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip()


@pytest.mark.parametrize("processor", ["haswell:+avx,+avx2,+fma,+f16c", "generic:"])
def test_lesser_processors_give_the_same_scores(processor, tmp_path):
    """Without the instruction for bytes, codes are multiplied as floats, which hold them."""
    name, features = processor.split(":")
    script = [sys.executable, "-c", _SCORES]
    lesser = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    lesser["NUMBA_CACHE_DIR"] = str(tmp_path / "compiled")
    assert _ran([*script, str(tmp_path / "own.npy")], {}) in {"True", "False"}
    assert _ran([*script, str(tmp_path / "lesser.npy")], lesser) == "False"
    own, other = np.load(tmp_path / "own.npy"), np.load(tmp_path / "lesser.npy")
    assert np.allclose(own, other, rtol=0, atol=1e-5)
