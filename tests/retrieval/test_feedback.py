"""Feedback models beside their definitions, computed by hand."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import ir_measures
import numpy as np
import pytest

from limbeck.corpus import Corpus
from limbeck.errors import CheckError, DataError, UsageError
from limbeck.meter import metered
from limbeck.pipeline import Retriever
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.feedback import RM3, Rocchio
from limbeck.types import Documents, Expansion, Query, Run

TEXTS = {
    "a": "zebra zebra zebra lion lion x savannah",
    "b": "zebra savannah grass grass grass",
    "c": "zebra stripes",
    "d": "zebra",
    **{f"e{n:02}": "common filler" for n in range(36)},
}
"""40 documents: a term of more than 4 is too common for feedback."""


def split(text):
    return text.split()


@pytest.fixture(scope="module")
def corpus():
    return Corpus.from_documents({"_id": doc_id, "text": text} for doc_id, text in TEXTS.items())


@pytest.fixture(scope="module")
def bm25(corpus):
    return BM25.index(corpus, analyzer=split)


def _run(corpus, **hits):
    return Run.from_hits(hits, kind="bm25", corpus=corpus)


def _terms(query):
    (expansion,) = query.expansions
    assert expansion.term_weight == 0.0
    assert not expansion.texts
    return dict(expansion.terms)


def _shares(weights):
    return {term: weight / sum(weights.values()) for term, weight in weights.items()}


def _heaviest(weights, n):
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:n])


def _relevance_model(ranking, fb_terms):
    """Sum over documents of score x P(term | its most frequent terms), cut and normalised."""
    model = Counter()
    for doc_id, score in ranking:
        counts = Counter(t for t in split(TEXTS[doc_id]) if len(t) > 1 and t != "common")
        for term, share in _shares(_heaviest(counts, fb_terms)).items():
            model[term] += score * share
    return _shares(_heaviest(model, fb_terms))


@pytest.mark.parametrize("fb_terms", [1, 2, 3, 10])
@pytest.mark.parametrize("fb_docs", [1, 2, 10])
@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9, 1.0])
def test_rm3_is_the_mixture_of_query_and_relevance_model(corpus, bm25, fb_docs, fb_terms, weight):
    ranking = [("a", 4.0), ("b", 3.0), ("c", 0.5)]
    node = RM3(bm25, fb_docs=fb_docs, fb_terms=fb_terms, original_weight=weight)
    (query,) = node([Query("q", "lion lion tail")], _run(corpus, q=ranking))
    expected = Counter({"lion": weight * 2 / 3, "tail": weight / 3})
    for term, share in _relevance_model(ranking[:fb_docs], fb_terms).items():
        expected[term] += (1 - weight) * share
    assert _terms(query) == pytest.approx({t: w for t, w in expected.items() if w})
    assert math.fsum(_terms(query).values()) == pytest.approx(1.0)


def test_terms_that_are_common_short_or_no_words_are_not_taken():
    texts = ["zebra a-b 12 x ʒʒ " + "long" * 6, *["common filler"] * 3, *["other"] * 30]
    corpus = Corpus.from_documents({"_id": f"d{n:02}", "text": t} for n, t in enumerate(texts))
    node = RM3(BM25.index(corpus, analyzer=split), original_weight=0.0)
    run = _run(corpus, q=[("d00", 1.0)], r=[("d01", 1.0)], s=[("d05", 1.0)])
    zebra, common, other = node([Query("q", "w"), Query("r", "w"), Query("s", "w")], run)
    assert set(_terms(zebra)) == {"zebra", "12", "ʒʒ"}
    assert set(_terms(common)) == {"common", "filler"}
    assert _terms(other) == {}


def test_scores_below_0_count_nothing_and_all_alike_where_none_is_above(corpus, bm25):
    node = RM3(bm25, original_weight=0.0)
    (mixed,) = node([Query("q", "w")], _run(corpus, q=[("c", 1.0), ("b", -1.0)]))
    assert set(_terms(mixed)) == {"zebra", "stripes"}
    (low,) = node([Query("q", "w")], _run(corpus, q=[("c", -1.0), ("b", -2.0)]))
    assert _terms(low) == pytest.approx(_relevance_model([("c", 1.0), ("b", 1.0)], 10))


def test_the_query_model_holds_earlier_expansions(corpus, bm25):
    query = Query("q", "lion", (Expansion(texts=("grass grass",), term_weight=2.0),))
    (after,) = RM3(bm25, original_weight=1.0)([query], _run(corpus, q=[("c", 1.0)]))
    assert dict(after.expansions[1].terms) == {"lion": 0.5, "grass": 0.5}


def test_rocchio_over_terms_adds_unit_vectors(corpus, bm25):
    ranking = [("a", 4.0), ("b", 3.0), ("c", 0.1)]
    node = Rocchio(bm25, fb_docs=2, fb_terms=2, alpha=0.8, beta=0.5)
    (query,) = node([Query("q", "lion lion tail")], _run(corpus, q=ranking))
    a = np.array([3, 2, 1, 0]) / math.sqrt(14)  # zebra, lion, savannah, grass; x is too short
    b = np.array([1, 0, 1, 3]) / math.sqrt(11)
    mean = (a + b) / 2
    best = np.argsort(-mean)[:2]
    assert set(best.tolist()) == {0, 3}
    zebra, grass = mean[[0, 3]] / np.linalg.norm(mean[[0, 3]])
    expected = {
        "lion": 0.8 * 2 / math.sqrt(5),
        "tail": 0.8 / math.sqrt(5),
        "zebra": 0.5 * zebra,
        "grass": 0.5 * grass,
    }
    assert _terms(query) == pytest.approx(expected)


@dataclass(frozen=True)
class Vectors(Retriever):
    """A node with vectors: document row r has (r, 1); a query of n letters has (0, n)."""

    name: ClassVar[str] = "vectors"
    documents: Documents | None = None

    @property
    def kind(self):
        return "dot"

    @property
    def corpus(self):
        return self.documents

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        raise NotImplementedError

    def encode(self, queries):
        return np.array([[0.0, len(q.text)] for q in queries], dtype=np.float32)

    def vectors(self, rows):
        return np.stack([rows, np.ones(len(rows))], axis=1).astype(np.float32)


def test_rocchio_over_vectors_keeps_the_length_of_the_query(corpus):
    node = Rocchio(Vectors(documents=corpus), fb_docs=2, alpha=1.0, beta=0.5)
    rows = [corpus.row("a"), corpus.row("c")]
    run = _run(corpus, q=[("a", 3.0), ("c", 2.0), ("b", 1.0)], r=[])
    with metered() as meter:
        moved, kept = node([Query("q", "four"), Query("r", "none")], run)
    direction = np.array([0.5 * np.mean(rows), 4 + 0.5])
    expected = direction / np.linalg.norm(direction) * 4
    assert moved.expansions[0].vector == pytest.approx(expected.tolist())
    assert kept == Query("r", "none")
    assert meter.notes == {"rocchio: no document to learn from, query kept": 1}


def test_a_blank_query_vector_takes_the_length_of_the_mean(corpus):
    node = Rocchio(Vectors(documents=corpus), beta=1.0)
    (moved,) = node([Query("q", "")], _run(corpus, q=[("a", 1.0)]))
    assert moved.expansions[0].vector == (float(corpus.row("a")), 1.0)


@pytest.mark.parametrize("kind", [RM3, Rocchio])
def test_queries_without_hits_are_kept_and_noted(corpus, bm25, kind):
    """Known defect 1."""
    node = kind(bm25)
    assert node([], _run(corpus)) == ()
    with metered() as meter:
        kept, changed = node(
            [Query("q", "unseen"), Query("r", "")], _run(corpus, q=[], r=[("a", 1)])
        )
    assert kept == Query("q", "unseen")
    assert "zebra" in _terms(changed)
    assert list(meter.notes.values()) == [1]


@pytest.mark.parametrize("kind", [RM3, Rocchio])
def test_a_pipeline_finds_what_the_query_alone_does_not(corpus, bm25, kind):
    pipeline = bm25.top(2) >> kind(bm25) >> bm25
    pipeline.check()
    alone = {hit.doc_id for hit in bm25("lion").hits(0)}
    assert alone == {"a"}
    assert {hit.doc_id for hit in pipeline("lion").hits(0)} > alone


@pytest.mark.parametrize("kind", [RM3, Rocchio])
def test_a_result_does_not_depend_on_the_batch(corpus, bm25, kind):
    pipeline = bm25 >> kind(bm25, fb_docs=3) >> bm25
    texts = ["zebra", "grass lion", "unseen", "common zebra"]
    together = pipeline([Query(str(i), text) for i, text in enumerate(texts)])
    for i, text in enumerate(texts):
        alone, where = pipeline([Query("x", text)]), together.segment(i)
        assert alone.rows.tobytes() == together.rows[where].tobytes()
        assert alone.scores.tobytes() == together.scores[where].tobytes()


@pytest.mark.parametrize("kind", [RM3, Rocchio])
def test_a_run_over_another_corpus_is_refused(corpus, bm25, mini_corpus, kind):
    other = BM25.index(mini_corpus)
    with pytest.raises(DataError, match="must read a run over the corpus of its index"):
        kind(bm25)([Query("q", "vectors")], other([Query("q", "vectors")]))
    with pytest.raises(CheckError, match="its index is of"):
        (other >> kind(bm25) >> bm25).check()
    with pytest.raises(CheckError, match="reads a run"):
        (kind(bm25) >> bm25).check()


@pytest.mark.parametrize("kind", [RM3, Rocchio])
def test_binding_reaches_the_index(corpus, kind):
    bound = (BM25() >> kind(BM25()) >> BM25()).bind(corpus)
    assert bound.steps[1].index == bound.steps[0]
    assert len(bound("zebra").rows)


def test_the_fingerprint_changes_with_parameters_and_index(corpus, bm25, mini_corpus):
    """Known defect 11."""
    nodes = [
        RM3(bm25), RM3(BM25.index(mini_corpus)), RM3(bm25, fb_docs=9), RM3(bm25, fb_terms=9),
        RM3(bm25, original_weight=0.4), Rocchio(bm25), Rocchio(bm25, alpha=0.9),
        Rocchio(bm25, beta=0.7),
    ]  # fmt: skip
    assert len({node.fingerprint for node in nodes}) == len(nodes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RM3(BM25(), fb_docs=0), "fb_docs and fb_terms of rm3 must be 1 or more"),
        (lambda: RM3(BM25(), original_weight=1.5), "original_weight must lie in"),
        (lambda: RM3(Vectors()), "index of rm3 must be a node such as bm25; got Vectors"),
        (lambda: Rocchio(BM25(), fb_terms=0), "fb_docs and fb_terms of rocchio"),
        (lambda: Rocchio(BM25(), beta=-1.0), "alpha and beta must be 0 or more"),
        (lambda: Rocchio(RM3(BM25())), "such as bm25 or dense; got RM3"),
    ],
)
def test_parameters_that_cannot_mean_anything_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.collections
def test_feedback_on_cranfield_and_vaswani_helps_as_it_is_known_to(shared):
    """Feedback helps on the classic collections, which are judged deeply."""
    for name in ("cranfield", "vaswani"):
        folder = shared / "data" / "beir" / name
        with open(folder / "qrels" / "test.tsv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        qrels = [ir_measures.Qrel(r["query-id"], r["corpus-id"], int(r["score"])) for r in rows]
        lines = map(json.loads, (folder / "queries.jsonl").read_text("utf-8").splitlines())
        queries = [Query(line["_id"], line["text"]) for line in lines]
        bm25 = BM25.index(Corpus.load(folder))
        found = [
            ir_measures.calc_aggregate(
                [ir_measures.nDCG @ 10],
                qrels,
                [
                    ir_measures.ScoredDoc(q, *hit)
                    for q, hits in node(queries).items()
                    for hit in hits
                ],
            )[ir_measures.nDCG @ 10]
            for node in (bm25, bm25 >> RM3(bm25) >> bm25, bm25 >> Rocchio(bm25) >> bm25)
        ]
        assert found[1] > found[0]
        assert found[2] > found[0]
