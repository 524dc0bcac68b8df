"""A model is watched on dev queries: over all documents, a pool, passages, a pipeline's hits."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.errors import DataError
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.dense import Dense
from limbeck.training import watching
from limbeck.training.examples import Examples
from limbeck.training.networks import Computing, network
from limbeck.training.recipe import Watch
from limbeck.training.students import CrossEncoderStudent, DenseStudent
from limbeck.training.watching import Watcher

pytestmark = pytest.mark.torch

MEASURE = "nDCG@10"


@pytest.fixture(scope="module")
def examples(folder):
    return Examples.load(folder, dev="dev")


@pytest.fixture(scope="module")
def saved(base, tmp_path_factory):
    """A dense model as sentence-transformers saves it."""
    place = tmp_path_factory.mktemp("saved") / "model"
    DenseStudent(base=str(base)).load().save_pretrained(str(place))
    return str(place)


def score(student, examples, watch, source=None):
    held = network(student.load(), Computing(), frozen=True)
    watcher = Watcher.of(examples, watch, source=source, first=len(examples.queries), seed=3)
    asked = [*examples.queries, *examples.dev.queries]
    held.read(examples.corpus, asked, separator=student.between)
    return watcher, watcher.score(held)


def test_the_whole_corpus_gives_the_score_of_a_pipeline_with_the_model(examples, folder, saved):
    _, found = score(DenseStudent(base=saved), examples, Watch(every=1))
    dev = Dataset.load(folder, "dev")
    run = Dense(encoder=saved, k=100).bind(dev.corpus)(dev.queries)
    wanted = evaluate(run, dev.qrels, (MEASURE,)).of(MEASURE).mean()
    assert found == pytest.approx(wanted, abs=1e-6)


def test_fewer_queries_are_drawn_once(examples, base):
    watcher, first = score(DenseStudent(base=str(base)), examples, Watch(every=1, queries=7))
    again, second = score(DenseStudent(base=str(base)), examples, Watch(every=1, queries=7))
    assert len(watcher.queries) == 7
    assert [q.query_id for q in watcher.queries] == [q.query_id for q in again.queries]
    assert first == second


def test_a_pool_holds_first_hits_and_all_that_is_judged(examples, base):
    source = BM25(k=20).bind(examples.corpus)
    watch = Watch(every=1, queries=3, pool=2)
    watcher, _ = score(DenseStudent(base=str(base)), examples, watch, source)
    judged = {
        examples.corpus.row(doc_id)
        for query in watcher.queries
        for doc_id in watcher.qrels.judgements[query.query_id]
    }
    assert set(watcher.pool.tolist()) == judged | set(source.top(2)(watcher.queries).rows.tolist())
    assert len(watcher.pool) < len(examples.corpus)


def test_passages_count_as_their_documents(examples, saved):
    cut = examples.cut(3)
    assert len(cut.corpus) > len(examples.corpus)
    _, found = score(DenseStudent(base=saved), cut, Watch(every=1))
    whole = Dense(encoder=saved, k=100).bind(cut.corpus)(cut.dev.queries)
    best = [dict[str, float]() for _ in cut.dev.queries]
    for place, scores in enumerate(best):
        where = whole.segment(place)
        for row, value in zip(whole.rows[where], whole.scores[where], strict=True):
            doc_id = cut.dev.corpus.document(int(cut.documents[row])).doc_id
            scores[doc_id] = max(scores.get(doc_id, -np.inf), float(value))
    gains = []
    for query, scores in zip(cut.dev.queries, best, strict=True):
        graded = cut.dev.qrels.judgements[query.query_id]
        ranked = sorted(scores, key=lambda doc_id: -scores[doc_id])[:10]
        gain = sum((graded.get(d, 0) > 0) / np.log2(n + 2) for n, d in enumerate(ranked))
        gains.append(gain / sum(1 / np.log2(n + 2) for n in range(min(10, len(graded)))))
    assert found == pytest.approx(np.mean(gains), abs=1e-6)


def test_documents_of_many_passages_leave_room_for_others(examples, saved, monkeypatch):
    """The first hits were all passages of a few documents."""
    cut = examples.cut(1)
    student = DenseStudent(base=saved)
    _, wanted = score(student, cut, Watch(every=1))
    monkeypatch.setattr(watching, "_DEPTH", 20)
    _, found = score(student, cut, Watch(every=1))
    assert found == wanted


def test_a_cross_encoder_reranks_the_hits_of_the_pipeline(examples, base):
    source = BM25(k=20).bind(examples.corpus)
    watcher, found = score(
        CrossEncoderStudent(base=str(base)), examples, Watch(every=1, pool=5), source
    )
    assert watcher.run is not None
    assert np.diff(watcher.run.bounds).max() == 5
    assert 0.0 < found < 1.0


def test_what_is_watched_is_not_trained_on(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "qrels/dev.tsv").write_bytes((folder / "qrels/train.tsv").read_bytes())
    with pytest.raises(DataError, match="split 'train' and split 'dev' share 48 queries"):
        Examples.load(other, dev="dev")


def test_there_must_be_a_dev_split(examples):
    without = dataclasses.replace(examples, dev=None)
    with pytest.raises(DataError, match="must have a dev split; name one under data"):
        Watcher.of(without, Watch(every=1), source=None, first=0, seed=0)
