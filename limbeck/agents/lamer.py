"""LameR: a rewriter that has read a run. The model sees candidates before it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from limbeck.agents import weights
from limbeck.agents.rewriter import LLMRewriter
from limbeck.errors import UsageError
from limbeck.types import Expansion, Message, Query, Run

__all__ = ["LameR"]


@dataclass(frozen=True)
class LameR(LLMRewriter):
    """Queries expanded by n answers that were written with the first hits of a run in view.

    Attributes:
        depth: candidates shown (the paper's M). Where a query has none, it is asked without.
        passage_tokens: each candidate is cut to so many tokens.

    Paper: Shen et al., "Retrieval-Augmented Retrieval: Large Language Models are Strong Zero-Shot
    Retriever", Findings of ACL 2024, arXiv 2304.14233: n 5, M 10, queries and passages cut to 128
    tokens. It states no temperature: 1 as in the re-implementations. We differ: the prompts'
    wording is ours, tokens are the model's own, chat preambles are taken off.
    """

    name: ClassVar[str] = "lamer"
    reads_run: ClassVar[bool] = True
    places: ClassVar[frozenset[str]] = frozenset({"query", "passages"})

    n: int = field(default=5, kw_only=True)
    depth: int = field(default=10, kw_only=True)
    passage_tokens: int = field(default=128, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 0 or self.passage_tokens < 1:
            raise UsageError(
                f"depth of lamer must be 0 or more and passage_tokens 1 or more; got {self.depth}, "
                f"{self.passage_tokens}"
            )

    def messages(self, query: Query, run: Run | None, position: int) -> tuple[Message, ...]:
        """Return the query with its numbered candidates, which are said to be mostly wrong."""
        text = self.cut(query.text, self.query_tokens)
        shown = self._candidates(run, position) if run is not None else []
        if not shown:
            return self.prompt.render(alone=True, query=text)
        numbered = "\n".join(f"{number}.{passage}" for number, passage in enumerate(shown, start=1))
        return self.prompt.render(query=text, passages=numbered)

    def _candidates(self, run: Run, position: int) -> list[str]:
        rows = run.rows[run.segment(position)][: self.depth].tolist()
        cut = (self.cut(run.corpus.document(row).contents, self.passage_tokens) for row in rows)
        return [passage for passage in cut if passage]

    def weigh(self, query: str, texts: Sequence[str]) -> Expansion:
        """Return LameR's expansion."""
        return weights.lamer(query, texts)

    def max_prompt_tokens(self) -> int:
        """Return the length of the longest prompt, with all candidates and their numbers."""
        return super().max_prompt_tokens() + self.depth * (self.passage_tokens + 4)
