"""The dense node: what a query's vector is, the life of its index, and its contracts."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, CheckError, DataError, UsageError
from limbeck.execution import Execution, State
from limbeck.retrieval import dense as module
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.encoders.base import unit
from limbeck.types import Expansion, Input, Query
from tests.retrieval.fake_encoder import FakeEncoder


@pytest.fixture
def encoder(monkeypatch):
    """One fake encoder in place of every model; its similarity follows the node's."""
    fake = FakeEncoder()

    def opened(settings):
        fake.similarity = settings.convention.similarity
        fake.document_fingerprint = f"fake-{fake.similarity}"
        return fake

    monkeypatch.setattr(module, "open_encoder", opened)
    return fake


@pytest.fixture
def dense(encoder, mini_corpus):
    return Dense.index(mini_corpus)


def vector_of(dense, query) -> np.ndarray:
    return dense.encode([query])[0]


def unit1(vector) -> np.ndarray:
    return unit(np.asarray(vector, dtype=np.float32)[None])[0]


# The query's vector


def test_inputs_say_which_side_encodes_them() -> None:
    query = Query("q", "own", (Expansion(("a", "b"), vector_weight=0.5),))
    assert query.weighted_inputs() == [
        Input("own", 0.5, "query"),
        Input("a", 0.25, "document"),
        Input("b", 0.25, "document"),
    ]
    joined = Query("q", "own", (Expansion(("a", "b"), joined=True),))
    assert joined.weighted_inputs("</s>") == [
        Input("own </s> a", 0.5, "query"),
        Input("own </s> b", 0.5, "query"),
    ]
    assert Query("q", "own").weighted_inputs() == [Input("own", 1.0, "query")]


def test_shares_of_several_expansions() -> None:
    """Texts and vectors have equal shares, terms alone have none; all weights sum to 1."""
    query = Query(
        "q",
        "own",
        (
            Expansion(("a",), vector_weight=0.25),
            Expansion(vector=(1.0, 0.0), vector_weight=0.9),
            Expansion(terms=(("term", 1.0),)),
        ),
    )
    assert query.weighted_inputs() == [Input("own", 0.125, "query"), Input("a", 0.375, "document")]
    assert query.weighted_vectors() == [((1.0, 0.0), 0.5)]
    alone = Query("q", "own", (Expansion(vector=(1.0, 0.0)),))
    assert alone.weighted_inputs() == []
    assert alone.weighted_vectors() == [((1.0, 0.0), 1.0)]


def test_the_weighted_mean_of_raw_vectors_by_dot(encoder, mini_corpus) -> None:
    """HyDE: raw vectors, each side by its own half of the encoder; nothing brought to length 1."""
    encoder._side_shift = 5.0
    node = Dense.index(mini_corpus, "fake", similarity="dot")
    query = Query("q", "own words", (Expansion(("one text", "another"), vector_weight=1 / 3),))
    by_hand = (
        (encoder.vector("own words") + np.float32(5.0)).astype(float) / 3
        + encoder.vector("one text").astype(float) / 3
        + encoder.vector("another").astype(float) / 3
    )
    assert np.allclose(vector_of(node, query), by_hand, atol=1e-6)
    assert node.kind == "dot"


def test_by_cosine_the_mean_is_brought_to_length_1(dense, encoder) -> None:
    query = Query("q", "own words", (Expansion(("one text",), vector_weight=0.8),))
    mean = 0.8 * unit1(encoder.vector("own words")) + 0.2 * unit1(encoder.vector("one text"))
    assert np.allclose(vector_of(dense, query), unit1(mean), atol=1e-6)
    assert dense.kind == "cosine"


def test_a_joined_text_is_encoded_with_the_query(dense, encoder) -> None:
    vector = vector_of(dense, Query("q", "own", (Expansion(("a", "b"), joined=True),)))
    assert encoder.seen_queries == ["own [SEP] a", "own [SEP] b"]
    mean = unit1(encoder.vector("own [SEP] a")) + unit1(encoder.vector("own [SEP] b"))
    assert np.allclose(vector, unit1(mean), atol=1e-6)


def test_a_feedback_vector_is_used_as_it_stands(dense, encoder) -> None:
    given = tuple(float(x) for x in range(1, 9))
    alone = Query("q", "own", (Expansion(vector=given, vector_weight=0.5),))
    assert np.allclose(vector_of(dense, alone), unit1(given))
    assert encoder.seen_queries == []
    beside = Query("q", "own", (Expansion(("a",), vector_weight=0.0), Expansion(vector=given)))
    mean = 0.5 * unit1(encoder.vector("a")) + 0.5 * np.array(given)
    assert np.allclose(vector_of(dense, beside), unit1(mean), atol=1e-6)
    with pytest.raises(DataError, match=r"8 dimensions.*'q' has 3"):
        dense([Query("q", "own", (Expansion(vector=(1.0, 2.0, 3.0)),))])


def test_a_query_vector_that_is_not_finite_is_refused(dense) -> None:
    """It would have -inf or NaN with every document, and an order by chance."""
    wrong = Query("q", "rank").expanded(Expansion(vector=(float("nan"),) * 8))
    with pytest.raises(DataError, match="that of query 'q' is not"):
        dense([Query("p", "rank"), wrong])


def test_each_distinct_text_is_encoded_once(dense, encoder) -> None:
    encoder.seen_documents.clear()
    expansion = Expansion(("same", "same", "other"))
    dense([Query(str(n), "own", (expansion,)) for n in range(5)])
    assert encoder.seen_queries == ["own"]
    assert encoder.seen_documents == ["same", "other"]


# Retrieval


def test_hits_equal_a_naive_ranking(dense, encoder, mini_corpus) -> None:
    run = dense([Query("q", "a dense retriever compares vectors")])
    query = unit1(encoder.vector("a dense retriever compares vectors")).astype(float)
    scores = {
        row: float(np.float32(unit1(encoder.vector(document.contents)).astype(float) @ query))
        for row, document in enumerate(mini_corpus.documents())
        if document.contents
    }
    best = sorted(scores, key=lambda row: (-scores[row], row))
    assert run.rows.tolist() == best
    assert run.scores.tolist() == pytest.approx([scores[row] for row in best], abs=1e-6)
    assert (run.kind, run.corpus) == ("cosine", mini_corpus)


def test_equal_documents_are_ranked_by_the_tie_rule(dense) -> None:
    """c1 and c2 hold the same words; doc_id descending, as in trec_eval (known defect 18)."""
    words = "Fusion Reciprocal rank fusion adds one over sixty plus the rank."
    first, second = dense(words).hits(0)[:2]
    assert (first.doc_id, second.doc_id) == ("c2", "c1")
    assert first.score == second.score
    assert [hit.doc_id for hit in dense.top(1)(words).hits(0)] == ["c2"]


def test_blank_documents_are_never_hits(dense, encoder, mini_corpus) -> None:
    """They are not encoded either; d3 is the blank one."""
    run = dense(["anything", "vectors"])
    assert len(run.hits(0)) == len(run.hits(1)) == len(mini_corpus) - 1
    assert mini_corpus.row("d3") not in run.rows
    assert "" not in encoder.seen_documents
    assert dense.vectors(np.array([mini_corpus.row("d3")])).tolist() == [[0.0] * 8]


def test_a_corpus_of_blank_documents_has_no_hits(encoder) -> None:
    node = Dense.index(Corpus.from_documents([{"_id": "a", "text": " "}]))
    assert node("x").hits(0) == []


def test_blank_queries_have_no_hits_and_disturb_nobody(dense) -> None:
    """Known defect 1."""
    run = dense([Query("a", ""), Query("b", "vectors"), Query("c", " \n")])
    assert np.diff(run.bounds).tolist() == [0, 11, 0]
    alone = dense([Query("b", "vectors")])
    assert np.array_equal(run.rows, alone.rows)
    assert dense([]).query_ids == ()
    assert dense(["", " "]).rows.tolist() == []


def test_blank_texts_take_no_part(dense) -> None:
    blank = Query("q", "own", (Expansion(("", "text", " "), vector_weight=0.5),))
    assert np.allclose(
        vector_of(dense, blank),
        vector_of(dense, Query("q", "own", (Expansion(("text",), vector_weight=0.75),))),
        atol=1e-6,
    )
    kept = Query("q", "", (Expansion(("text",), vector_weight=0.5),))
    alone = Query("q", "own", (Expansion(("text",), vector_weight=0.0),))
    assert np.array_equal(vector_of(dense, kept), vector_of(dense, alone))
    assert dense([Query("q", "own", (Expansion(("",), vector_weight=0.0),))]).hits(0) == []


@pytest.mark.parametrize("layout", ["flat", "hnsw"])
def test_a_result_does_not_depend_on_the_batch(encoder, layout) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in range(40)]
    corpus = Corpus.from_documents(
        {"_id": f"d{n}", "text": " ".join(rng.choice(words, size=6))} for n in range(300)
    )
    node = Dense.index(corpus, layout=layout, k=7, ef_search=10)
    queries = [
        Query(
            f"q{n}",
            " ".join(rng.choice(words, size=2)),
            (Expansion(("w1 w2",)),) if n % 3 else (),
            tuple(f"d{i}" for i in range(n)),
        )
        for n in range(30)
    ]
    whole = node(queries)
    order = rng.permutation(30).tolist()
    shuffled = node([queries[i] for i in order])
    for place, i in enumerate(order):
        assert shuffled.hits(place) == whole.hits(i) == node([queries[i]]).hits(0)
        assert len(whole.hits(i)) == 7
        assert not {h.doc_id for h in whole.hits(i)} & set(queries[i].excluded)


def test_top_is_a_cut(dense) -> None:
    queries = ["vectors", "a cache keeps what was computed"]
    for k in (1, 3, 11, 50):
        cut, whole = dense.top(k)(queries), dense(queries).top(k)
        assert np.array_equal(cut.rows, whole.rows)
        assert np.array_equal(cut.scores, whole.scores)


def test_vectors_and_encode_are_in_one_space(dense, mini_corpus) -> None:
    """What Rocchio needs: a document's own vector as the query finds it first, at cosine 1."""
    rows = np.array([mini_corpus.row("d1"), mini_corpus.row("a3")])
    vectors = dense.vectors(rows)
    assert vectors.dtype == np.float32
    for row, vector in zip(rows.tolist(), vectors, strict=True):
        query = Query("q", "x", (Expansion(vector=tuple(vector.tolist())),))
        run = dense([query])
        assert run.rows[0] == row
        assert run.scores[0] == pytest.approx(1.0, abs=1e-6)


# The life of an index


def test_unbound_is_a_usage_error(encoder) -> None:
    for call in (lambda n: n("x"), lambda n: n.encode([]), lambda n: n.vectors(np.array([0]))):
        with pytest.raises(UsageError, match=r"Dense.index\(corpus\), .load\(path\) or .bind"):
            call(Dense())


def test_bind_builds_once_in_the_cache(encoder, mini_corpus) -> None:
    first = Dense().bind(mini_corpus)
    n_encoded = len(encoder.seen_documents)
    second = Dense().bind(mini_corpus)
    assert len(encoder.seen_documents) == n_encoded == 10
    assert first.fingerprint == second.fingerprint
    assert first.bind(Corpus.from_documents([{"_id": "z", "text": "z"}])) is first


def test_a_damaged_index_in_the_cache_is_built_again(encoder, mini_corpus, monkeypatch) -> None:
    from limbeck.artifact import cache_folder

    before = Dense().bind(mini_corpus)("vectors").hits(0)
    (folder,) = (p for p in cache_folder("indexes").iterdir() if p.is_dir())
    (folder / "vectors.npy").write_bytes(b"short")
    n_encoded = len(encoder.seen_documents)
    assert Dense().bind(mini_corpus)("vectors").hits(0) == before
    assert len(encoder.seen_documents) == n_encoded


def test_saved_and_loaded(encoder, mini_corpus, tmp_path) -> None:
    built = Dense.index(
        mini_corpus, "fake", path=tmp_path / "index", query_prefix="q: ", layout="hnsw"
    )
    loaded = Dense.load(tmp_path / "index", corpus=mini_corpus, k=1000)
    assert loaded.query_prefix == "q: "
    assert loaded.fingerprint == built.fingerprint
    assert loaded("vectors").hits(0) == built("vectors").hits(0)
    bare = Dense.load(tmp_path / "index", k=2)
    assert bare("vectors").hits(0) == built("vectors").hits(0)[:2]
    assert bare.corpus is not None
    assert bare.corpus.doc_ids == list(mini_corpus.doc_ids)
    again = Dense(encoder="fake", query_prefix="q: ", layout="hnsw", path=tmp_path / "index")
    assert again.bind(mini_corpus).fingerprint == built.fingerprint


def test_a_truncated_index_is_refused(encoder, mini_corpus, tmp_path) -> None:
    Dense.index(mini_corpus, path=tmp_path / "index")
    file = tmp_path / "index" / "vectors.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ArtifactError, match="truncated"):
        Dense.load(tmp_path / "index")
    with pytest.raises(CheckError, match="truncated"):
        Dense(path=tmp_path / "index").check()


def test_another_corpus_or_model_is_refused(encoder, mini_corpus, tmp_path) -> None:
    """A wrong fingerprint is an error that names both sides."""
    Dense.index(mini_corpus, path=tmp_path / "index")
    other = Corpus.from_documents([{"_id": "z", "text": "z"}])
    with pytest.raises(ArtifactError) as caught:
        Dense(path=tmp_path / "index").bind(other)
    assert other.fingerprint in str(caught.value)
    assert mini_corpus.fingerprint in str(caught.value)
    with pytest.raises(ArtifactError, match=r"encoder='fake-dot'.*encoder='fake-cosine'"):
        Dense(path=tmp_path / "index", similarity="dot").bind(mini_corpus)


def test_the_fingerprint_tells_all_that_changes_a_result(encoder, mini_corpus) -> None:
    """Known defect 11."""
    base = Dense().bind(mini_corpus)
    more = Corpus.from_documents([*mini_corpus.documents(), {"_id": "z", "text": "z"}])
    others = [
        Dense(),
        Dense().bind(more),
        Dense(k=5).bind(mini_corpus),
        Dense(query_prefix="q").bind(mini_corpus),
        Dense(ef_search=7).bind(mini_corpus),
        Dense(similarity="dot").bind(mini_corpus),
    ]
    prints = {node.fingerprint for node in (base, *others)}
    encoder.fingerprint = "another model"
    prints.add(Dense().bind(mini_corpus).fingerprint)
    assert len(prints) == len(others) + 2


def test_what_is_open_is_not_compared(encoder, mini_corpus) -> None:
    assert Dense(k=5) == Dense(k=5)
    assert Dense(k=5) != Dense(k=6)
    assert Dense().bind(mini_corpus) == Dense().bind(mini_corpus)
    assert "opened" not in repr(Dense())


def test_the_kind_is_known_before_anything_is_loaded() -> None:
    assert Dense().kind == "cosine"
    assert Dense("facebook/contriever").kind == "dot"
    assert Dense("facebook/dpr-ctx_encoder-single-nq-base").kind == "dot"
    assert Dense("facebook/contriever", similarity="cosine").kind == "cosine"


@pytest.mark.parametrize(
    "wrong",
    [
        {"layout": "tree"},
        {"ef_search": 0},
        {"ef_construction": -1},
        {"k": 0},
        {"pooling": "max"},
        {"similarity": "l2"},
        {"max_tokens": 1},
        {"encoder": ""},
    ],
)
def test_parameters_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError):
        Dense(**wrong)


def test_the_account_of_a_call(dense) -> None:
    execution = Execution()
    dense.advance(State.start(["vectors"]), execution)
    assert [step.node for step in execution.steps] == ["dense"]


# The real encoder


def test_minilm_from_end_to_end(mini_corpus) -> None:
    try:
        node = Dense.index(mini_corpus)
    except ArtifactError as error:
        pytest.skip(f"MiniLM's files are not here: {error}")
    queries = ["comparing embeddings by dot product", "merging sorted lists", "citation metrics"]
    run = node(queries)
    assert run.hits(0)[0].doc_id == "b3"
    assert run.hits(1)[0].doc_id == "a2"
    for position in range(3):
        assert node([queries[position]]).hits(0) == run.hits(position)
