"""Composition, static check, execution."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from limbeck.errors import CheckError, DataError, UsageError
from limbeck.execution import Execution, Memo, State
from limbeck.meter import Usage, charge, note
from limbeck.pipeline import Given, Pass, Pipeline, Retriever, Top
from limbeck.retrieval.fusion import Fuse
from limbeck.types import Query
from tests.fakes import CORPUS, FirstHit, Listed, Reversed, Suffixed, Together, run_of, same

ABC = Listed(("d1", "d2", "d3"))
CBA = Listed(("d3", "d2", "d1"), score_kind="dot")


def _ids(run, query=0):
    return [hit.doc_id for hit in run.hits(query)]


def test_composition_is_flat_and_associative():
    steps = (ABC, Suffixed(), Reversed())
    assert (ABC >> Suffixed()) >> Reversed() == ABC >> (Suffixed() >> Reversed())
    assert (ABC >> Suffixed() >> Reversed()).steps == steps


def test_a_list_of_steps_is_a_pipeline():
    """Its nodes were not found among the parameters, and so were never bound."""
    assert Pipeline([Listed(), Top(1)]) == Pipeline((Listed(), Top(1)))
    assert len(list(Pipeline([Listed(), Top(1)]).walk())) == 3


@pytest.mark.parametrize(
    ("compose", "said"),
    [
        (lambda: ABC >> "maxsim", r"behind >> must be a node; got 'maxsim'; write a node, such as"),
        (lambda: ABC >> Reversed, r"got the class Reversed; write Reversed\(\.\.\.\)"),
        (lambda: "bm25" >> ABC, r"before >> must be a node; got 'bm25'"),
        (lambda: Pipeline([ABC, Top]), r"a step of a pipeline must be a node; .* write Top\("),
        (lambda: Fuse([ABC, "x"]), r"a branch of fuse must be a node; got 'x'"),
        (lambda: Fuse(ABC), r"a branch of fuse must stand in a list; .*; write \[a, b\]"),
    ],
)
def test_what_is_no_node_is_refused_with_what_to_write(compose, said):
    """It ended in a bare TypeError, or first when the pipeline ran."""
    with pytest.raises(UsageError, match=said):
        compose()


def test_a_pipeline_runs_its_steps_in_order():
    run = (ABC >> Reversed())(["x", "y"])
    assert [_ids(run, i) for i in (0, 1)] == [["d3", "d2", "d1"]] * 2
    assert run.kind == "logit"


def test_a_rewriter_alone_returns_queries_with_the_users_text_untouched():
    (query,) = Suffixed("more")("the text")
    assert (query.text, query.expansions[0].texts) == ("the text", ("more",))


def test_a_rewriter_that_reads_a_run_gets_the_run_of_the_step_before():
    queries = FirstHit()(["x", ""], run=run_of({"1": {"d4": 1.0, "d5": 2.0}, "2": {}}))
    assert queries[0].expansions[0].texts == ("d5",)
    assert queries[1].expansions == ()  # no hit: the query is left as it is


def test_a_rewriter_before_a_reranker_returns_the_run_though_it_is_unchanged():
    run = run_of({"1": {"d4": 1.0}})
    assert (Suffixed("s") >> Top(1))("x", run=run) is run


@pytest.mark.parametrize("ids", [("2", "1"), ("1",), ("1", "2", "3")])
def test_a_run_of_other_queries_is_refused(ids):
    """The hits of one query would be read for another."""
    run = run_of({query_id: {"d4": 1.0} for query_id in ids})
    with pytest.raises(DataError, match="must hold the queries that it is given with"):
        FirstHit()(["x", "y"], run=run)


def test_no_queries_pass_through_every_node():
    pipeline = Fuse((ABC >> FirstHit() >> ABC, CBA)) >> Reversed() >> Top(2)
    assert len(pipeline([])) == 0


def test_top_asks_the_retriever_for_no_more():
    assert ABC.top(2).k == 2
    assert ABC.top(5).top(2).k == 2
    assert _ids(ABC.top(2)("x")) == ["d1", "d2"]
    assert (Suffixed() >> ABC).top(2).steps[-1].k == 2
    assert _ids((ABC >> Reversed()).top(1)("x")) == ["d3"]
    assert Reversed().top(3).top(2).steps[-1] == Top(2)


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(k):
    with pytest.raises(UsageError, match="k must be 1 or more"):
        Listed(k=k)
    with pytest.raises(UsageError, match="k must be 1 or more"):
        Top(k)


def test_pass_leaves_all_as_it_is_in_the_place_of_any_node():
    run, queries = run_of({"1": {"d4": 1.0, "d2": 0.5}}), (Query("1", "x"),)
    assert Pass()(queries, run=run) is run
    assert Pass()("x") == (Pass() >> Pass())("x") == queries
    assert (Pass() >> Suffixed())("x") == (Suffixed() >> Pass())("x") == Suffixed()("x")
    assert same((Pass() >> ABC >> Pass())("x"), ABC("x"))
    assert same(Fuse((ABC >> Pass(), CBA))("x"), Fuse((ABC, CBA))("x"))
    assert _ids(Pass().top(1)("x", run=run)) == ["d4"]


def test_pass_declares_what_it_was_given_and_takes_no_step():
    for given in (Given(), Given("dot", "c")):
        problems = []
        assert Pass().examine(given, "here", problems) == given
        assert problems == []
    execution = Execution()
    (ABC >> Pass()).advance(State.start("x"), execution)
    assert [step.node for step in execution.steps] == ["listed"]


def test_excluded_documents_are_seen_by_no_stage_and_cost_no_hits():
    @dataclass(frozen=True)
    class Seen(FirstHit):
        name: ClassVar[str] = "seen"
        seen: list = field(default_factory=list, compare=False)

        def expand(self, queries, run):
            self.seen.append(_ids(run))
            return super().expand(queries, run)

    seen = Seen()
    query = Query("q", "x", excluded=("d1", "nowhere"))
    run = (ABC.top(2) >> seen >> ABC)([query, Query("r", "y")])
    assert seen.seen == [["d2", "d3"]]
    assert _ids(run, "q") == ["d2", "d3"]
    assert _ids(run, "r") == ["d1", "d2", "d3"]


def test_fingerprints_tell_parameters_versions_and_order_apart():
    @dataclass(frozen=True)
    class Newer(Suffixed):
        version: ClassVar[int] = 2

    nodes = [
        ABC,
        ABC.top(2),
        Suffixed("a"),
        Suffixed("b"),
        Newer("a"),
        ABC >> Suffixed("a"),
        Suffixed("a") >> ABC,
        Fuse((ABC, CBA)),
        Fuse((CBA, ABC)),
        Fuse((ABC, CBA), constant=1),
    ]
    assert len({node.fingerprint for node in nodes}) == len(nodes)
    assert (ABC >> Suffixed("a")).fingerprint == (ABC >> Suffixed("a")).fingerprint


# The static check.


def test_a_sound_pipeline_has_no_problems():
    (ABC >> FirstHit() >> ABC >> Reversed() >> Top(3)).check()


@pytest.mark.parametrize(
    ("pipeline", "place", "said"),
    [
        (FirstHit() >> ABC, "pipeline[0]", "reads a run, and no node before it makes one"),
        (Suffixed() >> Reversed(), "pipeline[1]", "reversed reads a run"),
        (Fuse((ABC, Suffixed())), "pipeline.of[1]", "a branch must end in a run"),
        (Fuse((ABC, CBA), method="linear"), "pipeline", "no common scale"),
        (
            Suffixed() >> Fuse((ABC, FirstHit() >> CBA)),
            "pipeline[1].of[1][0]",
            "first-hit reads a run",
        ),
    ],
)
def test_the_check_names_the_place_and_the_mend(pipeline, place, said):
    with pytest.raises(CheckError) as raised:
        pipeline.check()
    (problem,) = raised.value.problems
    assert problem.place == place
    assert said in problem.message
    assert problem.mend


def test_the_check_finds_all_and_runs_nothing():
    counted = Listed(("d1",))
    with pytest.raises(CheckError) as raised:
        (FirstHit() >> Fuse((counted, Suffixed()))).check()
    assert len(raised.value.problems) == 2
    assert counted.calls == []


def test_branches_over_two_corpora_are_refused_before_and_while_running():
    from limbeck.corpus import Corpus

    other = Corpus.from_documents([{"_id": "d1", "text": "other"}])
    fusion = Fuse((ABC, Listed(("d1",), corpus=other)))
    with pytest.raises(CheckError, match="must search one corpus") as raised:
        fusion.check()
    assert CORPUS.fingerprint in str(raised.value)
    assert other.fingerprint in str(raised.value)
    with pytest.raises(DataError, match="over one corpus"):
        fusion("x")


def test_running_what_the_check_would_refuse_is_a_clear_error():
    with pytest.raises(UsageError, match="first-hit reads a run"):
        FirstHit()("x")
    with pytest.raises(UsageError, match="must end in a run"):
        Fuse((ABC, Suffixed()))("x")
    with pytest.raises(UsageError, match="must have steps"):
        Pipeline(())
    with pytest.raises(UsageError):
        ABC >> "bm25"


# Execution.


def test_shared_prefixes_and_equal_branches_run_once():
    shared = Listed(("d1", "d2"))
    memo, started = Memo(), State.start(["x"])
    rewritten = shared >> Suffixed("a")
    for pipeline in (rewritten >> shared, rewritten >> CBA, Fuse((shared, rewritten >> CBA))):
        pipeline.advance(started, Execution(memo))
    assert len(shared.calls) == 2  # once for the user's queries, once for the expanded ones


def test_each_pipeline_accounts_for_shared_work_in_full():
    slow = Listed(("d1",), delay_s=0.02)
    memo, started = Memo(), State.start(["x"])
    accounts = []
    for pipeline in (slow, slow >> Reversed()):
        execution = Execution(memo)
        pipeline.advance(started, execution)
        accounts.append(execution.steps)
    assert [[step.node for step in steps] for steps in accounts] == [
        ["listed"],
        ["listed", "reversed"],
    ]
    assert accounts[1][0].seconds == accounts[0][0].seconds >= 0.02


def test_usage_and_notes_of_a_node_reach_its_step_from_branches_too():
    @dataclass(frozen=True)
    class Costly(Suffixed):
        name: ClassVar[str] = "costly"

        def expand(self, queries, run):
            charge(Usage(calls=1, prompt_tokens=7))
            note("costly: kept", 2)
            return super().expand(queries, run)

    execution = Execution()
    pipeline = Fuse((Costly("a") >> ABC, Costly("b") >> CBA))
    pipeline.advance(State.start(["x"]), execution)
    costly = [step for step in execution.steps if step.node == "costly"]
    assert [step.usage.prompt_tokens for step in costly] == [7, 7]
    assert costly[0].notes == (("costly: kept", 2),)


def test_independent_branches_overlap_in_time():
    together = Together(2)

    @dataclass(frozen=True)
    class Meets(Listed):
        name: ClassVar[str] = "meets"

        def retrieve(self, queries, k):
            together.wait()
            return super().retrieve(queries, k)

    run = Fuse((Meets(("d1",)), Meets(("d2",))))("x")
    assert set(_ids(run)) == {"d1", "d2"}


def test_a_failure_is_not_remembered():
    @dataclass(frozen=True)
    class Once(Retriever):
        name: ClassVar[str] = "once"
        tries: list = field(default_factory=list, compare=False)
        kind: ClassVar[str] = "bm25"

        def retrieve(self, queries, k):
            self.tries.append(1)
            if len(self.tries) == 1:
                raise DataError("first time")
            return run_of({q.query_id: {"d1": 1.0} for q in queries})

    memo, node, started = Memo(), Once(), State.start(["x"])
    with pytest.raises(DataError, match="first time"):
        node.advance(started, Execution(memo))
    assert node.advance(started, Execution(memo)).run is not None


def test_what_a_query_excludes_leaves_a_run_from_outside():
    queries = [Query("1", "x", excluded=("d1", "d9")), Query("2", "x")]
    run = run_of({"1": {"d1": 3.0, "d2": 2.0, "d3": 1.0}, "2": {"d1": 2.0, "d2": 1.0}})
    reranked = Reversed()(queries, run=run)
    assert [[hit.doc_id for hit in reranked.hits(i)] for i in (0, 1)] == [
        ["d3", "d2"],
        ["d2", "d1"],
    ]
    (first, second) = FirstHit()(queries, run=run)
    assert [q.expansions[0].texts for q in (first, second)] == [("d2",), ("d1",)]


def test_a_pipeline_works_inside_a_running_loop_and_twice():
    async def twice():
        return [ABC("x"), await ABC.arun("x"), ABC("x")]

    for _ in range(2):
        runs = asyncio.run(twice())
        assert all(same(run, runs[0]) for run in runs)


def test_arun_leaves_the_loop_free():
    slow = Listed(("d1",), delay_s=0.4)
    gaps = []

    async def tick():
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    async def main():
        ticking = asyncio.create_task(tick())
        await slow.arun("x")
        ticking.cancel()

    asyncio.run(main())
    assert len(gaps) > 10
    assert max(gaps) < 0.3


def test_results_do_not_depend_on_the_batch():
    queries = [Query(str(n), "x" if n % 3 else "") for n in range(7)]
    pipeline = ABC >> FirstHit() >> Fuse((ABC, CBA), method="linear", normalise="minmax")
    whole = pipeline(queries)
    for query in queries:
        alone = pipeline([query])
        assert alone.hits(0) == whole.hits(query.query_id)
    shuffled = pipeline(queries[::-1])
    assert all(shuffled.hits(q.query_id) == whole.hits(q.query_id) for q in queries)
