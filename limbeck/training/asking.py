"""The queries of a lesson: of all its sources, without those that leak, written ones kept."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from limbeck.agents.shots import read_shots
from limbeck.artifact import Artifact, write_artifact
from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.eval.datasets import Dataset
from limbeck.fingerprint import digest, fingerprint
from limbeck.meter import Usage, metered
from limbeck.training.folders import alone
from limbeck.training.labels import of_another_lesson
from limbeck.training.leaks import Leak, LeakGuard
from limbeck.training.lesson import Lesson
from limbeck.training.questions import Question, Source
from limbeck.types import Query

__all__ = ["Asked", "asked"]

_QUESTIONS = "questions"


@dataclass(frozen=True, eq=False)
class Asked:
    """The queries of a lesson.

    Attributes:
        questions: each with its positives.
        sources: where each is from.
        leaks: what was kept out, as it is like a query that is measured on.
        n_apart: queries that are kept apart.
        usage: what writing them cost, now or in an earlier attempt.
        seconds: that it took.
    """

    questions: tuple[Question, ...]
    sources: tuple[str, ...]
    leaks: tuple[Leak, ...]
    n_apart: int
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0


def asked(lesson: Lesson, folder: Path, corpus: Corpus, out: Path | None = None) -> Asked:
    """Return the queries of a lesson, without those that leak.

    Those that an LLM wrote are written once.

    Args:
        lesson: which sources, and which splits are kept apart.
        folder: the collection, in BEIR layout.
        corpus: its documents.
        out: the folder of the labels, where written queries are kept; None: they are not.

    Raises:
        CheckError: the static check refuses teacher, candidates or sources.
        DataError: a source gives none, two have an id for different queries, all leak, or a split
            that is kept apart is not there.
        UsageError: examples that are shown to an LLM leak, or `out` is the collection's folder,
            or another process writes queries there.
    """
    if out is not None and out.resolve() == folder.resolve():
        raise UsageError(
            f"{out} must be a folder for what is made; it is the collection that is read; give "
            "another one"
        )
    lesson.check()
    apart = {name: Dataset.load(folder, name, corpus=corpus).queries for name in lesson.apart}
    guard = LeakGuard(apart, at_least=lesson.alike)
    _require_clean_examples(lesson, guard)
    kept: dict[str, tuple[Question, str]] = {}
    leaks: list[Leak] = []
    usage, seconds = Usage(), 0.0
    for number, source in enumerate(lesson.queries):
        n_before = sum(type(other) is type(source) for other in lesson.queries[:number])
        given = _given(source, lesson, folder, corpus, out)
        usage, seconds = usage + given.usage, seconds + given.seconds
        for made in given.questions:
            question = source.numbered(made, n_before)
            if leak := guard.leak(question.query):
                leaks.append(leak)
                continue
            query_id = question.query.query_id
            first, _ = kept.setdefault(query_id, (question, source.name))
            _require_equal(first.query, question.query)
            if not len(first.positives):
                kept[query_id] = (question, source.name)
    if not kept:
        raise DataError(
            f"a lesson must have queries; all {len(leaks):,} are like queries that are kept apart; "
            "name another source"
        )
    questions, sources = zip(*kept.values(), strict=True)
    return Asked(questions, sources, tuple(leaks), len(guard), usage, seconds)


def _require_equal(one: Query, other: Query) -> None:
    if one.text != other.text:
        raise DataError(
            f"two sources must not have one query id for two queries; {one.query_id!r} is "
            f"{one.text!r} and {other.text!r}; rename one"
        )


class _Given(NamedTuple):
    """The queries of a source, what they cost, and the seconds that they took."""

    questions: list[Question]
    usage: Usage
    seconds: float


def _given(
    source: Source, lesson: Lesson, folder: Path, corpus: Corpus, out: Path | None
) -> _Given:
    """Return the queries of a source, read from where they were kept, if making them costs."""
    if out is None or not source.costs:
        return _made(source, lesson, folder, corpus)
    place = out / "questions" / digest(corpus.fingerprint, fingerprint([source, lesson.seed]))
    with alone(out):
        if not place.is_dir():
            if (out / "labels").is_dir():
                raise of_another_lesson(out / "labels")
            _keep(_made(source, lesson, folder, corpus), place)
    held = Artifact.load(place, kind=_QUESTIONS, version=2)
    questions = [
        Question(Query(query_id, text), np.array(rows, dtype=np.int64))
        for query_id, text, rows in held.lines("questions")
    ]
    return _Given(questions, Usage(**held.parameters["usage"]), held.parameters["seconds"])


def _keep(made: _Given, place: Path) -> None:
    lines = [
        [each.query.query_id, each.query.text, each.positives.tolist()] for each in made.questions
    ]
    cost = {"usage": dataclasses.asdict(made.usage), "seconds": made.seconds}
    write_artifact(place, kind=_QUESTIONS, version=2, parameters=cost, lines={"questions": lines})


def _made(source: Source, lesson: Lesson, folder: Path, corpus: Corpus) -> _Given:
    began = time.perf_counter()
    with metered() as meter:
        questions = source.questions(folder, corpus, seed=lesson.seed)
    return _Given(questions, meter.usage, time.perf_counter() - began)


def _require_clean_examples(lesson: Lesson, guard: LeakGuard) -> None:
    """Raise UsageError where examples that an LLM is shown hold a query that is kept apart."""
    files = {getattr(node, "examples", None) for each in lesson.nodes for node in each.walk()}
    for file in sorted(file for file in files if isinstance(file, Path)):
        shown = [
            Query(f"{file.name}:{n}", each.query) for n, each in enumerate(read_shots(file), 1)
        ]
        if leak := next(guard.leaks(shown), None):
            raise UsageError(
                f"examples must not be like a query that is kept apart; in {file} {leak}; take it "
                "out"
            )
