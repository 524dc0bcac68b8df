"""Recorded hits: what another program found, or a judge said, read from a TREC file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import Problem, UsageError
from limbeck.files import content_of, resolved
from limbeck.meter import note
from limbeck.pipeline import Given, Retriever
from limbeck.trec import read_either
from limbeck.types import Documents, Query, Run

__all__ = ["RecordedRun"]


@dataclass(frozen=True)
class RecordedRun(Retriever):
    """The hits that a TREC file has for a query's id; nothing is searched.

    The file is a run, such as another program's, or judgements, whose grades are then the scores:
    those of an LLM teach by it. Packed files end in ".gz". A query that the file does not hold has
    no hits, and notes say how many did not. What a query's text says, and what rewriters added to
    it, changes nothing.

    Attributes:
        path: the file; its content is in the fingerprint, not where it lies.
        kind: the score kind, which the file does not tell; "unknown" scores are fused only when
            they are normalised.
        run: what the file holds, over a corpus; set by `bind`.
    """

    name: ClassVar[str] = "recorded-run"

    path: Path = field(metadata={"place": True})
    kind: str = field(default="unknown", kw_only=True)
    run: Run | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path", resolved(self.path))

    def content(self) -> object:
        """Return the digest of the file."""
        return content_of(self.path)

    @property
    def corpus(self) -> Documents | None:
        """The corpus that it was bound to."""
        return None if self.run is None else self.run.corpus

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine also whether the file is there."""
        if not self.path.is_file():
            message = f"{self.name} reads {self.path}, which is no file"
            problems.append(Problem(place, message, "give its path"))
        return super().examine(given, place, problems)

    def bind(self, corpus: Any) -> Self:
        """Return this node with its file read, over a corpus.

        Raises:
            DataError: a line is malformed, or names a document that the corpus does not hold.
        """
        return dataclasses.replace(self, run=read_either(self.path, corpus, kind=self.kind))

    @cached_property
    def _segments(self) -> dict[str, NDArray[np.int64]]:
        """The places of each query's hits in the run."""
        assert self.run is not None
        bounds = self.run.bounds.tolist()
        held = zip(self.run.query_ids, bounds, bounds[1:], strict=False)
        return {query_id: np.arange(start, end) for query_id, start, end in held}

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        """Return the first k recorded hits of each query.

        Raises:
            UsageError: this node was bound to no corpus.
        """
        if self.run is None:
            raise UsageError(
                f"{self.name} must know the corpus that {self.path} ranks; it was given none; "
                "bind it to one"
            )
        if n_missing := sum(query.query_id not in self._segments for query in queries):
            note(f"{self.name}: query without hits (none recorded in {self.path.name})", n_missing)
        kept = [self._segments.get(query.query_id, np.arange(0))[:k] for query in queries]
        hits = np.concatenate([np.arange(0), *kept])
        return Run(
            tuple(query.query_id for query in queries),
            np.cumsum([0, *map(len, kept)], dtype=np.int64),
            self.run.rows[hits],
            self.run.scores[hits],
            self.kind,
            self.run.corpus,
        )
