"""Documents cut up: passages of so many words with their runs, and sentences."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.types import Document, Documents, Run

__all__ = ["by_document", "documents_of", "passages", "sentences", "spans_of"]

_MARK = "#"
_DIGITS = 6
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text: what ends with ".", "!" or "?" before white space."""
    return [sentence for sentence in _BETWEEN_SENTENCES.split(text.strip()) if sentence]


def passages(corpus: Documents, words: int, *, at_most: int | None = None) -> Corpus:
    """Return the passages of each document: so many words each, none of them in two.

    Args:
        corpus: of whole documents.
        words: of a passage; the last one of a document may have fewer.
        at_most: passages of a document; what stands behind them is left out. None: all.

    A passage has its document's title and metadata, and the id "DOCUMENT#000003". A document
    without text is one passage. Texts are cut when they are read.

    Paper: Karpukhin et al., DPR, arXiv 2004.04906, section 4.1 (100 words). We differ: the last
    passage of a document is as long as what is left, where theirs goes back to its beginning.

    Raises:
        UsageError: a number is below 1.
        DataError: a document's id has a "#".
    """
    if words < 1:
        raise UsageError(f"a passage must have 1 word or more; got {words}")
    if at_most is not None and at_most < 1:
        raise UsageError(f"a document must have 1 passage or more; got {at_most}")
    return Corpus(_Passages(corpus, words, at_most))


class _Passages:
    """Passages by their position: those of the first document first, in the order of the text."""

    def __init__(self, corpus: Documents, words: int, at_most: int | None) -> None:
        self._corpus = corpus
        self._words = words
        counts = np.zeros(len(corpus), dtype=np.int64)
        for row, doc_id in enumerate(corpus.doc_ids):
            if _MARK in doc_id:
                raise DataError(
                    f"a document that is cut into passages must have no {_MARK!r} in its id; got "
                    f"{doc_id!r}; give it another id, or leave documents whole"
                )
            n_words = len(corpus.document(row).text.split())
            counts[row] = max(1, -(-n_words // words))
        if at_most is not None:
            counts = np.minimum(counts, at_most)
        self._bounds = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def read(self, position: int) -> Document:
        row = int(np.searchsorted(self._bounds, position, side="right")) - 1
        number = position - int(self._bounds[row])
        whole = self._corpus.document(row)
        words = whole.text.split()[number * self._words : (number + 1) * self._words]
        doc_id = f"{whole.doc_id}{_MARK}{number:0{_DIGITS}}"
        return Document(doc_id, " ".join(words), whole.title, whole.metadata)

    def place(self, position: int) -> str:
        return f"passage {position}"


def documents_of(cut: Documents, corpus: Documents) -> NDArray[np.int32]:
    """Return the row of each passage's document, shape (n_passages,).

    Args:
        cut: `passages(corpus, ...)`. The passages of a document stand together, the last one first.
        corpus: of the documents.
    """
    parents = [corpus.row(doc_id.rpartition(_MARK)[0]) for doc_id in cut.doc_ids]
    return np.array(parents, dtype=np.int32)


def spans_of(documents: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return where each document's passages begin and end, shape (n_documents, 2).

    Args:
        documents: what `documents_of` returned.
    """
    starts = np.flatnonzero(np.diff(documents, prepend=-1))
    spans = np.empty((len(starts), 2), dtype=np.int64)
    spans[documents[starts]] = np.stack([starts, [*starts[1:], len(documents)]], axis=1)
    return spans


def by_document(run: Run, documents: NDArray[np.int32], corpus: Documents) -> Run:
    """Return a run of passages as one of documents, each with the score of its best passage.

    Args:
        run: over `passages(corpus, ...)`.
        documents: what `documents_of` returned for them.
        corpus: of the documents.
    """
    rows = documents[run.rows]
    kept = np.zeros(len(rows), dtype=bool)
    for query in range(len(run)):
        where = run.segment(query)
        kept[where.start + np.unique(rows[where], return_index=True)[1]] = True
    best = run.select(kept)
    return Run.ranked(
        best.query_ids, best.bounds, rows[kept], best.scores, kind=best.kind, corpus=corpus
    )
