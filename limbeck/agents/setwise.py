"""Setwise: an LLM picks the best of a few hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, get_args

from limbeck.agents import sorting
from limbeck.agents.likelihood import label_probabilities
from limbeck.agents.reranker import SortingReranker, require_one_of
from limbeck.agents.rounds import Steps
from limbeck.errors import UsageError
from limbeck.llm.model import Generation
from limbeck.prompts.answers import choice

__all__ = ["Method", "Read", "Setwise"]

Method = Literal["heap", "bubble"]
Read = Literal["text", "logprobs"]

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without I, which is also a word, and O, which is also a nought."""


@dataclass(frozen=True)
class Setwise(SortingReranker):
    """The hits of a run by picks, each of one passage among `set_size` lettered ones.

    A sort takes fewer calls than with pairs, since each answer says more. The passages of a set are
    shown in the order of the run that was read, and the same set is not asked about again. Where an
    answer cannot be had or read, the first of its set counts as picked.

    - "heap": heap sort for the `best` hits, with `set_size` - 1 children to a node.
    - "bubble": `best` passes over windows of `set_size` hits from the bottom upward; the best of a
      window moves to its front, which is the end of the next one.

    Paper: Zhuang et al., "A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking
    with Large Language Models", arXiv 2310.09497. We differ: the wording is ours, and
    a set is shown in first-stage order.

    Attributes:
        method: "heap" or "bubble".
        set_size: passages in a set, 2 to 24; they are lettered without I and O.
        read: "text", or "logprobs": the likeliest letter, which is told even by an answer that
            begins with another word.
        top_logprobs: alternatives that are asked for, with `read: logprobs`.
    """

    name: ClassVar[str] = "setwise"
    places: ClassVar[frozenset[str]] = frozenset({"query", "passages"})

    method: Method = field(default="heap", kw_only=True)
    set_size: int = field(default=4, kw_only=True)
    read: Read = field(default="text", kw_only=True)
    top_logprobs: int = field(default=20, kw_only=True)
    max_tokens: int = field(default=24, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("method of setwise", self.method, get_args(Method))
        require_one_of("read of setwise", self.read, get_args(Read))
        self._require_counts("top_logprobs")
        if not 2 <= self.set_size <= len(_LETTERS):
            raise UsageError(
                f"set_size of setwise must lie in [2, {len(_LETTERS)}]; got {self.set_size}"
            )

    @property
    def kind(self) -> str:
        """The kind rank."""
        return "rank"

    @property
    def alternatives(self) -> int | None:
        """Alternatives to read the letter from; None: the text."""
        return self.top_logprobs if self.read == "logprobs" else None

    @property
    def n_shown(self) -> int:
        """A set of passages."""
        return min(self.set_size, self.depth)

    def max_prompts(self) -> int:
        """Return one for each pick."""
        if self.method == "bubble":
            return sorting.most_bubble_picks(self.depth, self.best, self.set_size)
        return sorting.most_heap_picks(self.depth, self.best, self.set_size - 1)

    def ordered(self, query: str, passages: Sequence[str]) -> Steps[list[int]]:
        """Return the places of the passages, best first."""
        pick = sorting.remembered(partial(self._picked, query, passages))
        n = len(passages)
        if self.method == "bubble":
            return (yield from sorting.bubble_sorted(n, self.best, self.set_size, pick))
        return (yield from sorting.heap_sorted(n, self.best, self.set_size - 1, pick))

    def _picked(self, query: str, passages: Sequence[str], members: Sequence[int]) -> Steps[int]:
        """Return the member of a set that the LLM picks, the first where it picks none."""
        shown = "\n".join(
            f"Passage {letter}: {passages[member]}"
            for letter, member in zip(_LETTERS, members, strict=False)
        )
        (generation,) = yield [self.prompt.render(query=query, passages=shown)]
        said = self._said(generation, _LETTERS[: len(members)])
        if said is None:
            self.unread("a set kept its order", generation, "choice")
        return members[said or 0]

    def _said(self, generation: Generation, letters: str) -> int | None:
        if not generation.samples:
            return None
        if self.read == "text":
            return choice(generation.texts[0], letters)
        shares = label_probabilities(generation.samples[0], letters)
        return None if shares is None else shares.index(max(shares))
