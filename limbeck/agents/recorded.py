"""Recorded expansions: what some LLM wrote before, read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from limbeck.agents.weights import METHODS
from limbeck.errors import DataError, Problem, UsageError
from limbeck.files import content_of, lines_by_id, resolved
from limbeck.meter import note
from limbeck.pipeline import Given, Rewriter
from limbeck.types import Expansion, Query, Run

__all__ = ["Recorded"]

Method = Literal["expanded", "hyde", "lamer", "mugi", "query2doc", "verbatim"]


@dataclass(frozen=True)
class Recorded(Rewriter):
    """Queries expanded by texts of a JSONL file, by query id; no LLM is asked.

    A line has `query_id`, `text` (a string or a list of strings), and optionally `expanded`, a
    string to be searched as it stands. A query that the file does not hold keeps its own text, and
    notes say how many did.

    Attributes:
        path: the file; its content is in the fingerprint, not where it lies.
        method: "expanded" searches that string alone; another name weighs `text` as that method
            does ("verbatim" leaves the query out).
    """

    name: ClassVar[str] = "recorded"

    path: Path = field(metadata={"place": True})
    method: Method = field(default="expanded", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", resolved(self.path))
        if self.method != "expanded" and self.method not in METHODS:
            known = ", ".join(("expanded", *METHODS))
            raise UsageError(f"method of recorded must be one of {known}; got {self.method!r}")

    @cached_property
    def _texts(self) -> dict[str, tuple[str, ...]]:
        return lines_by_id(
            self.path, "query_id", lambda value, where: _strings(value, self.method, where)
        )

    def content(self) -> object:
        """Return the digest of the file."""
        return content_of(self.path)

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine also whether the file is there."""
        if not self.path.is_file():
            problems.append(
                Problem(place, f"recorded reads {self.path}, which is no file", "give its path")
            )
        return super().examine(given, place, problems)

    def expand(self, queries: Sequence[Query], run: Run | None) -> list[Expansion | None]:  # noqa: ARG002
        """Return the recorded expansion of each query that the file holds."""
        return [self._expansion(query) for query in queries]

    def _expansion(self, query: Query) -> Expansion | None:
        texts = [text for text in self._texts.get(query.query_id, ()) if text.strip()]
        if not texts:
            note(f"recorded: query kept its own text (none recorded in {self.path.name})")
            return None
        method = "verbatim" if self.method == "expanded" else self.method
        return METHODS[method](query.text, texts)


def _strings(value: Mapping[str, Any], method: str, where: str) -> tuple[str, ...]:
    key = "expanded" if method == "expanded" else "text"
    recorded = value.get(key)
    texts = [recorded] if isinstance(recorded, str) else recorded
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{where} must have `{key}`, a string or a list of strings; it has {sorted(value)}; "
            "give another method, or another file"
        )
    return tuple(texts)
