"""The batches of a run, one after the other, and where in the run the next one is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.meter import note
from limbeck.training.batches import Batch, Batches, Draw
from limbeck.training.candidates import FIRST, Candidates
from limbeck.training.examples import Examples
from limbeck.training.objective import Objective
from limbeck.training.recipe import Recipe
from limbeck.training.tokens import TokenTable
from limbeck.types import Run

__all__ = ["Feed"]


class Feed:
    """Gives batches, from the negatives of one version at a time."""

    def __init__(
        self,
        recipe: Recipe,
        examples: Examples,
        queries: TokenTable,
        documents: TokenTable,
        candidates: Candidates,
    ) -> None:
        """Keep what batches are made of.

        Args:
            recipe: how large they are.
            examples: what they are of.
            queries: whose lengths tell which examples are alike.
            documents: the same.
            candidates: the versions of the negatives. Which queries are trained on, and in which
                order, follows from the first one, so that a refresh changes neither.

        Raises:
            DataError: the method needs hard negatives, and no query has one.
        """
        negatives = recipe.negatives
        n_negatives = 0 if negatives is None else negatives.n
        self._first = first = None if negatives is None else candidates.load(FIRST)
        self._trained = _trained(examples, first, recipe.objective)
        self._batches = Batches(
            _lengths(examples, queries, documents, first, n_negatives)[self._trained],
            seed=recipe.seed,
            examples=recipe.batch.examples,
            tokens=recipe.batch.tokens,
        )
        self._draw = Draw(
            examples.positives, examples.spared, n_negatives=n_negatives, seed=recipe.seed
        )
        self._candidates = candidates
        self._epoch, self._place = 0, 0
        self._order = self._batches.epoch(0)
        self._run: Run | None = None
        self.version: int | None = None

    def steps(self, epochs: int, accumulated: int) -> int:
        """Return the steps of so many epochs, of so many batches each."""
        return sum(len(self._batches.epoch(n)) for n in range(epochs)) // accumulated

    def first(self, n: int) -> Iterator[Batch]:
        """Yield the first n batches, with the first negatives; the run does not move on."""
        for chosen in self._batches.epoch(0)[:n]:
            yield self._batch(chosen, 0, self._first)

    def adopt(self, version: int) -> None:
        """Draw negatives from another version, from the next batch on, and note what it lacks."""
        if version == self.version:
            return
        self._run, self.version = self._candidates.load(version), version
        for message, times in self._candidates.told(version)["notes"].items():
            note(message, times)

    def next(self) -> Batch:
        """Return the next batch."""
        while self._place >= len(self._order):
            self._epoch, self._place = self._epoch + 1, 0
            self._order = self._batches.epoch(self._epoch)
        self._place += 1
        return self._batch(self._order[self._place - 1], self._epoch, self._run)

    def _batch(self, chosen: NDArray[np.int64], epoch: int, run: Run | None) -> Batch:
        return self._draw.batch(self._trained[chosen], epoch, run)

    def state(self) -> dict[str, int | None]:
        """Return where the run is."""
        return {"epoch": self._epoch, "place": self._place, "version": self.version}

    def load_state(self, state: dict[str, int | None]) -> None:
        """Go on from what `state` returned."""
        self._epoch, self._place = int(state["epoch"] or 0), int(state["place"] or 0)
        self._order = self._batches.epoch(self._epoch)
        if state["version"] is not None:
            self.adopt(state["version"])


def _trained(examples: Examples, first: Run | None, objective: Objective) -> NDArray[np.int64]:
    """Return the queries that are trained on: those with a negative, where the method needs one.

    A note counts those that are left out.

    Raises:
        DataError: none has one.
    """
    if first is None or not objective.needs_negatives:
        return np.arange(len(examples.queries))
    method = objective.name
    has_any = np.diff(first.bounds) > 0
    if not has_any.any():
        raise DataError(
            f"{method} must have hard negatives; none of the {len(first):,} queries has one; "
            "weaken the guard, raise depth, or give another pipeline"
        )
    if n_without := int((~has_any).sum()):
        note(f"hard negatives: a query without one is left out, as {method} needs them", n_without)
    return np.flatnonzero(has_any)


def _lengths(
    examples: Examples,
    queries: TokenTable,
    documents: TokenTable,
    first: Run | None,
    n_negatives: int,
) -> NDArray[np.int64]:
    """Return about how many tokens each example has.

    They are those of its query, and of a positive and its negatives as its positives and its first
    candidates are on average.
    """
    bounds = np.cumsum([0, *map(len, examples.positives)])
    lengths = queries.lengths_of(np.arange(len(examples.queries)))
    about = _means(documents.lengths_of(np.concatenate(examples.positives)), bounds)
    if first is not None:
        n_drawn = np.minimum(n_negatives, np.diff(first.bounds))
        about += n_drawn * _means(documents.lengths_of(first.rows), first.bounds)
    return lengths + np.rint(about).astype(np.int64)


def _means(values: NDArray[np.int64], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of the values of each part, 0 where it is empty, shape (n_parts,)."""
    sums = np.diff(np.concatenate([[0], np.cumsum(values)])[bounds])
    means: NDArray[np.float64] = sums / np.maximum(1, np.diff(bounds))
    return means
