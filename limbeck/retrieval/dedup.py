"""De-duplication: several passages of one document become one hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.fingerprint import canonical_json
from limbeck.meter import note
from limbeck.pipeline import Reranker
from limbeck.types import Document, Query, Run

__all__ = ["Dedup"]

_SEPARATOR = "#"


@dataclass(frozen=True)
class Dedup(Reranker):
    """The best hit of each document, where hits are passages that are told apart by their ids.

    Which passages are of one document is read from their ids, or from a field of their metadata,
    never from their texts: equal texts may be two documents. A run never holds one doc_id twice
    (`Run.from_hits` refuses it, and `Fuse` merges by id), so there is nothing to do for that.

    Attributes:
        separator: what stands between a document and its passage: "paper7#3" and "paper7#12" are
            passages of "paper7". An id without it, or that begins with it, is a document.
        metadata: the field that holds the document instead. A hit without that field is a document
            of its own, and a note counts them.
    """

    name: ClassVar[str] = "dedup"

    separator: str = field(default=_SEPARATOR, kw_only=True)
    metadata: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.separator or self.metadata == "":
            raise UsageError(
                "separator and metadata of dedup must not be empty; "
                f"got {self.separator!r} and {self.metadata!r}"
            )
        if self.metadata is not None and self.separator != _SEPARATOR:
            raise UsageError(
                "dedup must read ids or metadata; got a separator and a field of metadata; "
                "leave one out"
            )

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:  # noqa: ARG002 - the family's form
        """Return the first hit of each document, with its score."""
        rows, at = np.unique(run.rows, return_inverse=True)
        groups = self._groups(run, rows)[at]
        segment = np.repeat(np.arange(len(run)), np.diff(run.bounds))
        keys = segment * (int(groups.max(initial=0)) + 1) + groups
        kept = np.zeros(len(run.rows), dtype=bool)
        kept[np.unique(keys, return_index=True)[1]] = True
        return run.select(kept)

    def _groups(self, run: Run, rows: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the number of the document that each row is a passage of."""
        numbers: dict[str, int] = {}
        if self.metadata is None:
            named = [self._head(run.corpus.doc_ids[row]) for row in rows.tolist()]
        else:
            named = [self._owner(run.corpus.document(row), self.metadata) for row in rows.tolist()]
        found = [numbers.setdefault(name, len(numbers)) for name in named]
        return np.array(found, dtype=np.int64)

    def _head(self, doc_id: str) -> str:
        return doc_id.partition(self.separator)[0] or doc_id

    def _owner(self, document: Document, metadata: str) -> str:
        """Return a name of the document that a passage is of; no passage has the same one."""
        value = document.metadata.get(metadata)
        if value is None:
            note(f"dedup: hit without the field {metadata!r} counts as a document of its own")
            return f"hit {document.doc_id}"
        return f"owner {canonical_json(value)}"
