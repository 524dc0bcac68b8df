"""query2doc: one pseudo-document, written after examples of queries with their passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from limbeck.agents import weights
from limbeck.agents.rewriter import LLMRewriter
from limbeck.agents.shots import Shot, drawn, examine_file
from limbeck.errors import Problem, UsageError
from limbeck.files import resolved
from limbeck.pipeline import Given
from limbeck.prompts.template import fill
from limbeck.types import Expansion, Message, Query, Run

__all__ = ["Query2Doc"]


@dataclass(frozen=True)
class Query2Doc(LLMRewriter):
    """Queries expanded by a passage; the query's terms count five times.

    Attributes:
        examples: JSONL file of training pairs, each with `query` and `passage`; none: zero-shot.
        shots: examples shown, drawn once by `seed`, the same for all queries.
        passage_tokens: the passage of an example is cut to so many tokens.
        seed: of the draw.

    Paper: Wang, Yang, Wei, "Query2doc: Query Expansion with Large Language Models", EMNLP 2023,
    arXiv 2303.07678: 4 examples, temperature 1, 128 tokens. We differ: the wording is ours, and
    zero-shot where no examples are given.
    """

    name: ClassVar[str] = "query2doc"
    places: ClassVar[frozenset[str]] = frozenset({"query", "examples"})

    examples: Path | None = field(default=None, kw_only=True, metadata={"place": True})
    shots: int = field(default=4, kw_only=True)
    passage_tokens: int = field(default=128, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.examples is not None:
            object.__setattr__(self, "examples", resolved(self.examples))
        if self.shots < 1 or self.passage_tokens < 1:
            raise UsageError(
                f"shots and passage_tokens of query2doc must be 1 or more; got {self.shots}, "
                f"{self.passage_tokens}; for zero-shot give no examples"
            )

    @cached_property
    def _shown(self) -> tuple[Shot, ...]:
        """The drawn examples."""
        return drawn(self.examples, self.shots, self.seed)

    def content(self) -> object:
        """Return the template and the drawn examples."""
        return [self.prompt, self._shown]

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine also whether the file of the examples is there."""
        examine_file(self.examples, self.name, place, problems)
        return super().examine(given, place, problems)

    def messages(self, query: Query, run: Run | None, position: int) -> tuple[Message, ...]:  # noqa: ARG002
        """Return the instruction, the examples, and the query."""
        examples = "".join(
            fill(
                self.prompt.example,
                {
                    "query": self.cut(shown, self.query_tokens),
                    "passage": self.cut(passage, self.passage_tokens),
                },
            )
            for shown, passage in self._shown
        )
        return self.prompt.render(query=self.cut(query.text, self.query_tokens), examples=examples)

    def weigh(self, query: str, texts: Sequence[str]) -> Expansion:
        """Return query2doc's expansion."""
        return weights.query2doc(query, texts)

    def max_prompt_tokens(self) -> int:
        """Return the length of the longest prompt, with its examples."""
        shots = self.shots if self.examples is not None else 0
        return super().max_prompt_tokens() + shots * (self.query_tokens + self.passage_tokens + 8)
