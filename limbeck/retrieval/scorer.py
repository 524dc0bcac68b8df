"""What rerankers share that score each hit by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.pipeline import Reranker
from limbeck.types import Query, Run

__all__ = ["Scorer"]


@dataclass(frozen=True)
class Scorer(Reranker):
    """A reranker that gives each hit a score of its own. Implement `scores` and `kind`.

    Attributes:
        depth: hits read of each query; deeper ones are dropped, so that all scores are of one kind.
    """

    rehearsed: ClassVar[bool] = True

    depth: int = field(default=100, kw_only=True)

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise UsageError(f"depth of {self.name} must be 1 or more; got {self.depth}")

    @property
    def origin(self) -> str:
        """Digest of all that shapes a score, a model's weights included; it may fetch them."""
        return self.fingerprint

    @abstractmethod
    def scores(self, queries: Sequence[Query], run: Run) -> NDArray[np.float32]:
        """Return the score of each hit of a run, shape (n_hits,)."""

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        """Return the first `depth` hits of each query in the order of their scores."""
        read = run.top(self.depth)
        return Run.ranked(
            read.query_ids,
            read.bounds,
            read.rows,
            self.scores(queries, read),
            kind=self.kind or run.kind,
            corpus=read.corpus,
        )
