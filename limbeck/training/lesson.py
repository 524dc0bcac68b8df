"""A lesson: who teaches, which queries, about which passages. A spec file holds one as `teach`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from limbeck.errors import CheckError, Problem, UsageError
from limbeck.meter import Usage
from limbeck.pipeline import Given, Node
from limbeck.retrieval.recorded_run import RecordedRun
from limbeck.training.dark import Dark
from limbeck.training.leaks import ALIKE
from limbeck.training.questions import Log, Source, Split

__all__ = ["Lesson"]

_USUAL_DEPTH = 50

_MOST_KEPT = 2
"""A student may be above its teacher, but not so far."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a teacher is asked.

    Attributes:
        teacher: any pipeline; where `candidates` are given, one that reads a run, such as
            [{cross-encoder: {...}}], and scores these.
        queries: where they come from.
        candidates: the pipeline whose hits are scored, with all positives. None: the teacher's own
            hits; a positive that it did not find has no label.
        depth: hits of each query that are scored; None: 50, and of a recorded run all that it has.
        relevant: the score from which on a passage is a positive of a query of a log; a query
            without any is not taught. None: the teacher's first hit is the positive.
        tolerate: the share of the prompts that LLMs may leave without an answer; what an answer is
            missing for has no label.
        dark: which dark examples are made, for a teacher that scores candidates.
        apart: splits that are kept apart: what is like one of their queries is not taught.
        alike: from which similarity on, in (0, 1].
        seed: of what is drawn.
        title: what the teacher is called, beside its labels; empty: as its node is.
        gate: the share of the teacher's score that a student has to keep, and more than its base
            has; None: any.
    """

    teacher: Node
    queries: tuple[Source, ...] = (Split(),)
    candidates: Node | None = None
    depth: int | None = None
    relevant: float | None = None
    tolerate: float = 0.0
    dark: Dark | None = None
    apart: tuple[str, ...] = ("test",)
    alike: float = ALIKE
    seed: int = 0
    gate: float | None = None
    title: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.hits < 1 or self.seed < 0:
            raise UsageError(
                f"depth must be 1 or more and seed 0 or more; got {self.depth} and {self.seed}"
            )
        if not 0.0 <= self.tolerate <= 1.0:
            raise UsageError(f"tolerate must lie in [0, 1]; got {self.tolerate}")
        if self.gate is not None and not 0 <= self.gate <= _MOST_KEPT:
            raise UsageError(
                f"gate must lie in [0, {_MOST_KEPT}], a share of the teacher's score; got "
                f"{self.gate}; write .95 for 95 %"
            )
        if not self.queries:
            raise UsageError("a lesson must have queries; got none; name a source")
        for source in self.queries:
            if isinstance(source, Split) and source.split in self.apart:
                raise UsageError(
                    f"queries of the split {source.split!r} must not be taught, for it is kept "
                    "apart; teach another split, or keep others apart"
                )
        if self.dark is not None and self.candidates is None:
            raise UsageError(
                "dark examples must be scored by a teacher that reads a run; give candidates, and "
                "as the teacher what scores them"
            )
        has_log = any(isinstance(source, Log) for source in self.queries)
        if self.dark is not None and has_log:
            raise UsageError(
                "dark examples are made of known positives, and queries of a log have none before "
                "the teacher has spoken; leave out the log, or dark"
            )
        if self.relevant is not None and not has_log:
            raise UsageError(
                "relevant belongs to queries of a log; got it without one; leave it out"
            )
        self._check_teacher()

    @property
    def hits(self) -> int:
        """How many hits of each query are scored."""
        if self.depth is not None:
            return self.depth
        return self.teacher.k if isinstance(self.teacher, RecordedRun) else _USUAL_DEPTH

    @property
    def kind(self) -> str | None:
        """The score kind of the labels, known without loading anything; None where it is not."""
        return self.teacher.examine(self._shown([]), "teach.teacher", []).kind

    @property
    def n_queries(self) -> int | None:
        """How many queries are taught at most; None where a source does not say."""
        stated = [source.n for source in self.queries]
        return None if None in stated else sum(n for n in stated if n is not None)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Teacher, candidates, and what writes or checks queries."""
        own = (self.teacher,) if self.candidates is None else (self.teacher, self.candidates)
        return (*own, *(node for source in self.queries for node in source.nodes))

    def with_nodes(self, change: Callable[[Node], Node]) -> Lesson:
        """Return this lesson with each of its nodes changed."""
        return dataclasses.replace(
            self,
            teacher=change(self.teacher),
            candidates=None if self.candidates is None else change(self.candidates),
            queries=tuple(source.with_nodes(change) for source in self.queries),
        )

    def estimate(self, n_queries: int) -> Usage:
        """Return an upper estimate of what the LLM calls take to label so many queries.

        Positives that candidates lack are not counted, nor what writes queries.
        """
        if self.candidates is None:
            return self.teacher.estimate(n_queries)
        n_dark = 0 if self.dark is None else self.dark.reinforced + self.dark.noisy
        reader = _reading(self.teacher, self.hits + n_dark)
        return self.candidates.estimate(n_queries) + reader.estimate(n_queries)

    def estimate_writing(self, n_documents: int) -> Usage:
        """Return an upper estimate of what the LLM calls take to write queries for documents."""
        return sum((source.estimate(n_documents) for source in self.queries), Usage())

    def check(self) -> None:
        """Run the static check of teacher and candidates: nothing is loaded, no money spent.

        Raises:
            CheckError: something does not fit; the error holds every finding.
        """
        problems = self.problems()
        if problems:
            raise CheckError(problems)

    def problems(self) -> tuple[Problem, ...]:
        """Return every finding of the static check."""
        problems: list[Problem] = []
        self.teacher.examine(self._shown(problems), "teach.teacher", problems)
        for number, source in enumerate(self.queries):
            source.examine(f"teach.queries[{number}]", problems)
        return tuple(problems)

    def _shown(self, problems: list[Problem]) -> Given:
        """Return what a teacher is given: of candidates the order alone."""
        if self.candidates is None:
            return Given()
        found = self.candidates.examine(Given(), "teach.candidates", problems)
        return dataclasses.replace(found, kind=found.kind and "rank")

    def _check_teacher(self) -> None:
        """Raise UsageError unless the teacher begins where it is asked to."""
        reads = _reads_a_run(self.teacher)
        if self.candidates is None and reads:
            raise UsageError(
                "a teacher must end in a run of its own; this one reads one; give candidates, or "
                "begin it with a retriever"
            )
        if self.candidates is not None and not reads:
            raise UsageError(
                "a teacher of candidates must read a run; this one makes its own; leave candidates "
                "out, or give the reranker alone"
            )


def _reading(node: Node, n: int) -> Node:
    """Return a node whose rerankers read no more than n hits."""
    node = node.with_children(lambda child: _reading(child, n))
    depth = getattr(node, "depth", None)
    narrowed: dict[str, Any] = {"depth": min(depth, n)} if isinstance(depth, int) else {}
    return dataclasses.replace(node, **narrowed)


def _reads_a_run(node: Node) -> bool:
    """Return whether the static check finds something wrong only where nothing was retrieved."""
    alone: list[Problem] = []
    behind: list[Problem] = []
    node.examine(Given(), "teacher", alone)
    node.examine(Given("given"), "teacher", behind)
    return not set(alone) <= set(behind)
