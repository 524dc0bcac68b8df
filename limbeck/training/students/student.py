"""What is trained, to a recipe: a base, and how the model that is made of it loads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = ["Student"]


@dataclass(frozen=True, kw_only=True)
class Student(ABC):
    """A model to train.

    Attributes:
        name: of the kind, in recipes.
        base: the pretrained model: a folder, a name on the hub, or minilm.
    """

    name: ClassVar[str]

    base: str

    @property
    def between(self) -> str:
        """What stands between a document's title and its text."""
        return " "

    @property
    @abstractmethod
    def digest(self) -> str:
        """Digest of the pretrained model."""

    @abstractmethod
    def load(self) -> Any:
        """Return the model, on the CPU, in float32.

        Raises:
            ArtifactError: there is no such model.
            UsageError: the model cannot be what is asked for.
        """
