"""What retrievers share whose index and queries are made by a model, the encoder."""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from limbeck.errors import Problem
from limbeck.fingerprint import digest
from limbeck.pipeline import Given
from limbeck.retrieval.encoders.folders import examine_model
from limbeck.retrieval.indexed import Indexed

__all__ = ["Encoded"]

_Index = TypeVar("_Index")


class _Model(Protocol):
    fingerprint: str


@dataclass(frozen=True)
class Encoded(Indexed[_Index], Generic[_Index]):
    """A retriever with an encoder.

    Implement `opened_encoder`, `require_encoder`, and what `Indexed` asks for.

    Attributes:
        encoder: the name of the model, or its folder.
    """

    encoder: str

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "encoder", os.fspath(self.encoder))

    @property
    @abstractmethod
    def opened_encoder(self) -> _Model:
        """The encoder; its model is loaded when it first encodes."""

    @abstractmethod
    def require_encoder(self) -> None:
        """Raise a LimbeckError where files that lie here hold no such encoder; load nothing."""

    @property
    def label(self) -> str:
        """What a progress bar calls the encoding of documents."""
        return f"encoding documents by {Path(self.encoder).name}"

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine the encoder too, by the files that lie here; nothing is loaded or fetched."""
        examine_model(self.require_encoder, place, problems)
        return super().examine(given, place, problems)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of parameters, index and, once that is open, of the model that encodes queries."""
        own = super().fingerprint
        return own if self.opened is None else digest(own, self.opened_encoder.fingerprint)
