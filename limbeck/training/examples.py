"""What a model is trained and watched on: queries with their positives, and a dev split."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.eval.datasets import Dataset, splits
from limbeck.meter import note
from limbeck.passages import documents_of, passages, spans_of
from limbeck.retrieval.bm25 import BM25
from limbeck.training.labels import FROM_SPLIT, Labels
from limbeck.training.leaks import LeakGuard
from limbeck.types import Documents, Qrels, Query

__all__ = ["Examples"]

_LOOKED_AT = 1000
"""Hits among which a relevant document's best passage is looked for."""

_AT_ONCE = 4096
"""Queries whose hits are held at once."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Training queries of one corpus.

    Attributes:
        corpus: what is encoded: documents, or their passages.
        queries: each with one positive at least.
        positives: int64 rows of the corpus, of each query.
        dev: what training is watched on, over the documents; None where nothing is.
        documents: int32, shape (n_passages,); the document that each passage is of, as a number;
            those of one stand together, its last passage first. None where documents are whole.
        labels: what a teacher says of these queries; None where there is no teacher.
    """

    corpus: Documents
    queries: tuple[Query, ...]
    positives: tuple[NDArray[np.int64], ...]
    dev: Dataset | None = None
    documents: NDArray[np.int32] | None = None
    labels: Labels | None = None

    @staticmethod
    def load(
        folder: Path, *, split: str = "train", dev: str | float | None = "dev", seed: int = 0
    ) -> Examples:
        """Return the examples of a BEIR folder.

        Args:
            folder: with corpus, queries and qrels of each split.
            split: that is trained on.
            dev: the split to watch; or the share of the training queries that is held out for it,
                which are then not trained on, nor are others that are like them; None for neither.
            seed: of the choice of that share.

        Raises:
            DataError: a split is missing, or no query has a positive in the corpus.
        """
        _require_split(folder, split)
        whole = Dataset.load(folder, split)
        held_out: set[str] = set()
        watched: Dataset | None = None
        if isinstance(dev, str):
            watched = Dataset.load(folder, dev, corpus=whole.corpus)
            _require_apart(whole.queries, f"split {split!r}", watched)
        elif dev is not None:
            held_out = _chosen([query.query_id for query in whole.queries], dev, seed)
            watched = _part(whole, held_out)
            held_out |= _like(whole.queries, held_out)
        return Examples.of(_part(whole, {q.query_id for q in whole.queries} - held_out), watched)

    @staticmethod
    def of(dataset: Dataset, dev: Dataset | None = None) -> Examples:
        """Return a dataset's queries that have a positive in its corpus.

        Raises:
            DataError: none has.
        """
        found = [(q, _positives(q, dataset.qrels, dataset.corpus)) for q in dataset.queries]
        held = [(query, rows) for query, rows in found if len(rows)]
        if n_without := len(found) - len(held):
            note(
                "a query is not trained on: no document that it asks for is in the corpus",
                n_without,
            )
        if not held:
            raise DataError(
                f"{dataset.name}, split {dataset.split!r}, must have queries with a relevant "
                "document in the corpus to train on; it has none; give another split"
            )
        queries, positives = zip(*held, strict=True)
        return Examples(dataset.corpus, tuple(queries), tuple(positives), dev)

    @staticmethod
    def taught(
        labels: Labels, folder: Path, *, dev: str | float | None = None, seed: int = 0
    ) -> Examples:
        """Return the queries that a teacher labelled.

        Args:
            labels: with the queries and their positives.
            folder: the collection, for the split to watch.
            dev: that split; or the share of the labelled queries that are of a split of the
                collection, which is held out for it.
            seed: of the choice of that share.

        Raises:
            DataError: the split is missing, or shares queries with the labels, or a share is of
                none.
        """
        corpus = labels.texts.corpus
        if dev is None:
            return _of_labels(labels, None)
        if isinstance(dev, str):
            watched = Dataset.load(folder, dev, corpus=corpus)
            _require_apart(labels.queries, "the labels", watched)
            return _of_labels(labels, watched)
        judged = [
            query.query_id
            for query, source in zip(labels.queries, labels.sources, strict=True)
            if source == FROM_SPLIT
        ]
        if not judged:
            raise DataError(
                "dev must be a split, or a share of the labelled queries that are of one; none of "
                "the labelled queries is of a split; name one, or leave dev out"
            )
        held_out = _chosen(judged, dev, seed)
        left_out = held_out | _like(labels.queries, held_out)
        kept = [n for n, query in enumerate(labels.queries) if query.query_id not in left_out]
        return _of_labels(labels.part(kept), _held_out(labels, held_out, folder.name))

    @property
    def texts(self) -> Documents:
        """What is read: the corpus, and behind it dark examples where there are some."""
        return self.corpus if self.labels is None else self.labels.texts

    @cached_property
    def spared(self) -> tuple[NDArray[np.int64], ...]:
        """The rows that are never negatives of each query.

        They are its positives and those of queries with the same text, all other passages of their
        documents, and what it excludes.
        """
        labelled = _of_equal_texts(self.queries, self.positives)
        if self.documents is not None:
            spans = spans_of(self.documents)
            relevant = [np.unique(self.documents[rows]) for rows in labelled]
            labelled = tuple(
                np.concatenate([np.arange(*spans[document]) for document in found])
                for found in relevant
            )
        pairs = zip(self.queries, labelled, strict=True)
        return tuple(
            np.concatenate([rows, _excluded(query, self.corpus)]) if query.excluded else rows
            for query, rows in pairs
        )

    def part(self, places: NDArray[np.int64]) -> Examples:
        """Return the examples of some queries."""
        return dataclasses.replace(
            self,
            queries=tuple(self.queries[place] for place in places),
            positives=tuple(self.positives[place] for place in places),
            labels=None if self.labels is None else self.labels.part(places.tolist()),
        )

    def cut(self, words: int, at_most: int | None = None) -> Examples:
        """Return the examples over passages of so many words, of a document so many at most.

        The positive in a relevant document is the passage that BM25 puts first; the document's
        first one where BM25 finds none among its first thousand hits. What a query excludes is all
        passages of the documents that it excluded.

        Paper: Karpukhin et al., DPR, arXiv 2004.04906, section 4.1, does so where no passage is
        labelled.
        """
        corpus = passages(self.corpus, words, at_most=at_most)
        documents = documents_of(corpus, self.corpus)
        spans = spans_of(documents)
        queries = tuple(_of_passages(q, corpus, self.corpus, spans) for q in self.queries)
        firsts = spans[:, 1] - 1
        search = BM25(k=_LOOKED_AT).bind(corpus)
        positives: list[NDArray[np.int64]] = []
        for start in range(0, len(queries), _AT_ONCE):
            run = search(queries[start : start + _AT_ONCE])
            for query, relevant in enumerate(self.positives[start : start + _AT_ONCE]):
                found = run.rows[run.segment(query)]
                positives.append(_best_passages(found, documents[found], relevant, firsts))
        return Examples(corpus, queries, tuple(positives), self.dev, documents)


def _excluded(query: Query, corpus: Documents) -> NDArray[np.int64]:
    """Return the rows that a query excludes."""
    rows = (corpus.row(doc_id) for doc_id in query.excluded)
    return np.array(sorted(row for row in rows if row is not None), dtype=np.int64)


def _of_passages(
    query: Query, cut: Documents, corpus: Documents, spans: NDArray[np.int64]
) -> Query:
    """Return a query that excludes the passages of what it excluded."""
    rows = [row for document in _excluded(query, corpus) for row in range(*spans[document])]
    return dataclasses.replace(query, excluded=tuple(cut.doc_ids[row] for row in rows))


def _best_passages(
    found: NDArray[np.int32],
    documents: NDArray[np.int32],
    relevant: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return one passage of each relevant document: the first found, else the document's first.

    Args:
        found: passages, best first.
        documents: that they are of.
        relevant: documents.
        firsts: the first passage of each document.
    """
    rows: list[int] = []
    for document in relevant.tolist():
        own = found[documents == document]
        rows.append(int(own[0] if len(own) else firsts[document]))
    return np.array(sorted(rows), dtype=np.int64)


def _positives(query: Query, qrels: Qrels, corpus: Documents) -> NDArray[np.int64]:
    graded = qrels.judgements.get(query.query_id, {})
    rows = (corpus.row(doc_id) for doc_id, grade in graded.items() if grade > 0)
    return np.array(sorted(row for row in rows if row is not None), dtype=np.int64)


def _of_labels(labels: Labels, dev: Dataset | None) -> Examples:
    return Examples(labels.texts.corpus, labels.queries, labels.positives, dev=dev, labels=labels)


def _held_out(labels: Labels, query_ids: set[str], name: str) -> Dataset:
    """Return labelled queries as a split, judged by their positives."""
    ids = labels.texts.doc_ids
    held = [
        (query, {ids[row]: 1 for row in rows.tolist()})
        for query, rows in zip(labels.queries, labels.positives, strict=True)
        if query.query_id in query_ids
    ]
    qrels = Qrels({query.query_id: grades for query, grades in held})
    queries = tuple(query for query, _ in held)
    return Dataset(name, labels.texts.corpus, queries, qrels, split="held out")


def _require_split(folder: Path, split: str) -> None:
    """Refuse a collection with other splits than the one that is trained on."""
    names = splits(folder)
    if names and split not in names:
        raise DataError(
            f"{folder} must have training queries, qrels/{split}.tsv; its splits are "
            f"{', '.join(names)}; name theirs as data.split, which is not the one you test on, or "
            "let `limbeck teach` make some"
        )


def _require_apart(trained: Sequence[Query], what: str, watched: Dataset) -> None:
    """Refuse a dev split that shares queries with what is trained on; note equal texts."""
    texts = {_folded(query) for query in watched.queries}
    if n_equal := sum(_folded(query) in texts for query in trained):
        note(f"query trained on: split {watched.split!r} has one of the same text", n_equal)
    shared = {q.query_id for q in trained} & {q.query_id for q in watched.queries}
    if shared:
        raise DataError(
            f"dev queries must not be trained on; {what} and split {watched.split!r} share "
            f"{len(shared):,} queries, such as {min(shared)!r}; name another split, or a share of "
            "the training queries"
        )


def _chosen(query_ids: list[str], share: float, seed: int) -> set[str]:
    n = round(len(query_ids) * share)
    if not 0 < n < len(query_ids):
        raise DataError(
            f"dev must be a share of the training queries that leaves both some; got {share} of "
            f"{len(query_ids)}"
        )
    chosen = np.random.default_rng(seed).choice(len(query_ids), n, replace=False)
    return {query_ids[place] for place in chosen}


def _like(queries: Sequence[Query], held_out: set[str]) -> set[str]:
    """Return which other queries are like those that are held out; a note counts them."""
    apart = [query for query in queries if query.query_id in held_out]
    others = (query for query in queries if query.query_id not in held_out)
    found = {leak.query.query_id for leak in LeakGuard({"dev": apart}).leaks(others)}
    if found:
        note("a query is not trained on: it is like one that is held out for dev", len(found))
    return found


def _of_equal_texts(
    queries: Sequence[Query], positives: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], ...]:
    """Return the positives of each query and of those with its text, which may have other ids."""
    together: dict[str, list[NDArray[np.int64]]] = defaultdict(list)
    texts = list(map(_folded, queries))
    for text, rows in zip(texts, positives, strict=True):
        together[text].append(rows)
    joined = {text: np.unique(np.concatenate(held)) for text, held in together.items()}
    return tuple(joined[text] for text in texts)


def _folded(query: Query) -> str:
    """Return a text by which equal ones are known."""
    return " ".join(query.text.casefold().split())


def _part(dataset: Dataset, query_ids: set[str]) -> Dataset:
    kept = tuple(query for query in dataset.queries if query.query_id in query_ids)
    return dataclasses.replace(
        dataset, queries=kept, qrels=dataset.qrels.restricted(query.query_id for query in kept)
    )
