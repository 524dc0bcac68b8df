"""Nodes for the tests of the eval room: a tiny real retriever, and some that fail or spend."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from limbeck.errors import LLMError
from limbeck.eval.datasets import Dataset
from limbeck.meter import Usage, charge, note
from limbeck.pipeline import Reranker, Retriever, Rewriter
from limbeck.types import Expansion, Qrels, Query, Run

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Words(Retriever):
    """Scores a document by how many words of the query it holds; counts its calls in a file."""

    name: ClassVar[str] = "words"

    weight: float = 1.0
    log: Path | None = field(default=None, compare=False)
    index: Any = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        return "count"

    @property
    def corpus(self):
        return self.index

    def bind(self, corpus):
        return self if self.index is not None else dataclasses.replace(self, index=corpus)

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"words {self.weight}\n")
        bags = [set(WORD.findall(d.contents.lower())) for d in self.index.documents()]
        hits = {}
        for query in queries:
            words = set(WORD.findall(query.text.lower()))
            scores = [(doc_id, self.weight * len(words & bag)) for doc_id, bag in self.pairs(bags)]
            hits[query.query_id] = [(doc_id, score) for doc_id, score in scores if score > 0]
        return Run.from_hits(hits, kind="count", corpus=self.index).top(k)

    def pairs(self, bags):
        return zip(self.index.doc_ids, bags, strict=True)


@dataclass(frozen=True)
class Upside(Reranker):
    """Turns each ranking upside down."""

    name: ClassVar[str] = "upside"

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        return Run.ranked(
            run.query_ids, run.bounds, run.rows, -run.scores, kind="upside", corpus=run.corpus
        )


@dataclass(frozen=True)
class Fails(Reranker):
    """Raises a stated error, as a model that cannot be reached does."""

    name: ClassVar[str] = "fails"

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        raise LLMError("the model must answer; it timed out; look at the server")


@dataclass(frozen=True)
class Unranked(Reranker):
    """Breaks the contract: its run is worst first."""

    name: ClassVar[str] = "unranked"

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        return dataclasses.replace(run, scores=-run.scores)


@dataclass(frozen=True)
class Spends(Rewriter):
    """Spends one call a query, of which half come from a cassette, and notes a degradation."""

    name: ClassVar[str] = "spends"

    def expand(self, queries: Sequence[Query], run: Run | None) -> Sequence[Expansion | None]:
        half = len(queries) // 2
        charge(Usage(calls=len(queries) - half, prompt_tokens=50, completion_tokens=7, usd=0.25))
        charge(Usage(saved_calls=half, saved_prompt_tokens=40, saved_usd=0.125))
        note("query kept its text: the LLM answered nothing", 2)
        return [None] * len(queries)


def dataset(corpus, name: str = "tiny", **options) -> Dataset:
    """Return four judged queries over the tiny corpus."""
    queries = [
        Query("q1", "which term maps to documents of the index"),
        Query("q2", "dense retriever vectors"),
        Query("q3", "reciprocal rank fusion"),
        Query("q4", "nothing whatever matches"),
    ]
    qrels = Qrels(
        {
            "q1": {"a1": 2, "a2": 1, "c1": 0},
            "q2": {"b1": 1, "b2": 2},
            "q3": {"c1": 1},
            "q4": {"d2": 1},
        }
    )
    return Dataset.joined(name, corpus, queries, qrels, **options)
