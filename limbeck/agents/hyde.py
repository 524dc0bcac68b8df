"""HyDE: search with documents that a model imagines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from limbeck.agents import weights
from limbeck.agents.rewriter import LLMRewriter
from limbeck.types import Expansion, Message, Query, Run

__all__ = ["HyDE"]


@dataclass(frozen=True)
class HyDE(LLMRewriter):
    """Queries expanded by n hypothetical documents; the query's vector is one of n + 1 equal ones.

    Paper: Gao et al., "Precise Zero-Shot Dense Retrieval without Relevance Labels", ACL 2023,
    arXiv 2212.10496: n 8, temperature .7, 512 tokens, stop at three newlines, raw vectors averaged.
    We differ: the prompts' wording is ours, chat preambles are taken off the answers, and the query
    is cut to 512 tokens in the prompt.
    """

    name: ClassVar[str] = "hyde"
    stop: ClassVar[tuple[str, ...]] = ("\n\n\n",)

    n: int = field(default=8, kw_only=True)
    temperature: float = field(default=0.7, kw_only=True)
    max_tokens: int = field(default=512, kw_only=True)
    query_tokens: int = field(default=512, kw_only=True)

    def messages(self, query: Query, run: Run | None, position: int) -> tuple[Message, ...]:  # noqa: ARG002
        """Return the instruction with the query."""
        return self.prompt.render(query=self.cut(query.text, self.query_tokens))

    def weigh(self, query: str, texts: Sequence[str]) -> Expansion:
        """Return HyDE's expansion."""
        return weights.hyde(query, texts)
