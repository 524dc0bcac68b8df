"""Pairwise: an LLM says which of two hits is the better one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, get_args

from limbeck.agents import sorting
from limbeck.agents.reranker import Scores, SortingReranker, require_one_of
from limbeck.agents.rounds import Prompt, Steps
from limbeck.llm.model import Generation
from limbeck.prompts.answers import choice

__all__ = ["Method", "Pairwise"]

Method = Literal["heap", "sliding", "all-pairs"]
Read = Literal["text", "choice"]

_LABELS = ("A", "B")


@dataclass(frozen=True)
class Pairwise(SortingReranker):
    """The hits of a run by comparisons, each pair asked in both orders against position bias.

    A hit is better than another if the LLM says so in both orders; where it contradicts itself, or
    an answer cannot be had or read, the two are equal, and the one that came first stays first.

    - "heap": heap sort for the `best` hits, whose other comparisons are not made (kind rank).
    - "sliding": `best` passes of a bubble sort from the bottom upward; pairs that were compared
      before are not asked again, so that a pass which changes nothing costs nothing (kind rank).
    - "all-pairs": each hit against each other one, a win counts 1 and equality 1/2 (kind wins);
      `best` is not used, and `depth` 100 takes 9,900 calls a query.

    Paper: Qin et al., "Large Language Models are Effective Text Rankers with Pairwise Ranking
    Prompting", arXiv 2306.17563 (all pairs, heap sort, sliding with 10 passes). We differ: the
    wording is ours; text is read, not log-probabilities; in heap sort and sliding equal hits keep
    the order of the first stage, not that of the moment.

    Attributes:
        method: "heap", "sliding" or "all-pairs".
        read: "text", the letter in the answer; "choice", likewise, and the server lets the answer
            be nothing but a letter.
    """

    name: ClassVar[str] = "pairwise"
    places: ClassVar[frozenset[str]] = frozenset({"query", "first", "second"})

    method: Method = field(default="heap", kw_only=True)
    read: Read = field(default="text", kw_only=True)
    max_tokens: int = field(default=24, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("method of pairwise", self.method, get_args(Method))
        require_one_of("read of pairwise", self.read, get_args(Read))

    @property
    def kind(self) -> str:
        """The kind wins with all pairs, else rank."""
        return "wins" if self.method == "all-pairs" else "rank"

    @property
    def held_to(self) -> tuple[str, ...]:
        """The two letters, with `read` "choice"."""
        return tuple(_LABELS) if self.read == "choice" else ()

    @property
    def n_shown(self) -> int:
        """Two passages."""
        return 2

    def max_prompts(self) -> int:
        """Return two for each comparison."""
        if self.method == "all-pairs":
            return self.depth * (self.depth - 1)
        if self.method == "sliding":
            return 2 * sorting.most_bubble_picks(self.depth, self.best, 2)
        return 2 * 2 * sorting.most_heap_picks(self.depth, self.best, 2)

    def scored(self, query: str, passages: Sequence[str]) -> Steps[Scores]:
        """Return the wins of each passage, or its rank."""
        if self.method != "all-pairs":
            return (yield from super().scored(query, passages))
        return (yield from self._wins(query, passages))

    def unknown(self, n: int) -> list[float]:
        """Return what n equal hits win, or their ranks."""
        return [(n - 1) / 2] * n if self.method == "all-pairs" else super().unknown(n)

    def ordered(self, query: str, passages: Sequence[str]) -> Steps[list[int]]:
        """Return the places of the passages, best first."""
        pair = sorting.remembered(partial(self._better, query, passages))
        if self.method == "sliding":
            return (yield from sorting.bubble_sorted(len(passages), self.best, 2, pair))
        pick = sorting.champion(pair)
        return (yield from sorting.heap_sorted(len(passages), self.best, 2, pick))

    def _wins(self, query: str, passages: Sequence[str]) -> Steps[Scores]:
        """Return the wins of each passage; a round compares one with all that come after it."""
        wins = [0.0] * len(passages)
        for one in range(len(passages) - 1):
            others = range(one + 1, len(passages))
            prompts = [p for other in others for p in self._prompts(query, passages, one, other)]
            answers = iter((yield prompts))
            for other in others:
                won = self._won(next(answers), next(answers))
                wins[one] += won
                wins[other] += 1.0 - won
        return wins

    def _better(self, query: str, passages: Sequence[str], pair: Sequence[int]) -> Steps[int]:
        """Return the better one of two passages, the first where they are equal."""
        one, other = pair
        answers = yield self._prompts(query, passages, one, other)
        return one if self._won(*answers) >= 0.5 else other

    def _prompts(self, query: str, passages: Sequence[str], one: int, other: int) -> list[Prompt]:
        """Return the prompts of one comparison, in both orders."""
        return [
            self.prompt.render(query=query, first=passages[i], second=passages[j])
            for i, j in ((one, other), (other, one))
        ]

    def _won(self, forth: Generation, back: Generation) -> float:
        """Return 1 if both orders say that the first passage is better, 0 if neither, else 1/2."""
        said = self._said(forth), self._said(back)
        if said in {(0, 1), (1, 0)}:
            return float(said == (0, 1))
        return 0.5

    def _said(self, generation: Generation) -> int | None:
        said = choice(generation.texts[0], _LABELS) if generation.texts else None
        if said is None:
            self.unread("a pair counted as equal", generation, "choice")
        return said
