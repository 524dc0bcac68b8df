"""How good a model is while it is trained: nDCG@10 on a dev split, over a pool or all documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.eval.measures import evaluate
from limbeck.passages import by_document
from limbeck.pipeline import Node
from limbeck.training.examples import Examples
from limbeck.training.networks import Network, PairNetwork
from limbeck.training.recipe import Watch
from limbeck.training.searching import reranked, searched
from limbeck.types import Documents, Qrels, Query, Run

__all__ = ["MEASURE", "Watcher"]

MEASURE = "nDCG@10"
_DEPTH = 100


@dataclass(frozen=True, eq=False)
class Watcher:
    """Dev queries with what is searched for them.

    Attributes:
        queries: of the dev split.
        qrels: theirs, over the documents.
        places: int64; where the queries stand among those that the network reads.
        pool: rows of the corpus that are searched.
        run: the hits of a pipeline, which a cross-encoder reranks; None where there is none.
        examples: the corpus of the rows, and of the documents that the queries are judged over.
    """

    queries: tuple[Query, ...]
    qrels: Qrels
    places: NDArray[np.int64]
    pool: NDArray[np.int64]
    run: Run | None
    examples: Examples

    @staticmethod
    def of(
        examples: Examples, watch: Watch, *, source: Node | None, first: int, seed: int
    ) -> Watcher:
        """Return the watcher of a dev split.

        Args:
            examples: with one.
            watch: how many queries, and how deep a pool.
            source: the pipeline whose hits are the pool.
            first: the place of the first dev query among those that the network reads.
            seed: of the choice of queries.

        Raises:
            DataError: there is no dev split.
        """
        dev = examples.dev
        if dev is None:
            raise DataError("a watch must have a dev split; name one under data, or remove watch")
        chosen = np.arange(len(dev.queries))
        if watch.queries is not None and watch.queries < len(chosen):
            chosen = np.random.default_rng(seed).choice(chosen, watch.queries, replace=False)
            chosen.sort()
        queries = tuple(dev.queries[place] for place in chosen)
        qrels = dev.qrels.restricted(query.query_id for query in queries)
        found = None if source is None or watch.pool is None else source(queries).top(watch.pool)
        pool = np.arange(len(examples.corpus))
        if found is not None:
            pool = np.union1d(found.rows, _judged(qrels, examples)).astype(np.int64)
        return Watcher(queries, qrels, first + chosen, pool, found, examples)

    def score(self, network: Network) -> float:
        """Return the mean nDCG@10 of a network, over the documents of the pool."""
        ids = [query.query_id for query in self.queries]
        corpus = self.examples.corpus
        if isinstance(network, PairNetwork):
            assert self.run is not None, "a recipe refuses this"
            run = reranked(network, self.places, self.run)
        else:
            run = searched(network, self.places, ids, self.pool, k=self._depth, corpus=corpus)
        if self.examples.documents is not None:
            run = by_document(run, self.examples.documents, _judged_over(self.examples))
        run = run.without_excluded(self.queries)
        return float(evaluate(run, self.qrels, (MEASURE,)).of(MEASURE).mean())

    @property
    def _depth(self) -> int:
        """Hits of a query, so many that documents are left where all hits are passages of few."""
        documents = self.examples.documents
        return _DEPTH if documents is None else _DEPTH * int(np.bincount(documents).max())


def _judged_over(examples: Examples) -> Documents:
    assert examples.dev is not None
    return examples.dev.corpus


def _judged(qrels: Qrels, examples: Examples) -> NDArray[np.int64]:
    """Return the rows of what is judged; of documents that are cut, of all their passages."""
    corpus = _judged_over(examples)
    ids = {doc_id for grades in qrels.judgements.values() for doc_id in grades}
    judged = np.array(sorted({row for row in map(corpus.row, ids) if row is not None}), np.int64)
    if examples.documents is None:
        return judged
    return np.flatnonzero(np.isin(examples.documents, judged))
