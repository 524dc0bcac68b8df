"""What rerankers that ask an LLM share: passages cut to size, rounds of questions, ties."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from limbeck.agents.asking import Asking, why_unread
from limbeck.agents.likelihood import READ_TOKENS
from limbeck.agents.placing import placed, ranks
from limbeck.agents.rounds import Prompt, Steps, driven, together
from limbeck.errors import Problem, UsageError
from limbeck.llm.model import Generation
from limbeck.meter import note
from limbeck.pipeline import Node, Reranker, Top
from limbeck.prompts import answers
from limbeck.prompts.tasks import load_for_task
from limbeck.prompts.template import Template
from limbeck.types import UNIT_KINDS, Query, Run

__all__ = ["LLMReranker", "Scores", "SortingReranker", "require_one_of"]

_QUERIES_TOGETHER = 128
"""Queries that advance side by side: enough for any server, few enough for memory."""

_CHOICE_TOKENS = 16
"""What a label may take that an answer is held to; the server ends the answer with it."""

_NUMBER_TOKENS = 4
"""What a passage's number or letter may take."""

Scores = Sequence[float | None]
"""A score for each passage, more is better; None where the LLM gave no answer."""


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UsageError unless a parameter has one of some values."""
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


@dataclass(frozen=True)
class LLMReranker(Asking, Reranker):
    """A reranker that asks an LLM about the hits of a run. Implement `scored` and `kind`.

    The user's own text is shown, not its expansions. Equal hits keep the order of the run that was
    read, and their scores are told apart (`limbeck.agents.placing`). A call that fails costs its
    own answer alone: what it was about keeps its order, and a note counts it. Of a blank query
    nothing is asked, and its hits keep their order. Their scores claim no more than `unknown`.

    Attributes:
        depth: hits read of each query; deeper ones are dropped, so that all scores are of one kind.
        passage_tokens: each passage is cut to so many tokens in the prompt.
        as_told: for labels: equal scores stay equal, and a hit that nothing was told of is left
            out.
    """

    version: ClassVar[int] = 3

    temperature: float = field(default=0.0, kw_only=True)
    depth: int = field(default=100, kw_only=True)
    passage_tokens: int = field(default=512, kw_only=True)
    as_told: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("depth", "passage_tokens")

    @property
    def stored_prompt(self) -> Template:
        """The method's own template in the words of the task."""
        return load_for_task(self.name, self.task)

    @property
    @abstractmethod
    def kind(self) -> str:
        """The score kind of the new run."""

    @property
    def n_shown(self) -> int:
        """Passages in one prompt at most."""
        return 1

    @property
    def alternatives(self) -> int | None:
        """Alternatives to read a label from, at the first tokens of an answer; None: its text."""
        return None

    @property
    def held_to(self) -> tuple[str, ...]:
        """Texts of which the server lets the answer be one; (): any text."""
        return ()

    @property
    def needs(self) -> frozenset[str]:
        """Log-probabilities where they are read, choices where answers are held to some."""
        wanted = {"logprobs": self.alternatives is not None, "choices": bool(self.held_to)}
        return frozenset(capability for capability, is_wanted in wanted.items() if is_wanted)

    @abstractmethod
    def scored(self, query: str, passages: Sequence[str]) -> Steps[Scores]:
        """Return a score for each passage of a query; both are cut to size."""

    def unknown(self, n: int) -> list[float]:
        """Return scores of n hits of which nothing is known, none above the one before it."""
        return ranks(range(n), self.depth)

    def ask(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return what the LLM says to the prompts of a round."""
        return self.generated(prompts, top_logprobs=self.alternatives, choices=self.held_to)

    def examine_llm(self, place: str, problems: list[Problem]) -> None:
        """Append also whether more alternatives are asked for than the LLM tells."""
        super().examine_llm(place, problems)
        most = self.llm.max_top_logprobs
        if most is not None and (self.alternatives or 0) > most:
            message = (
                f"{self.name} asks for {self.alternatives} alternatives to a token, and "
                f"{self.llm.model} tells {most} at most"
            )
            problems.append(Problem(place, message, f"lower top_logprobs to {most}"))

    def max_answer_tokens(self) -> int:
        """Return few where the first ones are read."""
        if self.held_to:
            return max(_CHOICE_TOKENS, *(len(label.encode()) for label in self.held_to))
        return super().max_answer_tokens() if self.alternatives is None else READ_TOKENS

    def content(self) -> object:
        """Return the template, and how answers are read."""
        return [self.prompt, answers.VERSION]

    def max_prompt_tokens(self) -> int:
        """Return the length of the longest prompt, with all its passages and their numbers."""
        return super().max_prompt_tokens() + self.n_shown * (self.passage_tokens + _NUMBER_TOKENS)

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        """Return the first `depth` hits of each query in their new order."""
        read = run.top(self.depth)
        return self._as_told(queries, read) if self.as_told else self._placed(queries, read)

    def told(self, queries: Sequence[Query], run: Run) -> list[float | None]:
        """Return the score of each hit of a run; None where there was no readable answer."""
        return [score for of_query in self._found(queries, run) for score in of_query]

    def _as_told(self, queries: Sequence[Query], read: Run) -> Run:
        found = self.told(queries, read)
        told = read.select(np.array([score is not None for score in found], dtype=bool))
        scores = np.array([score for score in found if score is not None], dtype=np.float32)
        return Run.ranked(
            told.query_ids, told.bounds, told.rows, scores, kind=self.kind, corpus=told.corpus
        )

    def _placed(self, queries: Sequence[Query], read: Run) -> Run:
        rows, scores = read.rows.copy(), np.empty(len(read.rows), dtype=np.float32)
        for position, found in enumerate(self._found(queries, read)):
            where = read.segment(position)
            order, fallen = placed(found, self.unknown(len(found)), unit=self.kind in UNIT_KINDS)
            rows[where], scores[where] = read.rows[where][order], fallen
        return Run.ranked(
            read.query_ids, read.bounds, rows, scores, kind=self.kind, corpus=read.corpus
        )

    def _found(self, queries: Sequence[Query], run: Run) -> Iterator[Scores]:
        """Yield the scores of the hits of each query."""
        for start in range(0, len(queries), _QUERIES_TOGETHER):
            part = range(start, min(start + _QUERIES_TOGETHER, len(queries)))
            yield from driven(together([self._steps(queries[i], run, i) for i in part]), self.ask)

    def _steps(self, query: Query, run: Run, position: int) -> Steps[Scores]:
        rows = run.rows[run.segment(position)].tolist()
        if not rows or not query.text.strip():
            return [None] * len(rows)
        passages = [self.passage(run.corpus.document(row).contents) for row in rows]
        return (yield from self.scored(self.cut(query.text, self.query_tokens), passages))

    def passage(self, text: str) -> str:
        """Return a document as it is shown."""
        return self.cut(text, self.passage_tokens)

    def unread(self, what: str, generation: Generation, wanted: str) -> None:
        """Note that an answer could not be had or read, and what became of what it was about."""
        note(f"{self.name}: {what} ({why_unread(generation, wanted)})")


@dataclass(frozen=True)
class SortingReranker(LLMReranker):
    """A reranker that puts the best hits in order by a sorting algorithm. Implement `ordered`.

    Attributes:
        best: hits that are put in order; the others follow about as they came.
    """

    best: int = field(default=10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("best")

    @abstractmethod
    def ordered(self, query: str, passages: Sequence[str]) -> Steps[list[int]]:
        """Return the places of the passages, best first."""

    def scored(self, query: str, passages: Sequence[str]) -> Steps[Scores]:
        """Return `depth` for the passage that is ranked first, and 1 less for each one after it.

        Of those behind the best nothing is told, though they have an order.
        """
        order = yield from self.ordered(query, passages)
        found = ranks(order, self.depth)
        if not self.as_told:
            return found
        sorted_ones = set(order[: self.best])
        return [score if place in sorted_ones else None for place, score in enumerate(found)]

    def top(self, k: int) -> Node:
        """Return this reranker cut to k hits; it puts no more in order than are returned."""
        return dataclasses.replace(self, best=min(k, self.best)) >> Top(k)
