"""A corpus with texts behind it that are no documents: read and scored like them, never found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from limbeck.corpus import Corpus, document_digest
from limbeck.errors import DataError
from limbeck.fingerprint import digest
from limbeck.types import Document

__all__ = ["Extended"]


class Extended:
    """The documents of a corpus in their rows, and more texts in the rows behind them.

    Retrievers and their indexes are given the corpus, which knows nothing of the others.
    """

    def __init__(self, corpus: Corpus, more: Sequence[Document]) -> None:
        """Put texts behind a corpus.

        Raises:
            DataError: an id stands twice, or is that of a document.
        """
        self.corpus = corpus
        self.more = tuple(more)
        self._n = len(corpus)
        self._rows = {text.doc_id: self._n + place for place, text in enumerate(self.more)}
        taken = [text.doc_id for text in self.more if corpus.row(text.doc_id) is not None]
        if taken or len(self._rows) < len(self.more):
            raise DataError(
                "texts behind a corpus must have ids of their own; got one twice, such as "
                f"{(taken or [self.more[0].doc_id])[0]!r}"
            )

    @cached_property
    def doc_ids(self) -> Sequence[str]:
        """The id of each row."""
        return (*self.corpus.doc_ids, *self._rows)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all ids and contents; that of the corpus where nothing stands behind it."""
        if not self.more:
            return self.corpus.fingerprint
        told = (part for text in self.more for part in (text.doc_id, document_digest(text)))
        return digest(self.corpus.fingerprint, *told)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._n + len(self.more)

    def document(self, row: int) -> Document:
        """Return what stands at a row."""
        return self.corpus.document(row) if row < self._n else self.more[row - self._n]

    def row(self, doc_id: str) -> int | None:
        """Return the row of an id, None where there is none."""
        found = self.corpus.row(doc_id)
        return self._rows.get(doc_id) if found is None else found

    def digest(self, row: int) -> str:
        """Return the digest of what stands at a row."""
        return (
            self.corpus.digest(row) if row < self._n else document_digest(self.more[row - self._n])
        )
