"""How far a run is, for methods whose loss goes by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from limbeck.training.batches import Batch
from limbeck.training.examples import Examples
from limbeck.training.objective import Objective

__all__ = ["Progress"]


class Progress(Objective):
    """A mixin of methods.

    Attributes:
        done: the share of the run's steps that were done, from 0 to 1; part of a checkpoint.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.done = 0.0
        self._n_steps = 1

    def begin(self, examples: Examples, batches: Iterable[Batch], n_steps: int) -> None:
        """Learn how long the run is."""
        super().begin(examples, batches, n_steps)
        self.done, self._n_steps = 0.0, n_steps

    def after_step(self, step: int) -> None:
        """Move on."""
        super().after_step(step)
        self.done = (step + 1) / self._n_steps

    def state(self) -> dict[str, float]:
        """Return how much is done."""
        return {**super().state(), "done": self.done}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Go on from there."""
        super().load_state(state)
        self.done = state["done"]
