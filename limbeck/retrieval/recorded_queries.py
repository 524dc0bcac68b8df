"""Recorded document expansion: queries that some model wrote before, read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from limbeck.corpus import Corpus, encodable
from limbeck.errors import DataError, Problem
from limbeck.files import content_of, lines_by_id, resolved
from limbeck.meter import note
from limbeck.retrieval.expansion import Expander, Written

__all__ = ["RecordedQueries"]


@dataclass(frozen=True)
class RecordedQueries(Expander):
    """Documents expanded by queries of a JSONL file, by doc_id; no model is asked.

    A line has `doc_id`, `text` (a list of strings, or one), and optionally `score`, a number for
    each. The file `expansions.jsonl` of an index is such a file. Documents that it does not hold
    stay as they are, and the notes say how many do.

    Attributes:
        path: the file; its content is in the fingerprint, not where it lies.
    """

    name: ClassVar[str] = "recorded-queries"

    path: Path = field(metadata={"place": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", resolved(self.path))

    def content(self) -> object:
        """Return the digest of the file."""
        return content_of(self.path)

    def examine_inside(self, place: str, problems: list[Problem]) -> None:
        """Examine whether the file is there."""
        if not self.path.is_file():
            message = f"{self.name} reads {self.path}, which is no file"
            problems.append(Problem(place, message, "give its path"))

    @cached_property
    def _written(self) -> dict[str, Written]:
        return lines_by_id(self.path, "doc_id", _read)

    def write(self, corpus: Corpus) -> Sequence[Written]:
        """Return the recorded queries of each document, by row.

        Raises:
            DataError: a line is malformed, or the file holds no document of the corpus.
        """
        written = [self._written.get(doc_id, Written()) for doc_id in corpus.doc_ids]
        n_missing = sum(not each.texts for each in written)
        if n_missing == len(corpus):
            raise DataError(
                f"{self.path} must hold queries of documents of {corpus!r}; it has none of them; "
                "give the file that was written for this corpus"
            )
        if n_missing:
            note(f"{self.name}: document kept as it is (none recorded)", n_missing)
        return written


def _read(value: Mapping[str, Any], where: str) -> Written:
    """Return the queries of a line that are not blank, with their scores."""
    texts, scores = value.get("text"), value.get("score", [])
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{where} must have `text`, a list of strings; it has {sorted(value)}; mend the line"
        )
    if not isinstance(scores, list) or (scores and len(scores) != len(texts)):
        raise DataError(f"{where} must have a number in `score` for each text; mend the line")
    texts = [encodable(text) for text in texts]
    kept = [at for at, text in enumerate(texts) if text.strip()]
    try:
        numbers = [float(score) for score in scores]
    except (TypeError, ValueError):
        raise DataError(f"{where} must have numbers as `score`; got {scores!r}") from None
    return Written(tuple(texts[i] for i in kept), tuple(numbers[i] for i in kept if numbers))
