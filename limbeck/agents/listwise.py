"""Listwise: an LLM ranks windows of hits, from the bottom of the run upward."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from limbeck.agents.placing import ranks
from limbeck.agents.reranker import LLMReranker, Scores
from limbeck.agents.rounds import Prompt, Steps
from limbeck.errors import UsageError
from limbeck.llm.model import Generation
from limbeck.meter import note
from limbeck.prompts.answers import permutation

__all__ = ["Listwise", "borda", "windows"]

_REFERENCE = re.compile(r"\[(\d{1,4})\]")
_TOKENS_A_NUMBER = 5
"""What "[12] > " takes in an answer."""


@dataclass(frozen=True)
class Listwise(LLMReranker):
    """The hits of a run by permutations "[2] > [1] > ..." of windows that slide upward.

    A window of `window` hits is ranked, moves up by `step`, and so carries the best of what it saw
    with it: one pass puts the best `window - step` hits in order, if the LLM is right. The last
    window of a pass begins at the first hit, whatever the number of hits, and a run no longer than
    the window is one window. Passages that an answer leaves out follow in the order they had; an
    answer that ranks nothing leaves the window as it is.

    With `repeats`, each window is asked several times at once, after the first time with its
    passages shuffled, so that no passage keeps the place which the LLM favours. No order is shown
    twice: two passages are asked about twice, however many repeats there are. The answers are
    aggregated by Borda count, the mean of a passage's ranks. Mean reciprocal rank would let one
    answer that puts a passage first outweigh the others, which is what repeats are against.

    Paper: Sun et al., "Is ChatGPT Good at Search?", arXiv 2304.09542 (RankGPT): window 20, step 10,
    100 hits, 300 words a passage. Repeats after Tang et al., "Found in the Middle", arXiv
    2310.07712, who shuffle the whole list and take the central ranking. We differ: the wording is
    ours, in one message; passages are cut to `passage_tokens` too, so that the longest prompt is
    known; the released code's loop leaves the first hits unread where the steps do not end there.

    Attributes:
        window: passages in a prompt.
        step: hits by which the window moves up.
        passes: passes at most; one that changes nothing is the last, unless a window of it had no
            answer: then nothing says that the order is right.
        repeats: times that each window is asked, in as many orders.
        seed: of the shuffles.
        passage_words: each passage is cut to so many words.
        max_tokens: tokens of each answer at most.
    """

    name: ClassVar[str] = "listwise"
    version: ClassVar[int] = 4
    places: ClassVar[frozenset[str]] = frozenset({"query", "passages"})
    extras: ClassVar[frozenset[str]] = frozenset({"n"})

    window: int = field(default=20, kw_only=True)
    step: int = field(default=10, kw_only=True)
    passes: int = field(default=1, kw_only=True)
    repeats: int = field(default=1, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    passage_words: int = field(default=300, kw_only=True)
    max_tokens: int = field(default=256, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("window", "step", "passes", "repeats", "passage_words")
        if self.window < 2 or self.step >= self.window:
            raise UsageError(
                "window of listwise must be 2 or more, and step less than window, so that windows "
                f"overlap; got {self.window} and {self.step}"
            )
        if self.max_tokens < _TOKENS_A_NUMBER * self.n_shown:
            raise UsageError(
                f"max_tokens of listwise must have room for {self.n_shown} numbers; got "
                f"{self.max_tokens}; give {_TOKENS_A_NUMBER * self.n_shown} or more"
            )

    @property
    def kind(self) -> str:
        """The kind rank."""
        return "rank"

    @property
    def n_shown(self) -> int:
        """A window of passages."""
        return min(self.window, self.depth)

    def max_prompts(self) -> int:
        """Return one for each window, pass and repeat."""
        return len(windows(self.depth, self.window, self.step)) * self.passes * self.repeats

    def passage(self, text: str) -> str:
        """Return a document as it is shown; "[3]" in it, no number of ours, becomes "(3)"."""
        words = " ".join(text.split()[: self.passage_words])
        return super().passage(_REFERENCE.sub(r"(\1)", words))

    def scored(self, query: str, passages: Sequence[str]) -> Steps[Scores]:
        """Return `depth` for the passage that is ranked first, and 1 less for each one after it."""
        order = list(range(len(passages)))
        draw = random.Random(self.seed)  # noqa: S311 - shuffles against position bias
        for _ in range(self.passes):
            before, answered = order.copy(), True
            for where in windows(len(order), self.window, self.step):
                ranked = yield from self._ranked(query, passages, order[where], draw)
                answered = answered and ranked is not None
                order[where] = ranked or order[where]
            if answered and order == before:
                break
        return ranks(order, self.depth)

    def _ranked(
        self, query: str, passages: Sequence[str], members: list[int], draw: random.Random
    ) -> Steps[list[int] | None]:
        """Return the members of a window in their new order; None where no answer ranks them."""
        shown = _orders(members, self.repeats, draw)
        generations = yield [self._prompt(query, [passages[i] for i in each]) for each in shown]
        named = [
            self._named(generation, each)
            for generation, each in zip(generations, shown, strict=True)
        ]
        rankings = [_completed(each, members) for each in named if each]
        return borda(rankings, members) if rankings else None

    def _prompt(self, query: str, passages: Sequence[str]) -> Prompt:
        numbered = "\n".join(f"[{i}] {passage}" for i, passage in enumerate(passages, start=1))
        return self.prompt.render(query=query, passages=numbered, n=str(len(passages)))

    def _named(self, generation: Generation, shown: Sequence[int]) -> list[int]:
        """Return those of the passages shown that an answer names, best first."""
        text = generation.texts[0] if generation.texts else ""
        named = [shown[place] for place in permutation(text, len(shown))]
        if not named:
            self.unread("a window kept its order", generation, "ranking")
        elif len(named) < len(shown):
            note(f"{self.name}: an answer left out passages, which follow in their order")
        return named


def windows(n: int, window: int, step: int) -> list[slice]:
    """Return the windows of one pass over n hits, from the bottom upward; the last begins at 0.

    A single hit is no window: there is nothing to rank.
    """
    if n < 2:
        return []
    starts = [*range(n - window, 0, -step), 0]
    return [slice(start, min(start + window, n)) for start in starts]


def _orders(members: list[int], n: int, draw: random.Random) -> list[list[int]]:
    """Return n different orders, as many as there are if they are fewer; the first is as given."""
    orders = [members]
    while len(orders) < min(n, math.factorial(len(members))):
        drawn = draw.sample(members, len(members))
        if drawn not in orders:
            orders.append(drawn)
    return orders


def _completed(named: list[int], members: Sequence[int]) -> list[int]:
    """Return a ranking of all members: the named ones first, the others in their order."""
    return named + [member for member in members if member not in named]


def borda(rankings: Sequence[Sequence[int]], members: Sequence[int]) -> list[int]:
    """Return members by the sum of their ranks in all rankings; equal ones keep their order."""
    total = dict.fromkeys(members, 0)
    for ranking in rankings:
        for rank, member in enumerate(ranking):
            total[member] += rank
    return sorted(members, key=lambda member: total[member])
