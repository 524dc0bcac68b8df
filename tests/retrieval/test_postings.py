"""The inverted index beside sums by hand: exact best k, ties, threads, damage."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.artifact import Artifact, write_artifact
from limbeck.errors import ArtifactError, DataError, UsageError
from limbeck.retrieval import postings as module
from limbeck.retrieval.postings import Bags, Postings, Vocabulary

TERMS = [f"t{n}" for n in range(12)]


def _postings(documents):
    """Documents as {term: value}."""
    vocabulary = Vocabulary.of(sorted(TERMS))
    bounds = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    numbers = vocabulary.find([term for document in documents for term in document])
    values = np.array([v for document in documents for v in document.values()], dtype=np.float32)
    return Postings.invert(vocabulary, bounds, numbers, values)


def _naive(documents, query, k):
    """Every document that holds a term with a weight, by score and then row."""
    hits = []
    for row, document in enumerate(documents):
        shared = sorted(t for t in query if t in document and query[t])
        if shared:
            total = sum(query[t] * float(np.float32(document[t])) for t in shared)
            hits.append((-np.float32(total), row))
    return [(row, -score) for score, row in sorted(hits)[:k]]


def _found(hits, position):
    where = slice(hits.bounds[position], hits.bounds[position + 1])
    return list(zip(hits.rows[where].tolist(), hits.scores[where], strict=True))


values = st.sampled_from([-1.5, -0.25, 0.0, 0.25, 0.5, 1.0, 3.0])
documents_ = st.lists(
    st.dictionaries(st.sampled_from(TERMS), values, max_size=6), min_size=1, max_size=150
)
queries_ = st.lists(
    st.dictionaries(st.sampled_from([*TERMS, "unknown"]), values, max_size=8), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(documents_, queries_, st.integers(1, 60))
def test_the_best_are_those_of_a_full_sort(documents, queries, k):
    hits = _postings(documents).top(queries, k)
    assert [_found(hits, i) for i in range(len(queries))] == [
        _naive(documents, q, k) for q in queries
    ]


@settings(max_examples=50, deadline=None)
@given(documents_, queries_, st.integers(1, 40), st.integers(1, 40))
def test_a_smaller_k_is_a_prefix(documents, queries, k, m):
    index = _postings(documents)
    small, large = sorted((k, m))
    wide, narrow = index.top(queries, large), index.top(queries, small)
    for i in range(len(queries)):
        assert _found(narrow, i) == _found(wide, i)[:small]


@pytest.mark.parametrize("k", [1, 7, 10, 100, 1000, 5000])
@pytest.mark.parametrize("share", [0.002, 0.1, 0.9])
def test_large_random_indexes_agree_with_numpy(k, share):
    """Dense and sparse queries, more documents than any block or room, ties in plenty."""
    rng = np.random.default_rng(7)
    n_docs = 3000
    matrix = np.where(
        rng.random((n_docs, 12)) < share, rng.integers(1, 4, (n_docs, 12)) / 4, 0.0
    ).astype(np.float32)
    documents = [{t: v for t, v in zip(TERMS, row, strict=True) if v} for row in matrix.tolist()]
    weights = np.array([1.0, 0.5, 2.0, 0, 0, 0, 0, 0, 1.0, 0, 0, 0])
    totals = (matrix.astype(np.float64) @ weights).astype(np.float32)
    touched = np.flatnonzero((matrix[:, weights > 0] > 0).any(axis=1))
    expected = touched[np.lexsort((touched, -totals[touched]))][:k]
    hits = _postings(documents).top([dict(zip(TERMS, weights.tolist(), strict=True))], k)
    assert hits.rows.tolist() == expected.tolist()
    assert hits.scores.tolist() == totals[expected].tolist()


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 50])
def test_threads_change_no_bit(threads):
    rng = np.random.default_rng(3)
    documents = [
        {t: float(v) for t, v in zip(TERMS, rng.normal(size=12), strict=True) if v > 0.3}
        for _ in range(500)
    ]
    queries = [
        {t: float(w) for t, w in zip(TERMS, rng.normal(size=12), strict=True)} for _ in range(20)
    ]
    index = _postings(documents)
    alone = index.top(queries, 30, threads=1)
    for one, other in zip(alone, index.top(queries, 30, threads=threads), strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_forked_process_has_threads_of_its_own():
    code = """
import os
from limbeck.retrieval.postings import Bags, Postings
import numpy as np
bags = Bags.of([["a"], ["a", "b"]])
index = Postings.invert(bags.vocabulary, bags.bounds, bags.terms, bags.counts.astype("f4"))
before = index.top([{"a": 1.0}] * 4, 2, threads=4)
child = os.fork()
if not child:
    after = index.top([{"a": 1.0}] * 4, 2, threads=4)
    os._exit(0 if after.rows.tolist() == before.rows.tolist() else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_order_of_terms_and_of_the_batch_changes_no_bit():
    rng = np.random.default_rng(5)
    documents = [dict(zip(TERMS, rng.random(12).tolist(), strict=True)) for _ in range(50)]
    weights = dict(zip(TERMS, rng.random(12).tolist(), strict=True))
    index = _postings(documents)
    forward = index.top([weights], 50)
    backward = index.top([{}, dict(reversed(weights.items())), {"t1": 1.0}], 50)
    assert _found(backward, 1) == _found(forward, 0)


def test_nothing_in_gives_nothing_out():
    index = _postings([{"t1": 1.0}, {}])
    for queries in ([], [{}], [{"unknown": 1.0}], [{"t1": 0.0}], [{"t2": 1.0}]):
        hits = index.top(queries, 5)
        assert hits.bounds.tolist() == [0] * (len(queries) + 1)
        assert (hits.bounds.dtype, hits.rows.dtype, hits.scores.dtype) == (
            np.int64,
            np.int32,
            np.float32,
        )


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused(weight):
    with pytest.raises(DataError, match="must be finite"):
        _postings([{"t1": 1.0}]).top([{"t1": weight}], 5)


words_ = st.text(alphabet="abé日\ud800😀", max_size=4)


@settings(deadline=None)
@given(st.sets(words_), st.lists(words_))
def test_terms_are_found_by_their_number(terms, asked):
    vocabulary = Vocabulary.of(sorted(terms))
    assert [vocabulary[n] for n in range(len(vocabulary))] == sorted(terms)
    numbers = {term: n for n, term in enumerate(sorted(terms))}
    assert vocabulary.find(asked).tolist() == [numbers.get(term, -1) for term in asked]


def test_the_memory_of_found_terms_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 3)
    vocabulary = Vocabulary.of(["a", "b", "c", "d"])
    for asked in (["a", "b"], ["b", "c", "a"], ["d", "x", "a"], ["a"]):
        expected = ["abcd".find(term) for term in asked]
        assert vocabulary.find(asked).tolist() == expected
        assert len(vocabulary._found) <= 3


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=8), max_size=8))
def test_bags_count_the_terms_of_each_document(documents):
    bags = Bags.of(documents)
    assert len(bags) == len(documents)
    assert bags.lengths().tolist() == list(map(len, documents))
    for i, document in enumerate(documents):
        piece = slice(bags.bounds[i], bags.bounds[i + 1])
        names = [bags.vocabulary[n] for n in bags.terms[piece]]
        counts = dict(zip(names, bags.counts[piece].tolist(), strict=True))
        assert counts == {term: document.count(term) for term in document}
        assert len(names) == len(counts)


def test_bags_of_some_documents_keep_their_order():
    bags = Bags.of([["a"], ["b", "b"], [], ["c", "a"]]).take([3, 1, 2])
    assert bags.lengths().tolist() == [2, 2, 0]
    assert sorted(bags.vocabulary[n] for n in bags.terms[:2]) == ["a", "c"]
    assert len(bags.take([])) == 0


def test_counts_above_255_are_kept():
    bags = Bags.of([["a"] * 70_000, ["a"]])
    assert bags.counts.tolist() == [70_000, 1]


def test_a_term_that_is_no_string_is_refused():
    with pytest.raises(UsageError, match="must return a list of strings; it returned 3"):
        Bags.of([["a", 3]])


@pytest.fixture
def saved(tmp_path):
    bags = Bags.of([["a", "b"], ["b", "c", "b"], []])
    index = Postings.invert(
        bags.vocabulary, bags.bounds, bags.terms, bags.counts.astype(np.float32)
    )
    arrays = {**index.arrays(), **bags.arrays()}
    write_artifact(tmp_path / "x", kind="test", version=1, parameters={}, arrays=arrays)
    return tmp_path / "x", arrays, index


def _opened(path):
    artifact = Artifact.load(path, kind="test", version=1)
    bags = Bags.load(artifact)
    return Postings.load(artifact, n_docs=len(bags)), bags


def test_what_was_saved_comes_back_memory_mapped(saved):
    path, _, index = saved
    loaded, bags = _opened(path)
    for one, other in zip(loaded.top([{"b": 1.0}], 3), index.top([{"b": 1.0}], 3), strict=True):
        assert one.tolist() == other.tolist()
    assert bags.lengths().tolist() == [2, 3, 0]
    assert isinstance(loaded.rows.base, np.memmap)
    assert not loaded.rows.flags.writeable


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("posting_bounds", lambda a: a[:-1]),
        ("posting_bounds", lambda a: a[::-1].copy()),
        ("posting_bounds", lambda a: a + 1),
        ("posting_rows", lambda a: a[:-1]),
        ("posting_values", lambda a: a[:-1]),
        ("vocabulary_bounds", lambda a: a[:-1]),
        ("vocabulary", lambda a: a[:-1]),
        ("bag_bounds", lambda a: a[:0]),
        ("bag_counts", lambda a: a[:-1]),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(saved, tmp_path, name, change):
    _, arrays, _ = saved
    damaged = {**arrays, name: change(arrays[name])}
    write_artifact(tmp_path / "y", kind="test", version=1, parameters={}, arrays=damaged)
    with pytest.raises(ArtifactError, match="must fit together"):
        _opened(tmp_path / "y")


@pytest.mark.parametrize("row", [3, -1, 2**31 - 1])
def test_a_row_that_cannot_be_is_an_error_and_no_crash(saved, tmp_path, row):
    _, arrays, _ = saved
    rows = np.full_like(arrays["posting_rows"], row)
    damaged = {**arrays, "posting_rows": rows}
    write_artifact(tmp_path / "y", kind="test", version=1, parameters={}, arrays=damaged)
    with pytest.raises(ArtifactError, match="must name rows below 3"):
        _opened(tmp_path / "y")[0].top([{"b": 1.0}], 3)


def test_a_term_that_cannot_be_is_an_error(saved, tmp_path):
    _, arrays, _ = saved
    damaged = {**arrays, "bag_terms": arrays["bag_terms"] + 3}
    write_artifact(tmp_path / "y", kind="test", version=1, parameters={}, arrays=damaged)
    with pytest.raises(ArtifactError, match="must have terms below 3"):
        _opened(tmp_path / "y")[1].take([0])
