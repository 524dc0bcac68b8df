"""A run before its first step: everything that the loop works with, made from a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limbeck.corpus import Corpus
from limbeck.errors import UsageError
from limbeck.fingerprint import canonical_json, digest, fingerprint
from limbeck.progress import announcer
from limbeck.training.candidates import Candidates
from limbeck.training.examples import Examples
from limbeck.training.feed import Feed
from limbeck.training.folders import Folders, claim
from limbeck.training.journal import Journal, tracker_named
from limbeck.training.labels import Labels
from limbeck.training.lora import with_lora
from limbeck.training.negatives import first_negatives
from limbeck.training.networks import Network, network
from limbeck.training.objective import STUDENT
from limbeck.training.optimisers import optimiser
from limbeck.training.ranks import Ranks
from limbeck.training.recipe import Recipe
from limbeck.training.watching import Watcher

__all__ = ["Job", "examples_of", "prepare", "student_of"]

_LOOKED_AT = 64
"""Batches that a method sees before the first step."""

_SMALL_TAU = 0.2
"""Of cosines; inner products that are not of unit vectors have 1."""

_GRAPHS = 64
"""Of one model at most: each width, with a gradient and without, of two towers."""


@dataclass(eq=False)
class Job:
    """A run.

    Attributes:
        networks: the student, and others that the method needs.
        weights: those that are trained, by name.
        watcher: of the process that leads, where the recipe watches.
        n_steps: of the whole run.
    """

    recipe: Recipe
    folders: Folders
    ranks: Ranks
    examples: Examples
    networks: Mapping[str, Network]
    weights: dict[str, torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    candidates: Candidates
    feed: Feed
    watcher: Watcher | None
    journal: Journal
    n_steps: int

    @property
    def student(self) -> Network:
        """The network that is trained."""
        return self.networks[STUDENT]

    @property
    def leads(self) -> bool:
        """Whether this process writes: one of them does."""
        return self.ranks.rank == 0


def prepare(recipe: Recipe, folder: Path, out: Path, *, ranks: Ranks) -> Job:
    """Return the run of a recipe.

    Args:
        recipe: what to do.
        folder: the collection, in BEIR layout.
        out: where everything is written.
        ranks: who train together.

    Raises:
        LimbeckError: the data, the model or the recipe cannot be trained with.
    """
    if recipe.negatives and recipe.negatives.of is None and recipe.data.labels is None:
        raise UsageError(
            "negatives must be of a pipeline, or a teacher's: name `of`, or labels under data"
        )
    folders = Folders(out, folder)
    examples = examples_of(recipe, folder)
    identity = _identity(recipe, examples)
    if ranks.rank == 0:
        claim(folders, identity)
    announcer()(_told_of(examples))
    networks = _networks(recipe, examples, ranks)
    student = networks[STUDENT]
    _tell_of_scale(recipe, student)
    candidates = Candidates(folders.candidates, examples.corpus)
    _mine(recipe, examples, candidates, ranks)
    feed = Feed(recipe, examples, student.tables["query"], student.tables["document"], candidates)
    weights = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
    ranks.spread(weights.values())
    n_steps = _n_steps(recipe, feed)
    recipe.objective.begin(examples, feed.first(_LOOKED_AT), n_steps)
    named = digest(identity, str(out.resolve()))
    tracker = None if ranks.rank else tracker_named(recipe.tracker, out, named)
    return Job(
        recipe=recipe,
        folders=folders,
        ranks=ranks,
        examples=examples,
        networks=networks,
        weights=weights,
        optimiser=optimiser(recipe.optimiser, weights.values()),
        candidates=candidates,
        feed=feed,
        watcher=None if ranks.rank else _watcher(recipe, examples),
        journal=Journal(folders.log, tracker),
        n_steps=n_steps,
    )


def _told_of(examples: Examples) -> str:
    """Return in words what a run trains on."""
    dev = 0 if examples.dev is None else len(examples.dev.queries)
    what = "documents" if examples.documents is None else "passages"
    watched = f", {dev:,} on dev" if dev else ""
    return f"{len(examples.queries):,} training queries{watched}; {len(examples.corpus):,} {what}"


def _tell_of_scale(recipe: Recipe, student: Network) -> None:
    """Say what is seldom meant: inner products of any size, divided by a small temperature."""
    from sentence_transformers.base.modules import Normalize

    tau = getattr(recipe.objective, "tau", 1.0)
    if recipe.model.name != "dense" or tau > _SMALL_TAU:
        return
    if not any(isinstance(module, Normalize) for module in student.model.modules()):
        announcer()(
            f"the student's vectors are not normalised, and tau is {tau}: the loss begins high; "
            "give model.normalise=true, or objective.tau=1"
        )


def _n_steps(recipe: Recipe, feed: Feed) -> int:
    """Return the steps of a run.

    Raises:
        UsageError: its epochs are less than one, or it warms up for longer.
    """
    accumulated = recipe.batch.accumulated
    n_steps = recipe.steps or feed.steps(recipe.epochs or 1, accumulated)
    if n_steps < 1:
        raise UsageError(
            f"{recipe.epochs} epochs must be a step of {accumulated} batches or more; they are "
            "less; lower accumulated, or train longer"
        )
    recipe.optimiser.warm_up_steps(n_steps)
    return n_steps


def _identity(recipe: Recipe, examples: Examples) -> str:
    """Return the digest of what shapes a model: a run goes on only as what it is."""
    taught = [
        [query.query_id, query.text, rows.tolist()]
        for query, rows in zip(examples.queries, examples.positives, strict=True)
    ]
    labels = examples.labels and examples.labels.digest
    dev = examples.dev and [[q.query_id, q.text] for q in examples.dev.queries]
    judged = examples.dev and examples.dev.qrels.fingerprint
    models = [student.digest for student in (recipe.model, *recipe.objective.given())]
    shaping = fingerprint(recipe.shaping())
    told = canonical_json([models, taught, labels, dev, judged])
    return digest(shaping, examples.corpus.fingerprint, told)


def _networks(recipe: Recipe, examples: Examples, ranks: Ranks) -> dict[str, Network]:
    """Return the student and what it is taught by, each with the tokens of all texts."""
    others = recipe.objective.others(recipe.computing(ranks.device.type))
    networks = {STUDENT: student_of(recipe), **others}
    dev = examples.dev.queries if examples.dev is not None and recipe.watch else ()
    for name, each in networks.items():
        each.model.to(ranks.device)
        separator = recipe.model.between if name == STUDENT else " "
        each.read(examples.texts, [*examples.queries, *dev], separator=separator)
    return networks


def examples_of(recipe: Recipe, folder: Path) -> Examples:
    """Return what a recipe trains on."""
    data = recipe.data
    if data.labels is not None:
        labels = Labels.load(data.labels, Corpus.load(folder))
        return Examples.taught(labels, folder, dev=data.dev, seed=recipe.seed)
    examples = Examples.load(folder, split=data.split, dev=data.dev, seed=recipe.seed)
    if data.passages is None:
        return examples
    return examples.cut(data.passages, data.max_passages)


def student_of(recipe: Recipe) -> Network:
    """Return the network that a recipe trains, with new matrices where it says LoRA."""
    torch.manual_seed(recipe.seed)
    model = recipe.model.load()
    student = network(model, recipe.computing("cuda" if torch.cuda.is_available() else "cpu"))
    for reader in student.readers:
        if recipe.lora:
            reader.model = with_lora(reader.model, recipe.lora)
        if recipe.checkpointed:
            reader.model.activation_checkpointing_enable({"use_reentrant": False})
        if recipe.compiled:
            reader.model.forward = _compiled(reader.model.forward)
    model.train()
    return student


def _compiled(forward: Any) -> Any:
    """Return a model's forward, compiled anew for each of its few shapes."""
    torch._dynamo.config.recompile_limit = max(_GRAPHS, torch._dynamo.config.recompile_limit)
    return torch.compile(forward, dynamic=False)


def _mine(recipe: Recipe, examples: Examples, candidates: Candidates, ranks: Ranks) -> None:
    """Find the first negatives, once; the other ranks wait for them."""
    negatives = recipe.negatives
    refresh = negatives and negatives.refresh
    if refresh and refresh.parts > len(examples.queries):
        raise UsageError(
            f"refresh.parts must be the number of training queries, {len(examples.queries):,}, or "
            f"less; got {refresh.parts:,}; lower it"
        )
    if negatives is not None and not ranks.rank and candidates.newest() is None:
        announcer()("finding the first negatives")
        made = first_negatives(examples, negatives, seed=recipe.seed)
        made_by = negatives.of.fingerprint if negatives.of else "labels"
        candidates.publish(made.run, made_by=made_by, notes=made.notes)
    ranks.wait()


def _watcher(recipe: Recipe, examples: Examples) -> Watcher | None:
    watch, negatives = recipe.watch, recipe.negatives
    if watch is None:
        return None
    pool_of = negatives.of if negatives and watch.pool else None
    source = pool_of and pool_of.bind(examples.corpus)
    return Watcher.of(examples, watch, source=source, first=len(examples.queries), seed=recipe.seed)
