"""Commands that make a student of a pipeline: let it teach, and distil it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limbeck.cli.app import closing, command_line, noted, one_line, root, with_progress
from limbeck.cli.options import CHANGES, DATA, JSON, OUT
from limbeck.errors import TrainingError, UsageError

if TYPE_CHECKING:
    from limbeck.pipeline import Node
    from limbeck.spec.spec import Spec
    from limbeck.training.asking import Asked
    from limbeck.training.labels import Labels
    from limbeck.training.lesson import Lesson
    from limbeck.training.retention import Retention

__all__ = ["distill", "teach"]

_GRADED = ("grade", "unknown")
"""Kinds of scores that may be grades as people give them; recorded ones are unknown."""

_SPEC = click.argument("spec", type=click.Path(path_type=Path))


@root.command("teach")
@_SPEC
@CHANGES
@DATA
@OUT
@click.option("--judged-in", metavar="SPLIT", help="Compare labels with what people say there.")
@click.option("--at", default=1, show_default=True, help="Their lowest grade that is relevant.")
@click.option("--labels-at", type=float, help="The lowest label that is; unless given, as --at.")
@JSON
@with_progress
def teach(
    spec: Path,
    changes: tuple[str, ...],
    data: Path,
    out: Path,
    judged_in: str | None,
    at: int,
    labels_at: float | None,
    as_json: bool,  # noqa: FBT001 - click passes it by name
) -> None:
    """Let a pipeline of SPEC label passages, as its section `teach` says.

    KEY=VALUE changes a parameter of that section, as depth=20. Labels are written to OUT/labels,
    and how they look to OUT/labels.html. What was labelled before a stop is not asked about again.
    """
    from limbeck.artifact import write_atomically
    from limbeck.corpus import Corpus
    from limbeck.eval.datasets import Dataset
    from limbeck.spec.spec import Spec
    from limbeck.spec.tapes import with_cassettes
    from limbeck.training.agreement import agreement
    from limbeck.training.asking import asked
    from limbeck.training.diagnostics import certainty
    from limbeck.training.labels_page import render_labels
    from limbeck.training.teaching import taught

    read = with_cassettes(Spec.load(spec, changes, section="teach"), out / "tapes")
    lesson = _lesson(read, spec)
    corpus = Corpus.load(data)
    people = judged_in and Dataset.load(data, judged_in, corpus=corpus).qrels
    with closing(read), noted():
        given = asked(lesson, data, corpus, out)
        labels = taught(lesson, given, corpus, out)
    sure = certainty(labels)
    agreed = None
    if people:
        said = {query_id: dict(hits) for query_id, hits in labels.candidates.items()}
        least = _relevant_from(labels, at) if labels_at is None else labels_at
        agreed = agreement(said, people, at=at, labels_at=least)
    write_atomically(out / "labels.html", render_labels(labels, given, sure, agreed))
    told = _told(labels, given) | {"certainty": dict(sure)}
    if agreed is not None:
        told["agreement"] = dataclasses.asdict(agreed)
    if as_json:
        click.echo(json.dumps(told | {"labels": str(out / "labels")}))
        return
    click.echo(
        f"{out / 'labels'}: {told['n_labels']:,} labels of {told['n_queries']:,} queries, kind "
        f"{told['kind']}, in {told['seconds']:,.0f} s, for {told['usd']:.4f} USD"
    )
    click.echo(_guarded(told["leaks"], told["n_apart"]))
    if agreed is not None:
        click.echo(f"agreement with {judged_in}: {agreed}")
    for name, value in told["certainty"].items():
        click.echo(f"  {name}: {value:.4g}")


def _relevant_from(labels: Labels, at: int) -> float:
    """Return the label that counts as relevant where nobody says it: the same grade."""
    if labels.run.kind not in _GRADED:
        raise UsageError(
            f"labels of the kind {labels.run.kind} must be told from which score on they count as "
            "relevant; add --labels-at SCORE"
        )
    return at


def _lesson(spec: Spec, file: Path) -> Lesson:
    if spec.lesson is None:
        raise UsageError(f"{file} must have a section `teach`; it has none; add one")
    teacher = spec.lesson.teacher
    names = (name for name, node in spec.pipelines.items() if node == teacher)
    return dataclasses.replace(spec.lesson, title=next(names, ""))


def _told(labels: Labels, given: Asked) -> dict[str, Any]:
    usage = labels.origin.usage
    return {
        "n_queries": len(labels),
        "n_labels": len(labels.run.rows),
        "kind": labels.run.kind,
        "seconds": labels.origin.seconds,
        "usd": usage.usd + usage.saved_usd,
        "leaks": [str(leak) for leak in given.leaks],
        "n_apart": given.n_apart,
    }


def _guarded(leaks: Sequence[str], n_apart: int) -> str:
    """Return what the leak guard found, in lines."""
    if not leaks:
        return f"leak guard: clean, of {n_apart:,} queries that are kept apart"
    head = (
        f"leak guard: {len(leaks):,} queries were kept out, as they are like some of the "
        f"{n_apart:,} that are kept apart"
    )
    return "\n".join([head, *(f"  {leak}" for leak in leaks)])


@root.command("distill")
@_SPEC
@CHANGES
@DATA
@OUT
@click.option("--split", default="test", show_default=True, help="What all are measured on.")
@click.option(
    "--gate",
    type=float,
    help="The retention to reach, as .95, and above the base; else that of the spec.",
)
@JSON
@with_progress
def distill(
    spec: Path,
    changes: tuple[str, ...],
    data: Path,
    out: Path,
    split: str,
    gate: float | None,
    as_json: bool,  # noqa: FBT001 - click passes it by name
) -> None:
    """Make a student of a pipeline of SPEC, and measure what it keeps of its teacher.

    The sections `teach` and `train` say how. KEY=VALUE changes a parameter of either, as
    teach.depth=20 or train.epochs=3. Below OUT are then the labels, the model, the report, the
    retention card, and spec.yaml, in which the student stands where the teacher stood. A run that
    was stopped goes on when the same command is given again.
    """
    from limbeck.retrieval.encoders.folders import require_torch
    from limbeck.spec.spec import Spec
    from limbeck.spec.tapes import with_cassettes

    require_torch("distill", extra="training")
    read = Spec.load(spec, changes, section="")
    taped = with_cassettes(read, out / "tapes")
    lesson = _lesson(taped, spec)
    if gate is not None:
        lesson = dataclasses.replace(lesson, gate=gate)
    if read.recipe is None:
        raise UsageError(f"{spec} must have a section `train`; it has none; add one")
    from limbeck.training.distilling import distilled

    with closing(taped), noted():
        text = spec.read_text(encoding="utf-8")  # the command line says what stands above it
        card = distilled(
            lesson, read.recipe, data, out, split=split, command=command_line(), spec=text
        )
    _replace(read, _lesson(read, spec), read.recipe.model.name, out)
    if as_json:
        click.echo(json.dumps(card.to_json()))
    else:
        _tell(card, out)
    if not card.passes:
        came = f"it keeps {card.retention:.1%}, and its base {card.of_base:.1%}"
        raise TrainingError(
            f"a student must keep {card.gate:.1%} of its teacher's {card.measure}, and more than "
            f"its base; {came}; train longer, teach more queries, or lower the gate"
        )


def _replace(spec: Spec, lesson: Lesson, kind: str, out: Path) -> None:
    """Write the spec in which the student stands where the teacher stood."""
    from limbeck.artifact import write_atomically
    from limbeck.spec.spec import Spec
    from limbeck.training.distilling import student_node, with_student

    student = student_node(kind, "training/model", lesson)
    replaced = {name: with_student(node, lesson, student) for name, node in spec.pipelines.items()}
    if replaced == spec.pipelines:
        replaced["student"] = student
    kept = {name: node for name, node in replaced.items() if _is_writable(name, node, out)}
    write_atomically(out / "spec.yaml", Spec.of(kept, folder=out).dump())


def _is_writable(name: str, node: Node, out: Path) -> bool:
    """Return whether a pipeline can stand in a spec of a folder; where not, say so."""
    from limbeck.spec.spec import Spec

    try:
        Spec.of({name: node}, folder=out).dump()
    except UsageError as error:
        click.echo(f"{name} is not in {out / 'spec.yaml'}: {one_line(error)}", err=True)
        return False
    return True


def _tell(card: Retention, out: Path) -> None:
    for pipeline in card.result.pipelines:
        score = pipeline.scores[card.measure]
        click.echo(
            f"{pipeline.name}: {card.measure} {score.mean:.4f} ({score.low:.3f} to "
            f"{score.high:.3f}), {pipeline.ms_per_query:.1f} ms a query"
        )
    if card.is_above_base:
        kept = "" if card.gain_kept is None else f", {card.gain_kept:.0%} of its gain"
    else:
        kept = f": the lesson brought nothing ({card.to_base.difference:+.4f} to its base, "
        kept += f"p {card.to_base.p:.3f})"
    click.echo(_guarded(card.lessons.leaks, card.lessons.n_apart))
    click.echo(
        f"retention {card.retention:.1%}, of the base {card.of_base:.1%}{kept}; "
        f"{out / 'retention.html'}"
    )
