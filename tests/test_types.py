"""Queries, expansions and runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.errors import DataError
from limbeck.types import Expansion, Query, Run, as_queries

_CORPUS = Corpus.from_documents({"_id": f"d{n}", "text": str(n)} for n in range(9))
_HITS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]),
    st.dictionaries(st.sampled_from(_CORPUS.doc_ids), st.sampled_from([0.0, 0.5, 1.0, -2.0])),
)


def _run(hits) -> Run:
    return Run.from_hits(
        {query: list(ranking.items()) for query, ranking in hits.items()},
        kind="bm25",
        corpus=_CORPUS,
    )


def test_a_query_without_expansion_is_itself():
    query = Query("1", "a b")
    assert query.weighted_texts() == [("a b", 1.0)]


def test_term_weights_are_those_of_the_joined_string():
    # LameR: q a1 q a2; q counts twice.
    query = Query("1", "q").expanded(Expansion(("a1", "a2"), term_weight=2, vector_weight=0.5))
    assert query.weighted_texts() == [("q", 2.0), ("a1", 1.0), ("a2", 1.0)]


def test_a_text_searched_as_it_stands_leaves_the_query_out():
    query = Query("1", "q").expanded(Expansion(("whole",), term_weight=0, vector_weight=0))
    assert query.weighted_texts() == [("whole", 1.0)]


def test_two_expansions_stand_beside_each_other():
    query = (
        Query("1", "q")
        .expanded(Expansion(("a",), term_weight=5, joined=True))
        .expanded(Expansion(("b", "c"), term_weight=2, vector_weight=0.5))
    )
    assert query.weighted_texts() == [("q", 7.0), ("a", 1.0), ("b", 1.0), ("c", 1.0)]


def test_feedback_terms_do_not_bring_the_query_to_a_vector_retriever():
    query = Query("1", "q").expanded(Expansion(terms=(("stem", 0.5),), term_weight=0))
    assert query.weighted_texts() == []
    assert query.weighted_terms() == [("stem", 0.5)]


@pytest.mark.parametrize("field", [{"vector_weight": 1.5}, {"term_weight": -1}])
def test_impossible_weights_are_refused(field):
    with pytest.raises(DataError):
        Expansion(("a",), **field)


def test_strings_become_queries_with_numbers():
    assert [q.query_id for q in as_queries(["a", "b"])] == ["1", "2"]
    assert as_queries("a")[0].text == "a"
    assert as_queries([]) == ()


def test_a_query_id_may_stand_once():
    with pytest.raises(DataError, match="'x' twice"):
        as_queries([Query("x", "a"), Query("y", "b"), Query("x", "c")])


@given(_HITS)
def test_a_run_is_sorted_by_score_then_doc_id_descending(hits):
    run = _run(hits)
    for query_id, ranking in run.items():
        wanted = sorted(hits[query_id].items(), key=lambda h: (h[1], h[0]), reverse=True)
        assert [tuple(hit) for hit in ranking] == wanted


@given(_HITS, st.integers(1, 5), st.integers(1, 5))
def test_a_cut_of_a_cut_is_the_narrower_cut(hits, m, k):
    run = _run(hits)
    twice, once = run.top(m).top(k), run.top(min(m, k))
    assert np.array_equal(twice.rows, once.rows)
    assert np.array_equal(twice.bounds, once.bounds)
    assert all(len(ranking) <= k for _, ranking in twice.items())


def test_unknown_and_repeated_documents_are_refused():
    with pytest.raises(DataError, match="'zz'"):
        Run.from_hits({"q": [("zz", 1.0)]}, kind="bm25", corpus=_CORPUS)
    with pytest.raises(DataError, match="twice"):
        Run.from_hits({"q": [("d1", 1.0), ("d1", 2.0)]}, kind="bm25", corpus=_CORPUS)


def test_nan_scores_are_refused():
    with pytest.raises(DataError, match="NaN"):
        Run.from_hits({"q": [("d1", float("nan"))]}, kind="bm25", corpus=_CORPUS)


def test_hits_are_found_by_position_from_either_end_and_by_id():
    run = Run.from_hits({"q": [("d1", 1.0)], "r": [("d2", 2.0)]}, kind="x", corpus=_CORPUS)
    assert run.hits(-1) == run.hits(1) == run.hits("r") == [("d2", 2.0)]
    for missing in (2, -3):
        with pytest.raises(DataError, match=f"from 0 to 1 in a run of 2; got {missing}; .* from 0"):
            run.hits(missing)
    with pytest.raises(DataError, match=r"named by its id; got 's'; this run holds \['q', 'r'\]"):
        run.hits("s")


def test_the_second_of_one_query_is_told_that_positions_count_from_0():
    """That "a run of 1 queries must hold 1" said neither what was wrong nor what to do."""
    run = Run.from_hits({"1": [("d1", 1.0)]}, kind="x", corpus=_CORPUS)
    with pytest.raises(DataError, match="from 0 to 0 in a run of 1; got 1; positions count from 0"):
        run.hits(1)
    with pytest.raises(DataError, match="asked for 0; this one holds none"):
        _run({}).hits(0)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="bounds"):
        Run(
            ("q",),
            np.zeros(1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.float32),
            "bm25",
            _CORPUS,
        )


def test_a_run_of_no_queries():
    run = _run({})
    assert len(run) == 0
    assert run.top(3) is run
