"""A student with a score a pair of query and document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from limbeck.retrieval.encoders.folders import input_length
from limbeck.training.students.text import TextStudent

__all__ = ["CrossEncoderStudent"]


@dataclass(frozen=True, kw_only=True)
class CrossEncoderStudent(TextStudent):
    """A score a pair of query and document.

    Attributes:
        max_tokens: of a pair; the longer of the two texts is cut. None: the base's own length.
    """

    name: ClassVar[str] = "cross-encoder"

    max_tokens: int | None = None

    def _made(self, folder: Path) -> Any:
        from sentence_transformers import CrossEncoder

        return CrossEncoder(
            str(folder),
            num_labels=1,
            max_length=input_length(folder, self.max_tokens),
            device="cpu",
            **self._reading(folder),
        )
