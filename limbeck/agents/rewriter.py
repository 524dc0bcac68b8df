"""What rewriters that ask an LLM share: prompts cut to size, one gate call, tolerant reading."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from limbeck.errors import Problem, UsageError
from limbeck.llm.model import LLM, Generation
from limbeck.llm.tokenizer import FALLBACK
from limbeck.meter import Usage, note
from limbeck.pipeline import Given, Rewriter
from limbeck.prompts.passage import clean_passage
from limbeck.prompts.template import Template, load_template
from limbeck.types import Expansion, Message, Query, Run

__all__ = ["LLMRewriter"]

_MESSAGE_OVERHEAD_TOKENS = 16
"""Room for what a chat format adds around messages."""


@dataclass(frozen=True)
class LLMRewriter(Rewriter):
    """A rewriter that has an LLM write texts for each query. Implement `messages` and `weigh`.

    A query whose texts cannot be had keeps its own text, and the run's notes say how many did. A
    query that is empty is not sent.

    Attributes:
        llm: the model.
        n: texts written for each query.
        task: which of the method's templates is used.
        template: a user message of your own instead, with the same {places}.
        temperature: sampling temperature.
        top_p: share of the probability mass that is sampled from.
        max_tokens: tokens of each text at most.
        query_tokens: the query is cut to so many tokens in the prompt.
    """

    places: ClassVar[frozenset[str]] = frozenset({"query"})
    stop: ClassVar[tuple[str, ...]] = ()

    llm: LLM
    _: KW_ONLY
    n: int = 1
    task: str = "web"
    template: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 128
    query_tokens: int = 128

    def __post_init__(self) -> None:
        if min(self.n, self.max_tokens, self.query_tokens) < 1:
            raise UsageError(
                f"n, max_tokens and query_tokens of {self.name} must be 1 or more; got {self.n}, "
                f"{self.max_tokens}, {self.query_tokens}"
            )
        if not 0.0 <= self.temperature <= 2.0 or not 0.0 < self.top_p <= 1.0:
            raise UsageError(
                f"temperature of {self.name} must lie in [0, 2] and top_p in (0, 1]; got "
                f"{self.temperature}, {self.top_p}"
            )
        self.prompt.require(self.places, frozenset(), where=self.name)

    @property
    def prompt(self) -> Template:
        """The template that the prompts are made from."""
        own = load_template(self.name, self.task)
        return own if self.template is None else dataclasses.replace(own, user=self.template)

    def content(self) -> object:
        """Return the template, so that another wording is another fingerprint."""
        return self.prompt

    @abstractmethod
    def messages(self, query: Query, run: Run | None, position: int) -> tuple[Message, ...]:
        """Return the messages for the query at a position of the batch."""

    @abstractmethod
    def weigh(self, query: str, texts: Sequence[str]) -> Expansion:
        """Return the expansion that the method makes of the texts."""

    def expand(self, queries: Sequence[Query], run: Run | None) -> list[Expansion | None]:
        """Return an expansion for each query whose texts were had."""
        expansions: list[Expansion | None] = [None] * len(queries)
        asked = [position for position, query in enumerate(queries) if query.text.strip()]
        generations = self.llm.generate(
            [self.messages(queries[position], run, position) for position in asked],
            n=self.n,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=self.stop,
            label=self.name,
        )
        for position, generation in zip(asked, generations, strict=True):
            expansions[position] = self._read(queries[position], generation)
        return expansions

    def _read(self, query: Query, generation: Generation) -> Expansion | None:
        texts = [text for text in map(clean_passage, generation.texts) if text]
        reason = generation.failure or "no passage in the answer"
        if not texts:
            note(f"{self.name}: query kept its own text ({reason})")
            return None
        if len(texts) < self.n:
            note(f"{self.name}: fewer than {self.n} texts ({reason})")
        return self.weigh(query.text, texts)

    def cut(self, text: str, n_tokens: int) -> str:
        """Return the first tokens of a text, its white space folded to single spaces."""
        return self.llm.tokenizer.cut(" ".join(text.split()), n_tokens)

    def max_prompt_tokens(self) -> int:
        """Return how long a prompt can become, by a count that needs no model."""
        written = sum(FALLBACK.count(part) for part in (self.prompt.system, self.prompt.user))
        return written + self.query_tokens + _MESSAGE_OVERHEAD_TOKENS

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine also whether the longest prompt and its answer fit the model's context."""
        super().examine(given, place, problems)
        for message, mend in self.llm.problems():
            problems.append(Problem(place, message, mend))
        room = self.llm.context_length
        needed = self.max_prompt_tokens() + self.max_tokens
        if room is not None and needed > room:
            problems.append(
                Problem(
                    place,
                    f"a prompt of {self.name} may take {self.max_prompt_tokens()} tokens and its "
                    f"answer {self.max_tokens}, and the context of {self.llm.model} holds {room}",
                    "lower max_tokens, query_tokens or what is shown, or take a larger context",
                )
            )
        return given

    def estimate(self, n_queries: int) -> Usage:
        """Return what the calls for so many queries take at most, if none must be made again."""
        calls = n_queries * -(-self.n // self.llm.width)
        prompt_tokens = calls * self.max_prompt_tokens()
        completion_tokens = n_queries * self.n * self.max_tokens
        usd = self.llm.cost_usd(prompt_tokens, completion_tokens)
        return Usage(
            calls=calls,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            usd=usd,
        )
