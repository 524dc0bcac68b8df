"""The card of a trained model: what it is, how it was trained, and how good it was meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from limbeck.retrieval.encoders.conventions import MINILM
from limbeck.retrieval.encoders.folders import is_path
from limbeck.training.examples import Examples
from limbeck.training.preparing import Job
from limbeck.training.recipe import Recipe
from limbeck.training.students import CrossEncoderStudent
from limbeck.training.watching import MEASURE, Watcher

__all__ = ["Trained", "card"]

_LIBRARIES = ("limbeck", "sentence-transformers", "transformers", "torch")

_MINILM_THERE = "sentence-transformers/all-MiniLM-L6-v2"

_KINDS: dict[str, tuple[str, str | None]] = {
    "adapter": ("sentence-similarity", None),
    "dense": ("sentence-similarity", "SentenceTransformer"),
    "colbert": ("sentence-similarity", "MultiVectorEncoder"),
    "splade": ("feature-extraction", "SparseEncoder"),
    "cross-encoder": ("text-ranking", "CrossEncoder"),
}
"""By the kind of student: the task as the hub names it, and the class that loads the model; None
where none does."""


@dataclass(frozen=True)
class Trained:
    """What became of a run.

    Attributes:
        model: the folder of the model.
        n_steps: steps that were done.
        best_step: the step whose weights it has.
        best_score: their nDCG@10 on the dev split; None where nothing was watched.
    """

    model: Path
    n_steps: int
    best_step: int
    best_score: float | None


def card(job: Job, trained: Trained) -> str:
    """Return the card, in Markdown with the hub's metadata in front."""
    return "\n".join([*_front(job), *_body(job, trained)]) + "\n"


def _front(job: Job) -> Iterator[str]:
    task, loads = _KINDS[job.recipe.model.name]
    base = _on_hub(job.recipe.model.base)
    told = {
        **({"library_name": "sentence-transformers"} if loads else {}),
        "pipeline_tag": task,
        **({} if base is None else {"base_model": base}),
        "tags": ["limbeck", job.recipe.objective.name, job.recipe.model.name],
    }
    yield "---"
    yield yaml.safe_dump(told, sort_keys=False).strip()
    yield "---"


def _on_hub(base: str) -> str | None:
    """Return what the hub calls a model; None for a folder, which it does not know."""
    if base == MINILM:
        return _MINILM_THERE
    return None if is_path(base) or Path(base).is_dir() else base


def _body(job: Job, trained: Trained) -> Iterator[str]:
    recipe, examples = job.recipe, job.examples
    yield f"# {job.folders.out.resolve().name}"
    yield ""
    yield (
        f"A {recipe.model.name} model from {recipe.model.base}, trained with "
        f"{recipe.objective.name} for {trained.n_steps:,} steps; the weights are those of "
        f"step {trained.best_step:,}. {_loading(recipe.model.name)}"
    )
    yield ""
    yield "## Data"
    yield ""
    unit = "documents" if examples.documents is None else "passages"
    yield (
        f"{job.folders.data.resolve().name}, {_source(recipe, examples)}: "
        f"{len(examples.queries):,} queries, {len(examples.corpus):,} {unit} "
        f"(corpus {examples.corpus.fingerprint[:12]})."
    )
    if job.watcher is not None:
        yield (
            f"Watched on {len(job.watcher.queries):,} queries of {_dev(recipe.data.dev)}, over "
            f"{_watched_over(job.watcher, recipe, unit)}."
        )
    if trained.best_score is not None:
        yield from _curve(job)
    yield ""
    yield "## Recipe"
    yield ""
    yield "```yaml"
    yield yaml.safe_dump(_plain(recipe), sort_keys=False, allow_unicode=True).strip()
    yield "```"
    yield ""
    if found := recipe.objective.found:
        told = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        yield f"Found at the beginning: {told}."
        yield ""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    yield f"Made with {versions}, on {job.ranks.n} process(es), {job.ranks.device.type}."


def _source(recipe: Recipe, examples: Examples) -> str:
    """Return where the queries are from."""
    if examples.labels is None:
        return f"split {recipe.data.split}"
    kinds = ", ".join(sorted(set(examples.labels.sources)))
    return f"labels by {examples.labels.origin.teacher} of queries from {kinds}"


def _dev(dev: str | float | None) -> str:
    return f"split {dev}" if isinstance(dev, str) else "those held out of training"


def _loading(kind: str) -> str:
    """Return how a model of a kind is loaded, in a sentence."""
    _, loads = _KINDS[kind]
    if loads is None:
        return "Name its folder as the encoder of `dense` in a Limbeck pipeline."
    return (
        f"Load it with `sentence_transformers.{loads}(folder)`, or name its folder in a Limbeck "
        "pipeline."
    )


def _watched_over(watcher: Watcher, recipe: Recipe, unit: str) -> str:
    """Return what is put in order for the dev queries, in words."""
    pool = recipe.watch and recipe.watch.pool
    if not pool:
        return f"all {len(watcher.pool):,} {unit}"
    if recipe.model.name == CrossEncoderStudent.name:
        return f"the first {pool:,} hits of each"
    return f"{len(watcher.pool):,} {unit}, of their first {pool:,} hits and all that is judged"


def _curve(job: Job) -> Iterator[str]:
    yield ""
    yield "## Scores"
    yield ""
    yield f"| step | {MEASURE} on the dev split |"
    yield "|---|---|"
    for line in job.journal.lines():
        if "dev" in line:
            yield f"| {line['step']:,} | {line['dev']:.4f} |"


def _plain(value: Any) -> Any:
    """Return a recipe as plain data: what is named in recipes by its name."""
    if hasattr(value, "fingerprint"):
        return f"{getattr(value, 'name', type(value).__name__)} ({value.fingerprint[:12]})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        held = {name: field for name, field in fields.items() if field is not None}
        name = getattr(type(value), "name", None)
        return {name: held} if isinstance(name, str) else held
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Path) else value
