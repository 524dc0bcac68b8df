"""Document expansion: queries written for each document when an index is built.

An expander stands inside an index, never in a pipeline. What it wrote lies in the folder of the
index, beside the corpus and never in it; an index that is opened again needs no expander.

Paper: Nogueira, Yang, Lin, Cho, "Document Expansion by Query Prediction", arXiv 1904.08375 (2019).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from limbeck.artifact import Artifact, write_atomically
from limbeck.corpus import Corpus
from limbeck.errors import Problem, UsageError
from limbeck.execution import Execution, State
from limbeck.meter import Usage
from limbeck.pipeline import Given, Node

__all__ = [
    "Expander",
    "Expansions",
    "StoredExpander",
    "Written",
    "estimate_building",
    "lines_of",
]

_FILE = "expansions"


class Written(NamedTuple):
    """The queries of one document.

    Attributes:
        texts: the queries; one that was written twice stands twice.
        scores: what a filter gave to each; empty where there was none.
    """

    texts: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Expander(Node):
    """A corpus to queries that its documents answer. Implement `write`."""

    @abstractmethod
    def write(self, corpus: Corpus) -> Sequence[Written]:
        """Return the queries of each document, by row."""

    @property
    def origin(self) -> str:
        """Digest of all that shapes the queries, a model's weights included; it may fetch them."""
        return self.fingerprint

    @property
    def most(self) -> int | None:
        """Queries of one document at most, None where that is not known."""
        return None

    def described(self) -> dict[str, str]:
        """Return what stands for this node among the parameters of an index, as JSON data."""
        return {"name": self.name, "fingerprint": self.fingerprint}

    def advance(self, state: State, execution: Execution) -> State:  # noqa: ARG002 - a node's form
        """Refuse to be a step of a pipeline."""
        raise UsageError(f"{self.name} {_NO_STEP[0]}; {_NO_STEP[1]}")

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Say that this is no step of a pipeline; an index calls `examine_inside`."""
        problems.append(Problem(place, f"{self.name} {_NO_STEP[0]}", _NO_STEP[1]))
        return given

    def examine_inside(self, place: str, problems: list[Problem]) -> None:
        """Append what would keep this node from writing; load and spend nothing."""

    def estimate(self, n_queries: int) -> Usage:  # noqa: ARG002 - a node's form
        """Return nothing: no query is ever sent anywhere."""
        return Usage()

    def estimate_building(self, n_docs: int) -> Usage:  # noqa: ARG002 - the family's form
        """Return an upper estimate of what the LLM calls for so many documents take."""
        return Usage()


def estimate_building(node: Node, n_docs: int) -> Usage:
    """Return what the LLM calls take at most that expand so many documents for a node's indexes."""
    found = {
        inside.fingerprint: inside
        for outside in node.walk()
        if not isinstance(outside, Expander)
        for inside in outside.children()
        if isinstance(inside, Expander)
    }
    return sum((each.estimate_building(n_docs) for each in found.values()), Usage())


_NO_STEP = (
    "writes queries for documents when an index is built; it is no step of a pipeline",
    "give it to an index, as in {bm25: {expansion: ...}}",
)


@dataclass(frozen=True)
class StoredExpander(Expander):
    """What stands in an opened index for the expander that it was built with."""

    name: ClassVar[str] = "stored"

    of: str
    own_fingerprint: str
    own_origin: str

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the expander that this stands for."""
        return self.own_fingerprint

    @property
    def origin(self) -> str:
        """The origin of the expander that this stands for."""
        return self.own_origin

    def described(self) -> dict[str, str]:
        """Return what the expander that this stands for returned."""
        return {"name": self.of, "fingerprint": self.own_fingerprint}

    def write(self, corpus: Corpus) -> Sequence[Written]:
        """Refuse: the index says what was written, not how."""
        raise UsageError(
            f"a {self.of} must be there to expand {corpus!r}; the index was loaded without it; "
            "name it in `expansion`, or give the index of this corpus"
        )


def lines_of(corpus: Corpus, written: Iterable[Written]) -> dict[str, list[dict[str, Any]]]:
    """Return what an index holds of the queries: the lines of a file that `Recorded` can read."""
    lines = [
        {"doc_id": doc_id, "text": each.texts, **({"score": each.scores} if each.scores else {})}
        for doc_id, each in zip(corpus.doc_ids, written, strict=True)
        if each.texts
    ]
    return {_FILE: lines}


class Expansions:
    """The queries that an index on disk was built with, read when they are first asked for."""

    def __init__(self, artifact: Artifact) -> None:
        """Remember where they are."""
        self._artifact = artifact

    @cached_property
    def _written(self) -> dict[str, Written]:
        return {
            line["doc_id"]: Written(tuple(line["text"]), tuple(line.get("score", ())))
            for line in self._artifact.lines(_FILE)
        }

    def of(self, doc_id: str) -> Written:
        """Return the queries of a document; none for one that has none, or is not there."""
        return self._written.get(doc_id, Written())

    def save(self, path: Path) -> None:
        """Write the queries, with the scores they have, as a file for `recorded-queries`."""
        source = self._artifact.path / f"{_FILE}.jsonl"
        write_atomically(Path(path), source.read_bytes())
