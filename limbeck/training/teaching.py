"""Teaching: a lesson in, a teacher's labels out, part by part, so that nothing is asked twice."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.agents.asking import Prompting
from limbeck.agents.reranker import LLMReranker
from limbeck.corpus import Corpus
from limbeck.errors import DataError, LLMError, UsageError
from limbeck.fingerprint import digest, fingerprint
from limbeck.llm.model import CALL_FAILED
from limbeck.meter import Meter, metered, note
from limbeck.pipeline import Node, Pipeline
from limbeck.progress import announcer, track
from limbeck.training.asking import Asked
from limbeck.training.extended import Extended
from limbeck.training.folders import alone
from limbeck.training.labels import Labels, Origin, of_another_lesson
from limbeck.training.lesson import Lesson
from limbeck.training.questions import Question
from limbeck.types import Document, Query, Run

__all__ = ["taught"]

_TOGETHER = 64
"""Queries of a part: what a kill costs at most, and enough for a server to be busy."""

_NAMES = ("encoder", "model")
"""Of the parameters that name a model."""


def taught(lesson: Lesson, given: Asked, corpus: Corpus, out: Path) -> Labels:
    """Return a teacher's labels of the queries of a lesson; they are written to a folder.

    Queries are asked about in parts. A part that was done is not asked about again, whatever ended
    the attempt; the labels are there when all parts are.

    Args:
        lesson: whom to ask, and about which passages.
        given: the queries.
        corpus: the documents.
        out: the folder of the labels.

    Raises:
        DataError: no query has an answer, or none a label.
        LLMError: more prompts have no answer than are tolerated.
        UsageError: the folder holds the labels of another lesson, or is in use; or the teacher
            reads fewer passages than it is given.
    """
    with alone(out):
        labels = out / "labels"
        found = Labels.load(labels, corpus) if labels.is_dir() else None
        lesson = _bound(lesson, corpus)
        identity = _identity(lesson, given, corpus)
        if found is not None:
            if found.identity != identity:
                raise of_another_lesson(labels)
            announcer()(f"{labels} has the labels of this lesson")
            return found
        made = _parts(lesson, given, corpus, out / "parts" / identity, identity)
        whole = _with_queries(Labels.joined(made), given)
        _require_labels(whole, len(given.questions))
        whole.save(labels)
        shutil.rmtree(out / "parts")
        return whole


def _parts(
    lesson: Lesson, given: Asked, corpus: Corpus, folder: Path, identity: str
) -> list[Labels]:
    """Return the labels of all queries, part by part; what an earlier attempt did is read."""
    ranges = _ranges(len(given.questions))
    folders = {places: folder / f"{places.start:08d}" for places in ranges}
    missing = [places for places in ranges if not folders[places].is_dir()]
    if len(missing) < len(ranges):
        n_there = sum(len(places) for places in ranges) - sum(map(len, missing))
        announcer()(f"teaching goes on: {n_there:,} of {len(given.questions):,} queries are taught")
    for places in track(missing, label="parts of the queries taught", total=len(missing)):
        _teach(lesson, given, places, corpus, identity).save(folders[places])
    return [Labels.load(folders[places], corpus) for places in ranges]


def _require_labels(whole: Labels, n_asked: int) -> None:
    """Raise DataError where there is nothing to learn, with what was noted meanwhile."""
    noted = "; ".join(message for message, _ in whole.origin.notes)
    noted = f" (noted: {noted})" if noted else ""
    if not len(whole):
        raise DataError(
            f"a teacher must find what answers queries; of {n_asked:,} it finds nothing for any"
            f"{noted}; lower relevant, or raise depth"
        )
    if not len(whole.run.rows):
        raise DataError(
            f"a teacher must score passages; it scored none of any query{noted}; look whether it "
            "knows these queries and this corpus"
        )


def _with_queries(labels: Labels, given: Asked) -> Labels:
    """Return labels whose cost is also that of writing the queries."""
    origin = labels.origin
    usage, seconds = origin.usage + given.usage, origin.seconds + given.seconds
    return dataclasses.replace(
        labels, origin=dataclasses.replace(origin, usage=usage, seconds=seconds)
    )


def _bound(lesson: Lesson, corpus: Corpus) -> Lesson:
    """Return a lesson whose teacher and candidates know the corpus."""
    candidates = lesson.candidates and lesson.candidates.bind(corpus)
    teacher = _as_told(lesson.teacher.bind(corpus))
    return dataclasses.replace(lesson, teacher=teacher, candidates=candidates)


def _as_told(teacher: Node) -> Node:
    """Return a teacher that, where it ends in an LLM's answers, gives these and nothing else.

    Inside a pipeline an LLM's hits are what comes next reads, and all of them are.
    """
    if isinstance(teacher, LLMReranker):
        return dataclasses.replace(teacher, as_told=True)
    if isinstance(teacher, Pipeline):
        return Pipeline((*teacher.steps[:-1], _as_told(teacher.steps[-1])))
    return teacher


def _identity(lesson: Lesson, given: Asked, corpus: Corpus) -> str:
    """Return the digest of all that labels follow from."""
    told = [
        [question.query, question.positives.tolist(), source]
        for question, source in zip(given.questions, given.sources, strict=True)
    ]
    nodes = [lesson.teacher.fingerprint, lesson.candidates and lesson.candidates.fingerprint]
    how = [lesson.hits, lesson.relevant, lesson.dark, lesson.seed]
    return digest(corpus.fingerprint, fingerprint([nodes, how, told]))


def _ranges(n: int) -> list[range]:
    return [range(start, min(start + _TOGETHER, n)) for start in range(0, n, _TOGETHER)]


def _teach(lesson: Lesson, given: Asked, places: range, corpus: Corpus, identity: str) -> Labels:
    """Return the labels of some queries, asked for now."""
    questions = given.questions[places.start : places.stop]
    began = time.perf_counter()
    with metered() as meter:
        run = _scored(lesson, questions, corpus)
        _require_answers(lesson, meter)
        positives = tuple(_answers(lesson, run, n, each) for n, each in enumerate(questions))
        known = [place for place, rows in enumerate(positives) if len(rows)]
        if n_unknown := len(questions) - len(known):
            note("query not taught: the teacher finds nothing that answers it", n_unknown)
        if n_unlabelled := int((np.diff(run.bounds)[known] == 0).sum()):
            note("query without labels: the teacher scored none of its passages", n_unlabelled)
    origin = Origin(
        lesson.title or lesson.teacher.name,
        lesson.teacher.fingerprint,
        *_named(lesson.teacher),
        meter.usage,
        time.perf_counter() - began,
        tuple(meter.notes.items()),
    )
    return Labels(
        tuple(question.query for question in questions),
        given.sources[places.start : places.stop],
        positives,
        run,
        origin,
        identity,
    ).part(known)


def _require_answers(lesson: Lesson, meter: Meter) -> None:
    """Raise LLMError where calls failed: what they were about would have no label for good."""
    failed = {message: n for message, n in meter.notes.items() if CALL_FAILED in message}
    if sum(failed.values()) > lesson.tolerate * meter.usage.prompts:
        said = "; ".join(failed)
        raise LLMError(
            f"a teacher's LLM must answer; {sum(failed.values()):,} of {meter.usage.prompts:,} "
            f"prompts have no answer: {said}; mend that, and run again: what was answered is kept; "
            "or give as `tolerate` the share that may lack one"
        )


def _answers(lesson: Lesson, run: Run, place: int, question: Question) -> NDArray[np.int64]:
    """Return the positives of a query; where nobody knows any, what the teacher finds."""
    if len(question.positives):
        return question.positives
    where = run.segment(place)
    rows = run.rows[where].astype(np.int64)
    if lesson.relevant is None:
        return rows[:1]
    return np.sort(rows[run.scores[where] >= lesson.relevant])


def _named(teacher: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the models that a teacher names, and the digests of its prompts."""
    nodes = list(teacher.walk())
    prompting = [node for node in nodes if isinstance(node, Prompting)]
    models = [node.llm.model for node in prompting]
    models += [str(getattr(node, name)) for node in nodes for name in _NAMES if hasattr(node, name)]
    prompts = [fingerprint(node.prompt) for node in prompting]
    return tuple(dict.fromkeys(models)), tuple(dict.fromkeys(prompts))


def _scored(lesson: Lesson, questions: Sequence[Question], corpus: Corpus) -> Run:
    """Return the teacher's scores of the passages of some queries."""
    queries = [question.query for question in questions]
    if lesson.candidates is None:
        run: Run = lesson.teacher.top(lesson.hits)(queries)
        return dataclasses.replace(run, corpus=Extended(corpus, ()))
    found: Run = lesson.candidates.top(lesson.hits)(queries)
    listed = [_listed(found, place, question) for place, question in enumerate(questions)]
    dark = [
        _dark(lesson, question, rows, corpus)
        for question, rows in zip(questions, listed, strict=True)
    ]
    texts = Extended(corpus, [text for own in dark for text in own])
    shown = _shown(lesson, questions, listed, dark, texts)
    _require_depth(lesson.teacher, int(np.diff(shown.bounds).max(initial=0)))
    scored: Run = lesson.teacher(queries, shown)
    if n_missing := len(shown.rows) - len(scored.rows):
        note("passage without a label: the teacher left it out", n_missing)
    return _between(scored, questions) if lesson.dark and lesson.dark.between else scored


def _require_depth(teacher: Node, n: int) -> None:
    """Raise UsageError unless a teacher reads n passages of a query."""
    depths = (getattr(node, "depth", None) for node in teacher.walk())
    least = min((depth for depth in depths if isinstance(depth, int)), default=n)
    if least < n:
        raise UsageError(
            f"a teacher must read all that it is given, {n} passages of a query; its depth is "
            f"{least}; raise that to {n} or more"
        )


def _listed(found: Run, place: int, question: Question) -> NDArray[np.int64]:
    """Return the rows that are scored for a query: candidates, and positives not among them."""
    own = found.rows[found.segment(place)].astype(np.int64)
    return np.concatenate([own, np.setdiff1d(question.positives, own)])


def _dark(
    lesson: Lesson, question: Question, rows: NDArray[np.int64], corpus: Corpus
) -> list[Document]:
    """Return the dark examples of a query; its negatives are its candidates."""
    if lesson.dark is None:
        return []
    query = question.query
    negatives = np.setdiff1d(rows, question.positives)
    return lesson.dark.of(
        query.query_id,
        query.text,
        [corpus.document(row) for row in question.positives.tolist()],
        [corpus.document(row) for row in negatives.tolist()],
        _rng(lesson, query),
    )


def _rng(lesson: Lesson, query: Query) -> np.random.Generator:
    return np.random.default_rng([lesson.seed, *query.query_id.encode()])


def _shown(
    lesson: Lesson,
    questions: Sequence[Question],
    listed: Sequence[NDArray[np.int64]],
    dark: Sequence[Sequence[Document]],
    texts: Extended,
) -> Run:
    """Return what the teacher is shown: candidates in their order, dark examples anywhere."""
    shown: list[NDArray[np.int64]] = []
    for question, rows, own in zip(questions, listed, dark, strict=True):
        made = np.array([texts.row(text.doc_id) for text in own], dtype=np.int64)
        rng = _rng(lesson, question.query)
        shown.append(np.insert(rows, rng.integers(len(rows) + 1, size=len(made)), made))
    bounds = np.cumsum([0, *map(len, shown)], dtype=np.int64)
    falling = [np.arange(len(rows), 0, -1) for rows in shown]
    return Run(
        tuple(question.query.query_id for question in questions),
        bounds,
        np.concatenate(shown).astype(np.int32),
        np.concatenate(falling).astype(np.float32),
        "rank",
        texts,
    )


def _between(run: Run, questions: Sequence[Question]) -> Run:
    """Return a run without the dark examples that are not between negatives and positives."""
    assert isinstance(run.corpus, Extended)
    n = len(run.corpus.corpus)
    kept = np.ones(len(run.rows), dtype=bool)
    for place, question in enumerate(questions):
        where = run.segment(place)
        rows, scores = run.rows[where], run.scores[where]
        is_positive, is_dark = np.isin(rows, question.positives), rows >= n
        best = scores[is_positive].max(initial=-np.inf)
        worst = scores[~is_positive & ~is_dark].max(initial=-np.inf)
        kept[where] = ~is_dark | ((scores < best) & (scores > worst))
    return run.select(kept)
