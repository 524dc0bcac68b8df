"""Small nodes and indexes for tests: no model, no file, every result known by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from limbeck.corpus import Corpus
from limbeck.pipeline import Reranker, Retriever, Rewriter
from limbeck.types import Documents, Expansion, Query, Run

CORPUS = Corpus.from_documents({"_id": f"d{n}", "text": f"text {n}"} for n in range(10))


@dataclass(frozen=True)
class Listed(Retriever):
    """Returns the same hits for every query, whose scores fall from the first; counts its calls."""

    name: ClassVar[str] = "listed"

    doc_ids: tuple[str, ...] = ()
    score_kind: str = "bm25"
    delay_s: float = 0.0
    corpus: Documents = field(default=CORPUS, compare=False)
    calls: list[int] = field(default_factory=list, compare=False)
    spans: list[tuple[float, float]] = field(default_factory=list, compare=False)

    @property
    def kind(self) -> str:
        return self.score_kind

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        started = time.monotonic()
        time.sleep(self.delay_s)
        self.calls.append(len(queries))
        ranking = [(d, float(len(self.doc_ids) - i)) for i, d in enumerate(self.doc_ids)][:k]
        hits = {q.query_id: ranking if q.text.strip() else [] for q in queries}
        self.spans.append((started, time.monotonic()))
        return Run.from_hits(hits, kind=self.kind, corpus=self.corpus)


@dataclass(frozen=True)
class Suffixed(Rewriter):
    """Expands every query by a word."""

    name: ClassVar[str] = "suffixed"

    word: str = "more"
    calls: list[int] = field(default_factory=list, compare=False)

    def expand(self, queries: Sequence[Query], run: Run | None) -> list[Expansion | None]:
        self.calls.append(len(queries))
        return [Expansion((self.word,)) for _ in queries]


@dataclass(frozen=True)
class FirstHit(Rewriter):
    """Expands a query by the id of its first hit; leaves it alone where it has none."""

    name: ClassVar[str] = "first-hit"
    reads_run: ClassVar[bool] = True

    def expand(self, queries: Sequence[Query], run: Run | None) -> list[Expansion | None]:
        assert run is not None
        firsts = [run.hits(position)[:1] for position in range(len(queries))]
        return [Expansion((hits[0].doc_id,)) if hits else None for hits in firsts]


@dataclass(frozen=True)
class Reversed(Reranker):
    """Turns every ranking round."""

    name: ClassVar[str] = "reversed"

    @property
    def kind(self) -> str:
        return "logit"

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        return Run.ranked(
            run.query_ids, run.bounds, run.rows, -run.scores, kind="logit", corpus=run.corpus
        )


class Together:
    """Holds threads until so many have come: work that must overlap in time, or fail."""

    def __init__(self, n: int) -> None:
        self.barrier = threading.Barrier(n)

    def wait(self) -> None:
        self.barrier.wait(timeout=10)


def run_of(hits: dict[str, dict[str, float]], kind: str = "bm25") -> Run:
    """A run over CORPUS from scores by document."""
    ranked = {query: list(ranking.items()) for query, ranking in hits.items()}
    return Run.from_hits(ranked, kind=kind, corpus=CORPUS)


def same(one: Run, other: Run) -> bool:
    """Whether two runs are equal to the bit."""
    return (
        one.query_ids == other.query_ids
        and one.kind == other.kind
        and np.array_equal(one.bounds, other.bounds)
        and np.array_equal(one.rows, other.rows)
        and np.array_equal(one.scores, other.scores)
    )
