"""A student that turns an encoder's query vectors, and leaves its documents alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from limbeck.errors import UsageError
from limbeck.retrieval.encoders.base import Encoder
from limbeck.retrieval.encoders.conventions import Settings
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.training.students.student import Student

__all__ = ["AdapterStudent"]


@dataclass(frozen=True, kw_only=True)
class AdapterStudent(Student):
    """A matrix that query vectors are multiplied with; documents are not encoded again.

    The base is any encoder that a pipeline can name. The matrix begins as the one that changes
    nothing.

    Attributes:
        rank: of what is added to that; None: all of the matrix is free.
    """

    name: ClassVar[str] = "adapter"

    rank: int | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise UsageError(f"rank of an adapter must be 1 or more; got {self.rank}")

    @property
    def encoder(self) -> Encoder:
        """The encoder that is adapted."""
        return open_encoder(Settings(self.base))

    @property
    def digest(self) -> str:
        """Digest of the encoder."""
        return self.encoder.fingerprint

    def load(self) -> Any:
        """Return the model: a module of torch with the matrix, and the encoder beside it."""
        from limbeck.training.networks.adapter import Adapter

        return Adapter(self.base, self.encoder, rank=self.rank)
