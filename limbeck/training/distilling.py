"""Distilling a pipeline: it teaches, a student learns, and what the student keeps is measured."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from limbeck.artifact import write_atomically
from limbeck.corpus import Corpus
from limbeck.errors import CheckError, LimbeckError, TrainingError, UsageError
from limbeck.eval.datasets import Dataset
from limbeck.eval.experiment import Experiment
from limbeck.eval.report import write_report
from limbeck.meter import note
from limbeck.pipeline import Node, Pipeline
from limbeck.retrieval.colbert import ColBERT
from limbeck.retrieval.cross_encoder import CrossEncoder
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.splade import Splade
from limbeck.training.asking import Asked, asked
from limbeck.training.diagnostics import certainty
from limbeck.training.export import export_onnx
from limbeck.training.folders import Folders
from limbeck.training.journal import Journal
from limbeck.training.labels import Labels
from limbeck.training.lesson import Lesson
from limbeck.training.loop import train
from limbeck.training.matching import mismatches
from limbeck.training.recipe import Recipe
from limbeck.training.retention import BASE, EXPORTED, STUDENT, TEACHER, Lessons, Retention
from limbeck.training.retention_page import render_card
from limbeck.training.saving import save_untrained
from limbeck.training.teaching import taught

__all__ = ["distilled", "student_node", "with_student"]

_TRAINING = "training"
_MEASURES = ("nDCG@10", "R@100")
_TAKEN = ("seconds", "dev_seconds")
"""What a run's log has of the time of steps and of looks at the dev split."""

_RETRIEVERS: dict[str, Callable[..., Node]] = {
    "dense": Dense,
    "adapter": Dense,
    "colbert": ColBERT,
    "splade": Splade,
}
"""By the kind of student; a cross-encoder is none."""


def distilled(
    lesson: Lesson,
    recipe: Recipe,
    folder: Path,
    out: Path,
    *,
    split: str = "test",
    command: str = "",
    spec: str = "",
) -> Retention:
    """Return what a student keeps of a pipeline that taught it.

    All steps go on where they were when they are called for again. Below `out` are then the labels,
    the training run with its model, the report of an evaluation, and the card: retention.json and
    retention.html.

    Args:
        lesson: who teaches what.
        recipe: how the student learns it.
        folder: the collection, in BEIR layout.
        out: where everything is written.
        split: that teacher, student and base are measured on.
        command: the command line, to be shown in the report.
        spec: the text of the spec, likewise; it must hold no secrets.

    Raises:
        LimbeckError: a step cannot be done, or a pipeline cannot be measured.
    """
    _require_match(lesson, recipe)
    corpus = Corpus.load(folder)
    dataset = Dataset.load(folder, split, corpus=corpus)
    if split not in lesson.apart:
        raise UsageError(
            f"the split that is measured on must be kept apart; {split!r} is not among "
            f"{', '.join(lesson.apart) or 'none'}; name it under teach.apart"
        )
    lesson = _apart_from_dev(lesson, recipe.data.dev, split)
    given = asked(lesson, folder, corpus, out)
    labels = taught(lesson, given, corpus, out)
    data = dataclasses.replace(recipe.data, labels=out / "labels")
    training = out / _TRAINING
    model = train(dataclasses.replace(recipe, data=data), folder, training).model
    pipelines = _compared(lesson, recipe, model, out)
    report = Experiment(pipelines, [dataset], measures=_MEASURES, out=out / "report").run()
    if report.failures:
        raise TrainingError("; ".join(report.failures))
    write_report(report, out / "report", command=command, spec=spec)
    lessons = _lessons(labels, given, Folders(training, folder))
    card = Retention(report.datasets[0], report.measures[0], lessons, lesson.gate)
    write_atomically(out / "retention.html", render_card(card, report))
    write_atomically(out / "retention.json", json.dumps(card.to_json(), indent=1) + "\n")
    return card


def _require_match(lesson: Lesson, recipe: Recipe) -> None:
    """Raise LimbeckError where a recipe cannot learn what a lesson teaches."""
    if recipe.data.labels is not None:
        raise UsageError(
            "the labels that are learned are those that the teacher writes; got "
            f"{recipe.data.labels} as train.data.labels besides; leave it out, or learn from these "
            "alone with `limbeck train`"
        )
    if problems := mismatches(lesson, recipe):
        raise CheckError(problems)


def _apart_from_dev(lesson: Lesson, dev: str | float | None, split: str) -> Lesson:
    """Return a lesson that teaches nothing like a query of the dev split.

    Raises:
        UsageError: the best weights would be chosen on the split that is measured on.
    """
    if dev == split:
        raise UsageError(
            f"the split that is measured on must not choose the weights; {split!r} is also "
            "train.data.dev; name another split, or a share of the training queries"
        )
    if isinstance(dev, str) and dev not in lesson.apart:
        return dataclasses.replace(lesson, apart=(*lesson.apart, dev))
    return lesson


def _compared(lesson: Lesson, recipe: Recipe, model: Path, out: Path) -> dict[str, Node]:
    """Return the pipelines that are measured, the teacher first."""
    teacher = lesson.teacher
    if lesson.candidates is not None:
        teacher = lesson.candidates.top(lesson.hits) >> teacher
    kind = recipe.model.name
    held = {TEACHER: teacher, STUDENT: student_node(kind, str(model), lesson)}
    if kind == "dense" and (exported := _exported(model, out / "exported")):
        held[EXPORTED] = student_node(kind, str(exported), lesson)
    return held | {BASE: _base(recipe, lesson, out / _TRAINING / "base")}


def _exported(model: Path, out: Path) -> Path | None:
    """Return the folder of the student in 8 bits; None, and a note, where it cannot be exported."""
    try:
        if not out.is_dir() or _changed_at(out) < _changed_at(model):
            export_onnx(model, out)
    except LimbeckError as error:
        note(f"the student was not exported: {error}")
        return None
    return out


def _changed_at(folder: Path) -> float:
    """Return when a folder was written: each is moved to its place as a whole."""
    return (folder / "modules.json").stat().st_mtime


def student_node(kind: str, model: str, lesson: Lesson) -> Node:
    """Return the pipeline that a trained student is.

    Args:
        kind: of student.
        model: its folder.
        lesson: whose candidates a cross-encoder puts in order.

    Raises:
        UsageError: a cross-encoder, and there are no candidates.
    """
    if kind in _RETRIEVERS:
        return _RETRIEVERS[kind](encoder=model)
    if lesson.candidates is None:
        raise UsageError(
            "a cross-encoder must have hits to put in order; name candidates under teach"
        )
    return lesson.candidates.top(lesson.hits) >> CrossEncoder(model, depth=lesson.hits)


def with_student(node: Node, lesson: Lesson, student: Node) -> Node:
    """Return a node in which a student stands wherever the teacher stood.

    Where that is a reranker, the student stands for all before it too, whose hits it was given.
    """
    if node == lesson.teacher:
        return student
    if isinstance(node, Pipeline) and (where := _steps_of(lesson.teacher, node)):
        before = node.steps[: where.start] if lesson.candidates is None else ()
        steps = (*before, student, *node.steps[where.stop :])
        return Pipeline(steps) if len(steps) > 1 else student
    return node.with_children(lambda child: with_student(child, lesson, student))


def _steps_of(teacher: Node, pipeline: Pipeline) -> slice | None:
    """Return where a teacher's steps stand among those of a pipeline, None where they do not."""
    own = teacher.steps if isinstance(teacher, Pipeline) else (teacher,)
    places = (slice(n, n + len(own)) for n in range(len(pipeline.steps) - len(own) + 1))
    return next((place for place in places if pipeline.steps[place] == own), None)


def _base(recipe: Recipe, lesson: Lesson, folder: Path) -> Node:
    """Return what the student was before its first step; of a cross-encoder, what it sorts.

    It reads as the student does, to the same lengths, so that they differ by what was learned. Its
    folder lies in that of the run, which holds one recipe.
    """
    kind = recipe.model.name
    if kind == "cross-encoder":
        assert lesson.candidates is not None, "student_node refuses this"
        return lesson.candidates.top(lesson.hits)
    if not folder.is_dir():
        save_untrained(recipe, folder)
    return student_node(kind, str(folder), lesson)


def _lessons(labels: Labels, given: Asked, training: Folders) -> Lessons:
    origin = labels.origin
    steps = Journal(training.log).lines()
    return Lessons(
        n_queries=len(labels),
        n_labels=len(labels.run.rows),
        usd=origin.usage.usd + origin.usage.saved_usd,
        teaching_s=origin.seconds,
        replayed=origin.usage.saved_calls > 0,
        training_s=float(sum(line.get(name, 0.0) for line in steps for name in _TAKEN)),
        n_apart=given.n_apart,
        leaks=tuple(map(str, given.leaks)),
        notes=origin.notes,
        dark=dict(certainty(labels)) if labels.texts.more else {},
    )
