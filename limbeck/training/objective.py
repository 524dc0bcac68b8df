"""What a training method is to the loop: the texts that a step looks at, and the loss of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import Batch
from limbeck.training.examples import Examples
from limbeck.training.networks import Computing, Network, Side, Vectors
from limbeck.training.students import Student

__all__ = ["STUDENT", "Objective", "View", "both_sides"]

STUDENT = "student"
"""The network that is trained; a method may know others beside it."""


class View(NamedTuple):
    """Texts of a step that are computed once each.

    Attributes:
        side: how the model reads them.
        rows: int64, shape (n_texts,); which queries, or which documents; of pairs both, shape
            (n_pairs, 2).
        of: which network computes them.
    """

    side: Side
    rows: NDArray[np.int64]
    of: str = STUDENT


class Objective(ABC):
    """A method of training: a dataclass whose fields are its parameters.

    What the optimiser moves are the student's weights; a method has none of its own.

    Attributes:
        name: in recipes.
        students: the kinds of model that it trains.
    """

    name: ClassVar[str]
    students: ClassVar[tuple[str, ...]] = ("dense",)

    def __post_init__(self) -> None:  # noqa: B027 - most have nothing to check
        """Check the parameters; a method that does so calls this too."""

    @property
    def needs_negatives(self) -> bool:
        """Whether it does not do without hard negatives."""
        return False

    def check_student(self, student: Student) -> None:
        """Raise UsageError unless it can train a model of this kind."""
        if student.name not in self.students:
            raise UsageError(
                f"{self.name} must train a model of the kind {' or '.join(self.students)}; got "
                f"{student.name}"
            )

    @property
    def learns_dark(self) -> bool:
        """Whether it learns from dark examples, and does not do without."""
        return False

    def check_labels(self, kind: str) -> None:  # noqa: B027 - most take all
        """Raise UsageError unless it can learn labels of this score kind."""

    def given(self) -> tuple[Student, ...]:
        """Return the trained models that it needs beside the student, such as a teacher."""
        return ()

    def others(self, computing: Computing) -> dict[str, Network]:
        """Return the networks that it needs beside the student, by name."""
        del computing
        return {}

    def begin(self, examples: Examples, batches: Iterable[Batch], n_steps: int) -> None:
        """Look at what is trained on, before the first step.

        Args:
            examples: all of them.
            batches: some, as they will come; those that are not looked at are not drawn.
            n_steps: of the whole run.
        """
        del examples, batches, n_steps

    @property
    def found(self) -> Mapping[str, float]:
        """What it found out at the beginning, and goes by; it stands in the model's card."""
        return {}

    @abstractmethod
    def views(self, batch: Batch) -> dict[str, View]:
        """Return the texts that the loss needs, by names of the method's own."""

    @abstractmethod
    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            batch: of all ranks together.
            vectors: of each view, in the order of its rows.
        """

    def after_step(self, step: int) -> None:
        """Do what follows an optimiser step, once a step however many parts it had."""
        del step

    def state(self) -> dict[str, Any]:
        """Return what has to be kept to go on, as tensors and plain data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        del state


def both_sides(batch: Batch, of: str = STUDENT) -> dict[str, View]:
    """Return the views `queries` and `passages`, each text of a batch once."""
    return {
        "queries": View("query", batch.queries, of),
        "passages": View("document", batch.rows, of),
    }
