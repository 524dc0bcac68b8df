"""Nodes, their families, their composition by `>>`, and the static check.

A node is a frozen dataclass; its fields are its parameters. A batch of queries is the primitive,
and a result never depends on the batch it came in. `a >> b` is a pipeline, which is a node again.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

from limbeck.errors import CheckError, DataError, Problem, UsageError
from limbeck.execution import Execution, State
from limbeck.fingerprint import digest, fingerprint
from limbeck.meter import Usage
from limbeck.types import Documents, Expansion, Query, Run

__all__ = [
    "Fusion",
    "Given",
    "Node",
    "Pass",
    "Pipeline",
    "Reranker",
    "Retriever",
    "Rewriter",
    "Top",
    "require_one_corpus",
]


@dataclass(frozen=True, slots=True)
class Given:
    """What the static check knows before a node.

    Attributes:
        kind: score kind of the run; None where there is no run yet.
        corpus: fingerprint of the run's corpus; None where that is not known before binding.
    """

    kind: str | None = None
    corpus: str | None = None


@dataclass(frozen=True)
class Node(ABC):
    """A step of a pipeline. Subclass one of the families, not this.

    Class attributes:
        name: the name in spec files.
        version: raised whenever the same parameters may give another result.
        reads_run: whether a run must have been made before.
        rehearsed: whether an evaluation asks it two queries before the clock runs, so that loading
            a model or compiling a kernel is not counted; never where a call costs.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads_run: ClassVar[bool] = False
    rehearsed: ClassVar[bool] = False

    @cached_property
    def fingerprint(self) -> str:
        """Digest of class version, parameters, and the artefacts, prompts and models they name.

        A path whose field says `metadata={"place": True}` is left out: what lies there counts, and
        `content` returns that.
        """
        parameters = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.compare and not f.metadata.get("place")
        }
        content = [self.name, self.version, parameters, self.content()]
        return fingerprint(content)

    def content(self) -> object:
        """Return what the parameters name but do not hold: an opened index, a file's digest."""
        return None

    @abstractmethod
    def advance(self, state: State, execution: Execution) -> State:
        """Return the state after this node."""

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Return what holds after this node, and append what is wrong; load and spend nothing."""
        if self.reads_run and given.kind is None:
            problems.append(
                Problem(
                    place,
                    f"{self.name} reads a run, and no node before it makes one",
                    "put a retriever such as bm25 before it",
                )
            )
        return given

    def children(self) -> tuple[Node, ...]:
        """Return the nodes among the parameters."""
        found: list[Node] = []
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            members = value if isinstance(value, tuple) else (value,)
            found.extend(member for member in members if isinstance(member, Node))
        return tuple(found)

    def with_children(self, change: Callable[[Node], Node]) -> Self:
        """Return this node with each node among its parameters changed."""
        changed: dict[str, object] = {}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Node):
                changed[f.name] = change(value)
            elif isinstance(value, tuple) and any(isinstance(item, Node) for item in value):
                changed[f.name] = tuple(change(v) if isinstance(v, Node) else v for v in value)
        return dataclasses.replace(self, **changed) if changed else self

    def bind(self, corpus: Any) -> Self:
        """Return this node with every index that names no corpus built for, or opened on, this one.

        Args:
            corpus: the `Corpus` to search.
        """
        return self.with_children(lambda child: child.bind(corpus))

    def walk(self) -> Iterator[Node]:
        """Yield this node and all nodes inside it."""
        yield self
        for child in self.children():
            yield from child.walk()

    def estimate(self, n_queries: int) -> Usage:
        """Return an upper estimate of what the LLM calls for so many queries take."""
        return sum((child.estimate(n_queries) for child in self.children()), Usage())

    def problems(self, *, place: str = "pipeline") -> tuple[Problem, ...]:
        """Return every finding of the static check; no model is loaded, no money spent."""
        found: list[Problem] = []
        self.examine(Given(), place, found)
        return tuple(found)

    def check(self) -> None:
        """Run the static check.

        Raises:
            CheckError: something does not fit; the error holds every finding.
        """
        found = self.problems()
        if found:
            raise CheckError(found)

    def top(self, k: int) -> Node:
        """Return this node with its run cut to the first k hits of each query."""
        return self >> Top(k)

    def __rshift__(self, other: Node) -> Pipeline:
        """Return the pipeline of this node and then the other."""
        return Pipeline((*_steps(self), *_steps(_node(other, "what stands behind >>"))))

    def __rrshift__(self, other: object) -> Pipeline:
        """Return what `>>` does, where what stands before it does not know how."""
        return Pipeline((*_steps(_node(other, "what stands before >>")), *_steps(self)))

    def __call__(self, queries: str | Query | Iterable[str | Query], run: Run | None = None) -> Any:
        """Return the run of a batch of queries, or the queries where this node only rewrites.

        Args:
            queries: queries, or strings, which get the ids "1", "2", ...
            run: a run made before, for nodes that read one; documents that a query excludes are
                taken out of it.
        """
        started = State.start(queries, run)
        ended = self.advance(started, Execution())
        read_only = ended.run_key == started.run_key
        return ended.queries if ended.run is None or (read_only and self._rewrites()) else ended.run

    async def arun(
        self, queries: str | Query | Iterable[str | Query], run: Run | None = None
    ) -> Any:
        """Return what a call returns, computed in a worker thread: the event loop stays free."""
        return await asyncio.to_thread(self, queries, run)

    def _rewrites(self) -> bool:
        return isinstance(self, Rewriter) or any(c._rewrites() for c in self.children())


def _steps(node: Node) -> tuple[Node, ...]:
    return node.steps if isinstance(node, Pipeline) else (node,)


def _nodes(given: object, what: str) -> tuple[Node, ...]:
    """Return what is given as nodes.

    Raises:
        UsageError: it is no list, or one of it is no node.
    """
    if not isinstance(given, Iterable):
        raise UsageError(f"{what} must stand in a list; got {_shown(given)}; write [a, b]")
    return tuple(_node(each, what) for each in given)


def _node(given: object, what: str) -> Node:
    if isinstance(given, Node):
        return given
    mend = "write a node, such as MaxSim('minilm'); names alone stand in spec files"
    if isinstance(given, type) and issubclass(given, Node):
        mend = f"write {given.__name__}(...), with its parameters"
    raise UsageError(f"{what} must be a node; got {_shown(given)}; {mend}")


def _shown(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else reprlib.repr(value)


@dataclass(frozen=True)
class Pipeline(Node):
    """Nodes in sequence: each reads what the ones before it made."""

    name: ClassVar[str] = "pipeline"

    steps: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", _nodes(self.steps, "a step of a pipeline"))
        if not self.steps:
            raise UsageError("a pipeline must have steps; got none; name at least one node")

    def advance(self, state: State, execution: Execution) -> State:
        """Return the state after all steps."""
        for step in self.steps:
            state = step.advance(state, execution)
        return state

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine each step with what the ones before it leave."""
        for position, step in enumerate(self.steps):
            given = step.examine(given, f"{place}[{position}]", problems)
        return given

    def top(self, k: int) -> Node:
        """Return the pipeline cut to k hits; the last step is asked for no more where it can be."""
        return Pipeline((*self.steps[:-1], *_steps(self.steps[-1].top(k))))


@dataclass(frozen=True)
class Retriever(Node):
    """Queries to run. Subclasses implement `retrieve` and `kind`.

    Attributes:
        k: hits returned for each query.
    """

    k: int = field(default=1000, kw_only=True)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k must be 1 or more; got {self.k}")

    @property
    @abstractmethod
    def kind(self) -> str:
        """The score kind of the run, known without loading anything."""

    @property
    def corpus(self) -> Documents | None:
        """The corpus of the index, None before binding."""
        return None

    @abstractmethod
    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        """Return the k best documents of each query, or all that match if they are fewer."""

    def advance(self, state: State, execution: Execution) -> State:
        """Return the state with this retriever's run."""
        key = digest(state.queries_key, self.fingerprint)
        run = execution.once(key, self.name, lambda: self._retrieve(state.queries))
        return dataclasses.replace(state, run=run, run_key=key)

    def _retrieve(self, queries: Sequence[Query]) -> Run:
        """Retrieve so deep that k hits are left when the excluded documents are taken out."""
        deeper = max((len(query.excluded) for query in queries), default=0)
        run = self.retrieve(queries, self.k + deeper)
        return run.without_excluded(queries).top(self.k) if deeper else run

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Return the kind and the corpus of the run that this retriever makes."""
        super().examine(given, place, problems)
        corpus = self.corpus
        return Given(self.kind, None if corpus is None else corpus.fingerprint)

    def top(self, k: int) -> Node:
        """Return this retriever asked for no more than k hits."""
        return dataclasses.replace(self, k=min(k, self.k))


@dataclass(frozen=True)
class Rewriter(Node):
    """Queries, and for some a run, to queries with one more expansion. Implement `expand`."""

    @abstractmethod
    def expand(self, queries: Sequence[Query], run: Run | None) -> Sequence[Expansion | None]:
        """Return an expansion a query; None leaves a query as it is (and should be noted)."""

    def advance(self, state: State, execution: Execution) -> State:
        """Return the state with the expansions appended to its queries."""
        if self.reads_run and state.run is None:
            raise UsageError(f"{self.name} reads a run; got none; put a retriever before it")
        read = state.run_key if self.reads_run else ""
        key = digest(state.queries_key, read, self.fingerprint)
        queries = execution.once(key, self.name, lambda: self._rewrite(state))
        return dataclasses.replace(state, queries=queries, queries_key=key)

    def _rewrite(self, state: State) -> tuple[Query, ...]:
        expansions = self.expand(state.queries, state.run) if state.queries else ()
        return tuple(
            query if expansion is None else query.expanded(expansion)
            for query, expansion in zip(state.queries, expansions, strict=True)
        )


@dataclass(frozen=True)
class Reranker(Node):
    """Queries and run to run. Implement `rerank`; `kind` where the score kind changes."""

    reads_run: ClassVar[bool] = True

    @property
    def kind(self) -> str | None:
        """The score kind of the new run; None keeps that of the run that was read."""
        return None

    @abstractmethod
    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        """Return a new run over the same queries."""

    def advance(self, state: State, execution: Execution) -> State:
        """Return the state with the reranked run."""
        read = state.run
        if read is None:
            raise UsageError(f"{self.name} reads a run; got none; put a retriever before it")
        key = digest(state.queries_key, state.run_key, self.fingerprint)
        run = execution.once(key, self.name, lambda: self.rerank(state.queries, read))
        return dataclasses.replace(state, run=run, run_key=key)

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Return the given with this reranker's score kind."""
        super().examine(given, place, problems)
        return dataclasses.replace(given, kind=self.kind or given.kind)


@dataclass(frozen=True)
class Top(Reranker):
    """The first k hits of each query."""

    name: ClassVar[str] = "top"

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k must be 1 or more; got {self.k}")

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:  # noqa: ARG002 - the family's form
        """Return the run cut to k hits."""
        return run.top(self.k)

    def top(self, k: int) -> Node:
        """Return the narrower of the two cuts."""
        return Top(min(k, self.k))


@dataclass(frozen=True)
class Pass(Node):
    """What came, unchanged: a baseline in the place of any node. It is of no family."""

    name: ClassVar[str] = "pass"

    def advance(self, state: State, execution: Execution) -> State:  # noqa: ARG002 - a node's form
        """Return the state as it is."""
        return state


@dataclass(frozen=True)
class Fusion(Node):
    """Runs of several branches to one run. Implement `fuse` and `kind`.

    The branches read the same state and overlap in time.

    Attributes:
        of: the branches, each of which ends in a run.
    """

    of: tuple[Node, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", _nodes(self.of, f"a branch of {self.name}"))
        if not self.of:
            raise UsageError("a fusion must have branches; got none; name at least one in `of`")

    @property
    @abstractmethod
    def kind(self) -> str:
        """The score kind of the fused run."""

    @abstractmethod
    def fuse(self, runs: Sequence[Run]) -> Run:
        """Return one run from the runs of the branches, over the same queries and corpus."""

    def advance(self, state: State, execution: Execution) -> State:
        """Return the state with the fused run."""
        ended = self._branches(state, execution)
        runs = [self._run_of(branch, position) for position, branch in enumerate(ended)]
        key = digest(self.fingerprint, *(branch.run_key for branch in ended))
        run = execution.once(key, self.name, lambda: self.fuse(runs))
        return dataclasses.replace(state, run=run, run_key=key)

    def _branches(self, state: State, execution: Execution) -> list[State]:
        if len(self.of) == 1:
            return [self.of[0].advance(state, execution)]
        with ThreadPoolExecutor(len(self.of), thread_name_prefix="limbeck-branch") as pool:
            started = [
                pool.submit(contextvars.copy_context().run, branch.advance, state, execution)
                for branch in self.of
            ]
            return [future.result() for future in started]

    def _run_of(self, state: State, position: int) -> Run:
        if state.run is None:
            raise UsageError(
                f"each branch of {self.name} must end in a run; branch {position} has none"
            )
        return state.run

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine each branch; a fusion needs a run of each, over one corpus."""
        ends: list[Given] = []
        for position, branch in enumerate(self.of):
            where = f"{place}.of[{position}]"
            end = branch.examine(given, where, problems)
            if end.kind is None:
                problems.append(
                    Problem(where, "a branch must end in a run", "end it with a retriever")
                )
            ends.append(end)
        self.examine_ends(ends, place, problems)
        corpora = {end.corpus for end in ends if end.corpus is not None}
        if len(corpora) > 1:
            named = ", ".join(sorted(corpora))
            problems.append(
                Problem(
                    place,
                    f"the branches must search one corpus; their fingerprints are {named}",
                    "build the indexes on the same documents",
                )
            )
        return Given(self.kind, next(iter(corpora), None))

    def examine_ends(self, ends: Sequence[Given], place: str, problems: list[Problem]) -> None:
        """Append what is wrong with the score kinds of the branches."""


def require_one_corpus(runs: Sequence[Run]) -> None:
    """Raise DataError unless all runs hold the same queries, over one corpus."""
    first = runs[0]
    for other in runs[1:]:
        if other.query_ids != first.query_ids:
            raise DataError("runs must hold the same queries in the same order; they differ")
        if other.corpus.fingerprint != first.corpus.fingerprint:
            raise DataError(
                f"runs must be over one corpus; got {first.corpus.fingerprint} and "
                f"{other.corpus.fingerprint}; build the indexes on the same documents"
            )
