from __future__ import annotations

import dataclasses

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.artifact import Artifact, write_artifact
from limbeck.errors import ArtifactError, DataError
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.vectors import Nearest, VectorIndex, chosen_layout


def made(vectors, *, layout="flat", rows=None):
    vectors = np.asarray(vectors, dtype=np.float32)
    rows = np.arange(len(vectors)) if rows is None else rows
    return VectorIndex.from_arrays(
        VectorIndex.arrays(vectors, np.asarray(rows, dtype=np.int32), layout)
    )


def normal(n, dim=16, *, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def naive(vectors, query, k):
    """All scores in float64, rounded once; sorted in plain Python by (-score, row)."""
    scores = [np.float32(float(np.dot(v.astype(float), query.astype(float)))) for v in vectors]
    return sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k], scores


def hits(nearest: Nearest, position: int):
    where = slice(int(nearest.bounds[position]), int(nearest.bounds[position + 1]))
    return nearest.rows[where].tolist(), nearest.scores[where].tolist()


def same(one: Nearest, other: Nearest) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_equals_a_naive_search() -> None:
    vectors, queries = normal(500), normal(20, seed=1)
    found = made(vectors).search(queries, 30)
    for position, query in enumerate(queries):
        rows, scores = naive(vectors, query, 30)
        got_rows, got_scores = hits(found, position)
        assert got_rows == rows
        assert got_scores == pytest.approx([scores[row] for row in rows], rel=1e-6)
        assert got_scores == sorted(got_scores, reverse=True)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 60),
    st.integers(1, 3),
    st.integers(0, 10_000),
)
def test_ties_take_the_lower_row_and_k_is_exact(n, k, values, seed) -> None:
    """Vectors on a small grid, so that most scores are tied."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-values, values + 1, size=(n, 3)).astype(np.float32)
    query = rng.integers(-values, values + 1, size=(1, 3)).astype(np.float32)
    rows, _ = hits(made(vectors).search(query, k), 0)
    assert rows == naive(vectors, query[0], k)[0]
    assert len(rows) == min(n, k)


def test_duplicated_vectors_at_the_cut_are_searched_to_the_bottom() -> None:
    """3,000 copies: far more than the candidates asked for at first; the lowest rows win."""
    vectors = np.vstack([normal(50) * 0.01, np.tile(normal(1, seed=3), (3000, 1)), normal(50)])
    query = vectors[60:61]
    rows, _ = hits(made(vectors).search(query, 100), 0)
    assert rows == naive(vectors, query[0], 100)[0]
    shuffled = np.random.default_rng(0).permutation(len(vectors))
    rows, _ = hits(made(vectors[shuffled]).search(query, 100), 0)
    assert rows == naive(vectors[shuffled], query[0], 100)[0]


def test_nearly_tied_vectors_are_ordered_by_the_exact_score() -> None:
    """Scores that differ by less than faiss's rounding, around the cut."""
    base = unit(normal(1, 384, seed=5))[0]
    steps = np.random.default_rng(1).permutation(2000)
    vectors = np.tile(base, (2000, 1))
    vectors[:, 0] += (steps * 1e-9).astype(np.float32)
    rows, _ = hits(made(vectors).search(base[None], 200), 0)
    scores = (vectors.astype(float) * base.astype(float)).sum(axis=1).astype(np.float32)
    assert rows == sorted(range(2000), key=lambda row: (-scores[row], row))[:200]


@pytest.mark.parametrize("layout", ["flat", "hnsw"])
def test_bits_do_not_depend_on_batch_or_threads(layout) -> None:
    """Known defect 17: chunked exact search gives one answer."""
    vectors, queries = unit(normal(2000, 48)), unit(normal(70, 48, seed=2))
    index = made(vectors, layout=layout)
    whole = index.search(queries, 25)
    n_threads = faiss.omp_get_max_threads()
    try:
        for threads in (1, 2, 3):
            faiss.omp_set_num_threads(threads)
            assert same(index.search(queries, 25), whole)
    finally:
        faiss.omp_set_num_threads(n_threads)
    for size in (1, 7, 33):
        for start in range(0, len(queries), size):
            part = index.search(queries[start : start + size], 25)
            for i in range(len(part.bounds) - 1):
                assert hits(part, i) == hits(whole, start + i)
    backwards = index.search(queries[::-1], 25)
    assert hits(backwards, 0) == hits(whole, len(queries) - 1)


def test_results_do_not_depend_on_how_many_queries_fit_into_memory(monkeypatch) -> None:
    vectors, queries = normal(400), normal(30, seed=2)
    whole = made(vectors).search(queries, 10)
    monkeypatch.setattr("limbeck.retrieval.vectors._MOST_CANDIDATES", 200)
    monkeypatch.setattr("limbeck.retrieval.vectors._BLOCK", 7)
    assert same(made(vectors).search(queries, 10), whole)


def test_a_deeper_search_begins_with_the_shallower_one() -> None:
    vectors, queries = np.round(normal(600, 8), 1), np.round(normal(12, 8, seed=2), 1)
    index = made(vectors)
    deep, shallow = index.search(queries, 90), index.search(queries, 40)
    for position in range(12):
        assert hits(deep, position)[0][:40] == hits(shallow, position)[0]


def test_rows_are_those_of_the_corpus() -> None:
    index = made([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], rows=[2, 5, 9])
    rows, scores = hits(index.search(np.array([[1.0, 0.25]], np.float32), 3), 0)
    assert rows == [9, 2, 5]
    assert scores == [1.25, 1.0, 0.25]
    assert index.take(np.array([5, 2, 3, 11])).tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("layout", ["flat", "hnsw"])
def test_no_vectors_and_no_queries(layout) -> None:
    empty = made(np.zeros((0, 4)), layout=layout).search(normal(3, 4), 5)
    assert empty.bounds.tolist() == [0, 0, 0, 0]
    none = made(normal(9, 4), layout=layout).search(np.zeros((0, 4), np.float32), 5)
    assert none.bounds.tolist() == [0]
    assert none.rows.dtype == np.int32
    assert none.scores.dtype == np.float32


@pytest.mark.parametrize("lengths", ["equal", "unequal"])
def test_hnsw_finds_nearly_all_by_cosine_and_by_inner_product(lengths) -> None:
    """Unequal lengths: the order by inner product, which a plain L2 graph would not give."""
    vectors, queries = unit(normal(3000, 24)), normal(40, 24, seed=4)
    if lengths == "unequal":
        vectors *= np.random.default_rng(2).uniform(0.2, 3.0, size=(3000, 1)).astype(np.float32)
    graph, flat = made(vectors, layout="hnsw"), made(vectors)
    found = graph.search(queries, 10, beams=[128] * 40)
    exact = flat.search(queries, 10)
    common = sum(len(set(hits(found, i)[0]) & set(hits(exact, i)[0])) for i in range(len(queries)))
    assert common >= 0.97 * 400
    for i in range(len(queries)):
        of_row = dict(zip(*hits(flat.search(queries[i : i + 1], 3000), 0), strict=True))
        for row, score in zip(*hits(found, i), strict=True):
            assert score == of_row[row]


def test_hnsw_beams_are_each_querys_own() -> None:
    vectors, queries = unit(normal(3000, 24)), unit(normal(10, 24, seed=4))
    index = made(vectors, layout="hnsw")
    mixed = index.search(queries, 10, beams=[16, 200] * 5)
    for i, beam in enumerate([16, 200] * 5):
        assert hits(index.search(queries[i : i + 1], 10, beams=[beam]), 0) == hits(mixed, i)


def test_a_graph_is_the_same_whenever_it_is_built() -> None:
    vectors = normal(1500, 12)
    rows = np.arange(1500, dtype=np.int32)
    one = VectorIndex.arrays(vectors, rows, "hnsw")["graph"]
    assert np.array_equal(one, VectorIndex.arrays(vectors, rows, "hnsw")["graph"])


def test_auto_is_flat_up_to_a_hundred_thousand() -> None:
    assert chosen_layout("auto", 100_000) == "flat"
    assert chosen_layout("auto", 100_001) == "hnsw"
    assert chosen_layout("flat", 10**9) == "flat"
    assert "graph" not in VectorIndex.arrays(normal(10), np.arange(10, dtype=np.int32), "auto")


@pytest.mark.parametrize("layout", ["flat", "hnsw"])
@pytest.mark.parametrize("n", [0, 300])
def test_saved_and_memory_mapped(tmp_path, layout, n) -> None:
    vectors = normal(n)
    arrays = VectorIndex.arrays(vectors, np.arange(n, dtype=np.int32), layout)
    write_artifact(tmp_path / "index", kind="v", version=1, parameters={}, arrays=arrays)
    artifact = Artifact.load(tmp_path / "index", kind="v", version=1)
    loaded = VectorIndex.from_arrays({name: artifact.array(name) for name in arrays})
    assert not loaded.vectors.flags.writeable
    queries = normal(5, seed=9)
    assert same(loaded.search(queries, 20), VectorIndex.from_arrays(arrays).search(queries, 20))


def test_a_truncated_index_is_refused(tmp_path) -> None:
    arrays = VectorIndex.arrays(normal(300), np.arange(300, dtype=np.int32), "hnsw")
    write_artifact(tmp_path / "index", kind="v", version=1, parameters={}, arrays=arrays)
    for name in ("vectors", "graph"):
        file = tmp_path / "index" / f"{name}.npy"
        whole = file.read_bytes()
        file.write_bytes(whole[:-9])
        with pytest.raises(ArtifactError, match="truncated"):
            Artifact.load(tmp_path / "index", kind="v", version=1)
        file.write_bytes(whole)


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = VectorIndex.arrays(normal(30), np.arange(30, dtype=np.int32), "hnsw")
    with pytest.raises(ArtifactError, match="n rows"):
        VectorIndex.from_arrays({**arrays, "rows": np.arange(29, dtype=np.int32)})
    for rows in (np.arange(30)[::-1], np.arange(30) - 1, np.arange(30) // 2):
        with pytest.raises(ArtifactError, match="rows that rise"):
            VectorIndex.from_arrays({**arrays, "rows": rows.astype(np.int32)})
    with pytest.raises(ArtifactError, match="rows that rise"):
        VectorIndex.from_arrays({**arrays, "rows": np.arange(30)})
    with pytest.raises(ArtifactError, match="graph"):
        VectorIndex.from_arrays({**arrays, "graph": arrays["graph"][:50]})


def test_queries_that_do_not_fit_are_refused() -> None:
    index = made(normal(30))
    with pytest.raises(DataError, match="shape"):
        index.search(normal(2, 15), 5)
    with pytest.raises(DataError, match="finite"):
        index.search(np.full((1, 16), np.nan, np.float32), 5)


def test_the_margin_covers_what_faiss_may_be_off() -> None:
    """With faiss's scores disturbed by as much as the bound allows, the result stays exact."""
    vectors, queries = normal(800, 32), normal(8, 32, seed=3)
    index = made(vectors)
    whole = index.search(queries, 50)
    real = VectorIndex._proposed
    rng = np.random.default_rng(0)

    class Disturbed(VectorIndex):
        def _proposed(self, queries, part, depth):
            n = len(self.rows)
            for position, found, _ in real(self, queries, part, n):
                off = self._margin(queries[position]) / 1.2
                scores = self.vectors[found] @ queries[position]
                scores = scores + rng.uniform(-off, off, size=n)
                order = np.argsort(-scores)[:depth]
                yield position, found[order], float(scores[order[-1]])

    disturbed = Disturbed(**{f.name: getattr(index, f.name) for f in dataclasses.fields(index)})
    assert same(disturbed.search(queries, 50), whole)
