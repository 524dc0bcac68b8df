"""MuGI: several generated references, the query repeated to keep its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from limbeck.agents import weights
from limbeck.agents.rewriter import LLMRewriter
from limbeck.errors import UsageError
from limbeck.types import Expansion, Message, Query, Run

__all__ = ["MuGI"]


@dataclass(frozen=True)
class MuGI(LLMRewriter):
    """Queries expanded by n passages; the query's terms are weighted by the passages' length.

    Attributes:
        beta: how many times longer than the repeated query the passages may be.

    Paper: Zhang et al., "Exploring the Best Practices of Query Expansion with Large Language
    Models", arXiv 2401.06311; see `limbeck.agents.weights.mugi` for where we differ.
    """

    name: ClassVar[str] = "mugi"

    n: int = field(default=5, kw_only=True)
    beta: float = field(default=6.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta > 0:
            raise UsageError(f"beta of mugi must be more than 0; got {self.beta}")

    def messages(self, query: Query, run: Run | None, position: int) -> tuple[Message, ...]:  # noqa: ARG002
        """Return the instruction with the query."""
        return self.prompt.render(query=self.cut(query.text, self.query_tokens))

    def weigh(self, query: str, texts: Sequence[str]) -> Expansion:
        """Return MuGI's expansion."""
        return weights.mugi(query, texts, beta=self.beta)
