"""Execution: what flows from node to node, and equal work done once.

The state carries a key for its queries and one for its run, each a digest of what made it. A node's
product is kept under the digest of what it reads and its own fingerprint, so that pipelines which
share a prefix or a branch share its work, wherever it stands.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar, cast

from limbeck.errors import DataError
from limbeck.fingerprint import digest, fingerprint
from limbeck.meter import Usage, log_unheard, metered
from limbeck.types import Query, Run, as_queries

__all__ = ["Execution", "Memo", "State", "Step"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class State:
    """What flows from node to node: the queries, and the run once there is one.

    The keys say how each of them came to be, so that equal work is done once.
    """

    queries: tuple[Query, ...]
    queries_key: str
    run: Run | None = None
    run_key: str = ""

    @staticmethod
    def start(queries: str | Query | Iterable[str | Query], run: Run | None = None) -> State:
        """Return the state before the first node; the run loses what its queries exclude.

        Raises:
            DataError: the run is not of these queries.
        """
        made = as_queries(queries)
        if run is not None and run.query_ids != tuple(query.query_id for query in made):
            raise DataError(
                "a run must hold the queries that it is given with, in their order; "
                "it holds others; make it with the same queries"
            )
        if run is None:
            return State(made, _content_key(made))
        read = run.without_excluded(made)
        return State(made, _content_key(made), read, read.digest())


def _content_key(queries: Sequence[Query]) -> str:
    """Return the digest of queries; `fingerprint` would take longer than some nodes do."""
    content = [
        (q.query_id, q.text, q.excluded, q.expansions and fingerprint(q.expansions))
        for q in queries
    ]
    return digest(json.dumps(content))


@dataclass(frozen=True, slots=True)
class Step:
    """What one node did once: its work in seconds, its LLM usage, and its degradations."""

    node: str
    seconds: float
    usage: Usage = field(default_factory=Usage)
    notes: tuple[tuple[str, int], ...] = ()


class Memo:
    """Products of nodes by key, shared by the executions that are given it; safe for threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._products: dict[str, Future[tuple[Any, Step]]] = {}
        self._lock = Lock()

    def once(self, key: str, node: str, work: Callable[[], _T]) -> tuple[_T, Step]:
        """Return the product of the work under a key, done now or taken from an earlier call."""
        with self._lock:
            found = self._products.get(key)
            future = self._products.setdefault(key, Future())
        if found is None:
            try:
                future.set_result(_timed(node, work))
            except BaseException as error:
                with self._lock:
                    del self._products[key]
                future.set_exception(error)
                raise
        return cast("tuple[_T, Step]", future.result())


def _timed(node: str, work: Callable[[], _T]) -> tuple[_T, Step]:
    started = time.perf_counter()
    with metered() as meter:
        product = work()
    seconds = time.perf_counter() - started
    log_unheard(meter.notes)
    return product, Step(node, seconds, meter.usage, tuple(meter.notes.items()))


class Execution:
    """One pass of a batch through a pipeline; `steps` is its account."""

    def __init__(self, memo: Memo | None = None) -> None:
        """Use a memo to share work with other executions."""
        self._memo = memo or Memo()
        self._steps: dict[str, Step] = {}

    @property
    def steps(self) -> tuple[Step, ...]:
        """Each distinct piece of work that the result needed, once, in the order it ended."""
        return tuple(self._steps.values())

    def once(self, key: str, node: str, work: Callable[[], _T]) -> _T:
        """Return the product of a node, named for the account, under a key."""
        product, step = self._memo.once(key, node, work)
        self._steps.setdefault(key, step)
        return product
