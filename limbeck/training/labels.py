"""A teacher's labels: its scores of the passages of queries, as data on disk.

Labels are what a model says, qrels what people say; the two are never mixed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import Artifact, write_artifact
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, UsageError
from limbeck.fingerprint import digest
from limbeck.meter import Usage
from limbeck.training.extended import Extended
from limbeck.types import Document, Documents, Query, Run

__all__ = ["FROM_SPLIT", "Labels", "Origin", "of_another_lesson"]

FROM_SPLIT = "split"
"""The source of queries that people judged: those of a split of the collection."""

_KIND = "labels"
_FORMAT = 1


@dataclass(frozen=True)
class Origin:
    """Who says what labels say.

    Attributes:
        teacher: its name.
        fingerprint: of the teacher, with all its parameters, prompts and models.
        models: the LLMs and encoders that it names.
        prompts: digests of its prompts.
        usage: what its calls cost, and those that wrote queries.
        seconds: that both took.
        notes: what there is to say of its answers, and how many times.
    """

    teacher: str
    fingerprint: str
    models: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    notes: tuple[tuple[str, int], ...] = ()

    def __add__(self, other: Origin) -> Origin:
        """Return what both took together."""
        counted = dict(self.notes)
        for message, times in other.notes:
            counted[message] = counted.get(message, 0) + times
        return dataclasses.replace(
            self,
            usage=self.usage + other.usage,
            seconds=self.seconds + other.seconds,
            notes=tuple(counted.items()),
        )

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON data."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(held: dict[str, Any]) -> Origin:
        """Return what `to_json` was called on."""
        return Origin(
            held["teacher"],
            held["fingerprint"],
            tuple(held["models"]),
            tuple(held["prompts"]),
            Usage(**held["usage"]),
            held["seconds"],
            tuple((message, times) for message, times in held["notes"]),
        )


@dataclass(frozen=True, eq=False)
class Labels:
    """What a teacher says of the passages of some queries.

    Attributes:
        queries: those that were asked about.
        sources: where each query is from, such as "split", "log" or "titles".
        positives: int64 rows of each query, one at least: what is labelled, what the query was
            made from, or for a query of a log what the teacher says answers it.
        run: the teacher's scores of passages, positives among them, best first; its corpus is the
            documents and, behind them, the dark examples.
        origin: who the teacher is.
        identity: digest of all that was asked of it.
    """

    queries: tuple[Query, ...]
    sources: tuple[str, ...]
    positives: tuple[NDArray[np.int64], ...]
    run: Run
    origin: Origin
    identity: str = ""

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.queries)

    @cached_property
    def digest(self) -> str:
        """Digest of all scores, and of what they are of."""
        return digest(self.texts.fingerprint, self.run.digest())

    @property
    def texts(self) -> Extended:
        """The documents, and the dark examples behind them."""
        assert isinstance(self.run.corpus, Extended)
        return self.run.corpus

    @cached_property
    def candidates(self) -> Run:
        """What the teacher says of documents: the run without dark examples."""
        n = len(self.texts.corpus)
        kept = self.run.select(self.run.rows < n)
        return dataclasses.replace(kept, corpus=self.texts.corpus)

    @cached_property
    def dark(self) -> tuple[NDArray[np.int64], ...]:
        """The rows of the dark examples of each query."""
        rows, n = self.run.rows, len(self.texts.corpus)
        found = (rows[self.run.segment(place)] for place in range(len(self)))
        return tuple(np.sort(own[own >= n]).astype(np.int64) for own in found)

    def of(self, queries: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of passages, of the rows' shape; NaN where the teacher said nothing.

        Args:
            queries: places of queries, shape (n_queries,).
            rows: of their passages, shape (n_queries, n_passages).
        """
        keys, scores = self._sorted
        if not len(keys):
            return np.full(rows.shape, np.nan, dtype=np.float32)
        asked = queries[:, None] * len(self.texts) + rows
        places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        known = (keys[places] == asked) & (rows >= 0)
        return np.where(known, scores[places], np.float32(np.nan))

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The query and row of each score as one rising number, and the scores."""
        lengths = np.diff(self.run.bounds)
        keys = np.repeat(np.arange(len(self)), lengths) * len(self.texts) + self.run.rows
        order = np.argsort(keys)
        return keys[order], self.run.scores[order]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the labels: a line for each query, for each label, and for each dark example.

        Raises:
            ArtifactError: the folder cannot be written.
        """
        ids = self.texts.doc_ids
        write_artifact(
            folder,
            kind=_KIND,
            version=_FORMAT,
            parameters={
                "corpus": self.texts.corpus.fingerprint,
                "scores": self.run.kind,
                "origin": self.origin.to_json(),
                "identity": self.identity,
            },
            lines={
                "queries": [
                    {
                        "query_id": query.query_id,
                        "text": query.text,
                        "source": source,
                        "positives": [ids[row] for row in rows.tolist()],
                        "excluded": list(query.excluded),
                    }
                    for query, source, rows in zip(
                        self.queries, self.sources, self.positives, strict=True
                    )
                ],
                "labels": [
                    {"query_id": query_id, "doc_id": hit.doc_id, "score": hit.score}
                    for query_id, hits in self.run.items()
                    for hit in hits
                ],
                "dark": [
                    {"doc_id": d.doc_id, "title": d.title, "text": d.text, **d.metadata}
                    for d in self.texts.more
                ],
            },
        )

    @staticmethod
    def load(folder: str | os.PathLike[str], corpus: Corpus) -> Labels:
        """Return the labels in a folder.

        Raises:
            ArtifactError: there are none, or they are of another corpus.
        """
        held = Artifact.load(folder, kind=_KIND, version=_FORMAT)
        if held.parameters["corpus"] != corpus.fingerprint:
            raise ArtifactError(
                f"{held.path} must hold labels of the corpus that is trained on; they are of "
                "another; give another folder, or remove it and teach again"
            )
        texts = Extended(corpus, [_dark(line) for line in held.lines("dark")])
        told = held.lines("queries")
        hits: dict[str, list[tuple[str, float]]] = {line["query_id"]: [] for line in told}
        for line in held.lines("labels"):
            hits[line["query_id"]].append((line["doc_id"], line["score"]))
        return Labels(
            tuple(Query(e["query_id"], e["text"], excluded=tuple(e["excluded"])) for e in told),
            tuple(e["source"] for e in told),
            tuple(_rows(e["positives"], corpus) for e in told),
            Run.from_hits(hits, kind=held.parameters["scores"], corpus=texts),
            Origin.from_json(held.parameters["origin"]),
            held.parameters["identity"],
        )

    @staticmethod
    def joined(parts: Sequence[Labels]) -> Labels:
        """Return the labels of several parts, one at least, of one corpus and one teacher."""
        first = parts[0]
        texts = Extended(first.texts.corpus, [text for part in parts for text in part.texts.more])
        ends = np.cumsum([0, *(len(part.run.rows) for part in parts)])
        bounds = [part.run.bounds[1:] + start for part, start in zip(parts, ends, strict=False)]
        run = Run(
            tuple(query.query_id for part in parts for query in part.queries),
            np.concatenate([[0], *bounds]).astype(np.int64),
            np.concatenate(list(_renumbered(parts))).astype(np.int32),
            np.concatenate([part.run.scores for part in parts]),
            first.run.kind,
            texts,
        )
        origin = first.origin
        for part in parts[1:]:
            origin += part.origin
        return Labels(
            tuple(query for part in parts for query in part.queries),
            tuple(source for part in parts for source in part.sources),
            tuple(rows for part in parts for rows in part.positives),
            run,
            origin,
            first.identity,
        )

    def part(self, places: Iterable[int]) -> Self:
        """Return the labels of some queries, whose places rise; all dark examples stay."""
        kept = list(places)
        mask = np.zeros(len(self), dtype=bool)
        mask[kept] = True
        run = self.run.select(np.repeat(mask, np.diff(self.run.bounds)))
        lengths = np.diff(self.run.bounds)[kept]
        return dataclasses.replace(
            self,
            queries=tuple(self.queries[place] for place in kept),
            sources=tuple(self.sources[place] for place in kept),
            positives=tuple(self.positives[place] for place in kept),
            run=dataclasses.replace(
                run,
                query_ids=tuple(self.run.query_ids[place] for place in kept),
                bounds=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            ),
        )


def of_another_lesson(folder: Path) -> UsageError:
    """Return the error of a lesson that finds other labels where its own should be."""
    return UsageError(
        f"{folder} must be free, or hold the labels of this lesson; it holds those of another; "
        "give another folder, or remove it"
    )


def _renumbered(parts: Sequence[Labels]) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each part, its dark examples behind those of the parts before it."""
    n, before = len(parts[0].texts.corpus), 0
    for part in parts:
        rows = part.run.rows.astype(np.int64)
        yield np.where(rows < n, rows, rows + before)
        before += len(part.texts.more)


def _dark(line: dict[str, Any]) -> Document:
    told = {name: value for name, value in line.items() if name not in {"doc_id", "title", "text"}}
    return Document(line["doc_id"], line["text"], line["title"], told)


def _rows(doc_ids: Sequence[str], corpus: Documents) -> NDArray[np.int64]:
    rows = [row for row in map(corpus.row, doc_ids) if row is not None]
    return np.array(sorted(rows), dtype=np.int64)
