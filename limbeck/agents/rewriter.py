"""What rewriters that ask an LLM share: one gate call, tolerant reading."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from limbeck.agents.asking import Asking, why_unread
from limbeck.llm.model import Generation
from limbeck.meter import note
from limbeck.pipeline import Rewriter
from limbeck.prompts.passage import clean_passage
from limbeck.types import Expansion, Message, Query, Run

__all__ = ["LLMRewriter"]


@dataclass(frozen=True)
class LLMRewriter(Asking, Rewriter):
    """A rewriter that has an LLM write texts for each query. Implement `messages` and `weigh`.

    A query whose texts cannot be had keeps its own text, and a note says how many did. A
    query that is empty is not sent.

    Attributes:
        n: texts written for each query.
    """

    n: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("n")

    @property
    def n_samples(self) -> int:
        """The texts written for each query."""
        return self.n

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
        generations = self.generated(
            [self.messages(queries[position], run, position) for position in asked]
        )
        for position, generation in zip(asked, generations, strict=True):
            expansions[position] = self._read(queries[position], generation)
        return expansions

    def _read(self, query: Query, generation: Generation) -> Expansion | None:
        texts = [text for text in map(clean_passage, generation.texts) if text]
        reason = why_unread(generation, "passage")
        if not texts:
            note(f"{self.name}: query kept its own text ({reason})")
            return None
        if len(texts) < self.n:
            note(f"{self.name}: fewer than {self.n} texts ({reason})")
        return self.weigh(query.text, texts)
