"""A rehearsal: two queries before the clock runs, so that what is paid once counts for nobody.

A model that is loaded and a kernel that is compiled would else stand in the seconds of whichever
pipeline comes first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress

from limbeck.errors import LimbeckError
from limbeck.execution import Execution, State
from limbeck.llm.model import LLM
from limbeck.pipeline import Fusion, Node, Pipeline, Rewriter
from limbeck.types import Expansion, Query

__all__ = ["rehearse"]

_N_QUERIES = 2
_N_HITS = 10


def rehearse(pipeline: Node, queries: Sequence[Query]) -> None:
    """Ask the nodes of a bound pipeline that say `rehearsed` two of the queries; keep nothing.

    No node that holds an LLM is asked. Where the pipeline rewrites, the second query is expanded by
    its own text: expansions take other ways through a retriever than a query's own text does.
    """
    some = [query for query in queries if query.text.strip()][:_N_QUERIES]
    if not some:
        return
    if any(isinstance(node, Rewriter) for node in pipeline.walk()):
        some[-1] = some[-1].expanded(Expansion((some[-1].text,)))
    # What is wrong is said by the run itself.
    with suppress(LimbeckError):
        _after(pipeline, State.start(some))


def _after(node: Node, state: State) -> State:
    """Return the state after a node; the same where it is not rehearsed."""
    if isinstance(node, Pipeline):
        for step in node.steps:
            state = _after(step, state)
        return state
    if isinstance(node, Fusion):
        return [_after(branch, state) for branch in node.of][-1]
    held = (getattr(node, f.name) for f in dataclasses.fields(node))
    if not node.rehearsed or any(isinstance(value, LLM) for value in held):
        return state
    if node.reads_run and state.run is None:
        return state
    few = state.run and state.run.top(_N_HITS)
    return node.advance(dataclasses.replace(state, run=few), Execution())
