"""Rehearsals: what is paid once is in nobody's seconds, and nothing that costs is asked twice."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from limbeck.agents.hyde import HyDE
from limbeck.corpus import Corpus
from limbeck.errors import LLMError
from limbeck.eval.experiment import Experiment
from limbeck.eval.rehearsal import rehearse
from limbeck.llm.model import LLM
from limbeck.pipeline import Reranker
from limbeck.registry import node_class, node_names
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.fusion import Fuse
from limbeck.types import Query, Run
from tests.eval.fakes import Fails, Spends, Words, dataset

ONCE_S = 0.4


@dataclass(frozen=True)
class Loads(Words):
    """Takes long once, as a model that is loaded does; remembers the batches it was asked."""

    rehearsed: ClassVar[bool] = True

    asked: list[Sequence[Query]] = field(default_factory=list, compare=False)

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        if not self.asked:
            time.sleep(ONCE_S)
        self.asked.append(queries)
        return super().retrieve(queries, k)


@dataclass(frozen=True)
class Reads(Reranker):
    """Passes a run on; remembers how many queries and hits it was given."""

    name: ClassVar[str] = "reads"
    rehearsed: ClassVar[bool] = True

    llm: LLM | None = None
    given: list[tuple[int, int]] = field(default_factory=list, compare=False)

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        self.given.append((len(queries), len(run.rows)))
        return run


def test_what_is_paid_once_is_in_nobodys_seconds(mini_corpus: Corpus) -> None:
    loads = Loads()
    report = Experiment({"a": loads, "b": loads >> Reads()}, [dataset(mini_corpus)]).run()
    for pipeline in report.datasets[0].pipelines:
        assert pipeline.outcome.seconds < ONCE_S / 2
    assert [len(batch) for batch in loads.asked] == [
        2,
        4,
        2,
    ]  # the second pipeline's is a rehearsal


def test_a_node_that_asks_an_llm_is_asked_once(mini_corpus: Corpus) -> None:
    said: list[str] = []
    llm = LLM.scripted(lambda messages, sample: said.append(messages[-1].content) or "index")
    loads, judge, reads = Loads(), Reads(llm), Reads()
    pipeline = HyDE(llm, n=1) >> Spends() >> loads >> judge >> reads
    Experiment({"p": pipeline}, [dataset(mini_corpus)]).run()
    assert len(said) == 4
    assert [len(batch) for batch in loads.asked] == [2, 4]
    assert [n_queries for n_queries, _ in judge.given] == [4]
    assert [n_queries for n_queries, _ in reads.given] == [2, 4]


def test_where_a_rewriter_is_left_out_its_texts_are_stood_in_for(mini_corpus: Corpus) -> None:
    loads, bare = Loads(index=mini_corpus), Loads(index=mini_corpus)
    queries = dataset(mini_corpus).queries
    rehearse(Spends() >> loads, queries)
    rehearse(bare, queries)
    assert [bool(query.expansions) for query in loads.asked[0]] == [False, True]
    assert not any(query.expansions for query in bare.asked[0])


def test_every_branch_is_rehearsed_and_rerankers_read_few_hits(mini_corpus: Corpus) -> None:
    first, second, reads = (
        Loads(index=mini_corpus),
        Loads(weight=2.0, index=mini_corpus),
        Reads(),
    )
    fused = Fuse((first, Spends() >> second), method="linear", normalise="minmax")
    rehearse(fused >> reads, dataset(mini_corpus).queries)
    assert [len(batch) for node in (first, second) for batch in node.asked] == [2, 2]
    ((n_queries, n_hits),) = reads.given
    assert n_queries == 2
    assert 0 < n_hits <= 20


def test_a_failure_is_left_to_the_run_itself(mini_corpus: Corpus) -> None:
    @dataclass(frozen=True)
    class FailsEarly(Fails):
        rehearsed: ClassVar[bool] = True

    with pytest.raises(LLMError):
        (Words(index=mini_corpus) >> FailsEarly())("x")
    rehearse(Loads(index=mini_corpus) >> FailsEarly(), dataset(mini_corpus).queries)


def test_no_queries_and_blank_ones_rehearse_nothing(mini_corpus: Corpus) -> None:
    loads = Loads(index=mini_corpus)
    rehearse(loads, ())
    rehearse(loads, (Query("q", " "),))
    assert not loads.asked


def test_nodes_say_whether_they_may_be_rehearsed() -> None:
    for name in node_names():
        node = node_class(name)
        asks = any(f.name == "llm" for f in dataclasses.fields(node))
        assert not (asks and node.rehearsed), name
    assert BM25.rehearsed
    assert all(node_class(name).rehearsed for name in ("dense", "maxsim", "rm3", "rocchio"))
