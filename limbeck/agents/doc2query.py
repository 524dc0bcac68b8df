"""doc2query with an LLM: queries that a document answers, one a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from limbeck.agents.asking import Prompting, why_unread
from limbeck.agents.shots import Shot, drawn, examine_file
from limbeck.corpus import Corpus
from limbeck.errors import LLMError, Problem, UsageError
from limbeck.files import resolved
from limbeck.llm.model import Generation
from limbeck.meter import Usage, note
from limbeck.progress import track
from limbeck.prompts.query import clean_query
from limbeck.prompts.template import fill
from limbeck.retrieval.expansion import Expander, Written
from limbeck.types import Document, Message

__all__ = ["Doc2Query"]

_CHUNK = 256
"""Documents sent at once; that an LLM fails is seen after so many."""


@dataclass(frozen=True)
class Doc2Query(Expander, Prompting):
    """Documents expanded by queries that an LLM writes, each a sample of its own.

    What was written lies in the LLM's cassette: a build that was stopped goes on where it was. A
    blank document is not sent. A document that lacks queries because calls failed, all of them or
    some, stops the build unless `tolerate` allows it: an index is kept for good, and must not have
    half its queries because a server was down. A query that only repeats one of the examples shown
    is dropped.

    Paper: Nogueira, Yang, Lin, Cho, "Document Expansion by Query Prediction", arXiv 1904.08375
    (2019), who train a sequence-to-sequence model. We differ: an LLM writes without training, by a
    prompt of our own.

    Attributes:
        n: queries written for each document.
        max_tokens: tokens of each query at most.
        document_tokens: a document is cut to so many tokens in the prompt.
        tolerate: share of the documents that may lack queries, some or all, because calls failed.
        examples: JSONL file of pairs, each with `query` and `passage`, which the task `examples`
            shows before the document, as Promptagator does with training pairs of a collection.
        shots: examples shown, drawn once by `seed`, the same for all documents.
        seed: of the draw.
    """

    name: ClassVar[str] = "doc2query"
    places: ClassVar[frozenset[str]] = frozenset({"document"})
    extras: ClassVar[frozenset[str]] = frozenset({"examples"})

    n: int = field(default=20, kw_only=True)
    max_tokens: int = field(default=64, kw_only=True)
    document_tokens: int = field(default=512, kw_only=True)
    tolerate: float = field(default=0.0, kw_only=True)
    examples: Path | None = field(default=None, kw_only=True, metadata={"place": True})
    shots: int = field(default=4, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("n", "document_tokens", "shots")
        if self.examples is not None:
            object.__setattr__(self, "examples", resolved(self.examples))
        if ("examples" in self.prompt.fields) != (self.examples is not None):
            raise UsageError(
                "examples of doc2query must be given with a template that shows them, such as the "
                f"task examples; got task {self.task!r} and examples {self.examples}; give both"
            )
        if not 0.0 <= self.tolerate <= 1.0:
            raise UsageError(f"tolerate of doc2query must lie in [0, 1]; got {self.tolerate}")

    @property
    def n_samples(self) -> int:
        """The queries written for each document."""
        return self.n

    @property
    def most(self) -> int | None:
        """The queries written for each document."""
        return self.n

    def write(self, corpus: Corpus) -> list[Written]:
        """Return the queries of each document, by row.

        Raises:
            LLMError: more documents than tolerated lack queries because calls failed.
        """
        written = [Written()] * len(corpus)
        asked = [row for row, d in enumerate(corpus.documents()) if d.contents.strip()]
        chunks = [asked[start : start + _CHUNK] for start in range(0, len(asked), _CHUNK)]
        failed: list[str] = []
        for chunk in track(chunks, label=f"{self.name}: documents", total=len(chunks)):
            generations = self.generated([self._messages(corpus.document(row)) for row in chunk])
            for row, generation in zip(chunk, generations, strict=True):
                written[row] = self._read(generation)
                if generation.failure is not None:
                    failed.append(generation.failure)
            self._require_few(failed, len(asked))
        return written

    def _messages(self, document: Document) -> tuple[Message, ...]:
        shown = self.cut(document.contents, self.document_tokens)
        return self.prompt.render(document=shown, examples=self._written_out)

    @cached_property
    def _shown(self) -> tuple[Shot, ...]:
        """The drawn examples."""
        return drawn(self.examples, self.shots, self.seed)

    @cached_property
    def _written_out(self) -> str:
        """The examples as they stand in each prompt."""
        return "".join(
            fill(
                self.prompt.example,
                {"query": each.query, "document": self.cut(each.passage, self.document_tokens)},
            )
            for each in self._shown
        )

    @cached_property
    def _examples(self) -> frozenset[str]:
        """What stands behind a label, as "Query: ", in the examples: no answer repeats it."""
        lines = (self.prompt.user + self._written_out).splitlines()
        return frozenset(line.partition(": ")[2].strip().casefold() for line in lines)

    def content(self) -> object:
        """Return the template and the drawn examples."""
        return [self.prompt, self._shown] if self._shown else self.prompt

    def _read(self, generation: Generation) -> Written:
        texts = tuple(
            text
            for text in map(clean_query, generation.texts)
            if text and text.casefold() not in self._examples
        )
        if len(texts) < self.n:
            reason = why_unread(generation, "query")
            note(f"{self.name}: fewer than {self.n} queries of a document ({reason})")
        return Written(texts)

    def _require_few(self, failed: Sequence[str], n_asked: int) -> None:
        if len(failed) > self.tolerate * n_asked:
            raise LLMError(
                f"{self.name} must have {self.n} answers for each document; {len(failed):,} of "
                f"{n_asked:,} documents have fewer, the first for: {failed[0]}; what was recorded "
                "is kept, so run again, or give as `tolerate` the share that may lack some"
            )

    def max_shown_tokens(self) -> int:
        """Return how long the document can become, and the examples with theirs."""
        n_examples = self.shots if self.examples is not None else 0
        return self.document_tokens + n_examples * (self.document_tokens + self.max_tokens)

    def examine_inside(self, place: str, problems: list[Problem]) -> None:
        """Examine whether the LLM can be asked, and whether prompt and answer fit its context."""
        examine_file(self.examples, self.name, place, problems)
        self.examine_llm(place, problems)

    def estimate_building(self, n_docs: int) -> Usage:
        """Return what the calls for so many documents take at most."""
        return Prompting.estimate(self, n_docs)
