"""What students that read texts have: a pretrained base, its dropout, its lengths."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import ArtifactError, UsageError, told_by
from limbeck.files import folder_digest
from limbeck.retrieval.encoders.conventions import MINILM
from limbeck.retrieval.encoders.folders import input_length, model_folder, read_json, without_bars
from limbeck.retrieval.encoders.minilm import sentence_transformers_minilm
from limbeck.training.modules import readers
from limbeck.training.students.reports import new_weights_told
from limbeck.training.students.student import Student

__all__ = ["TextStudent", "cut"]

_DROPOUT = re.compile(r"dropout|_pdrop$")
"""What architectures call their dropouts, in a transformer's configuration."""

_LENGTHS = ("query_tokens", "document_tokens", "max_tokens")


@dataclass(frozen=True, kw_only=True)
class TextStudent(Student):
    """A model that reads texts, made of a pretrained transformer.

    What is None is as the pretrained model has it. Lengths, prefixes and dropout of a model that is
    taken whole are changed where others are asked for; all else is refused.

    Attributes:
        dropout: of the whole transformer.
    """

    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.dropout is not None and not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"dropout must lie in [0, 1); got {self.dropout}")
        for name in _LENGTHS:
            if (length := getattr(self, name, None)) is not None and length < 1:
                raise UsageError(f"{name} must be 1 or more; got {length}")

    @property
    def folder(self) -> Path:
        """Where the pretrained model is, fetched where it has to be.

        Raises:
            ArtifactError: it is nowhere.
        """
        if self.base == MINILM:
            return sentence_transformers_minilm()
        return model_folder(self.base).path

    @property
    def digest(self) -> str:
        """Digest of the pretrained model: its configuration, tokenizer and weights."""
        return folder_digest(self.folder)

    def load(self) -> Any:
        """Return the model, on the CPU, in float32.

        Raises:
            ArtifactError: the folder holds no model that sentence-transformers loads.
            UsageError: the model cannot be what is asked for.
        """
        folder = self.folder
        self._require_positions(folder)
        try:
            with without_bars(), new_weights_told():
                return self._made(folder)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"{folder} must hold a model that sentence-transformers loads; got: "
                f"{told_by(error)}; fetch or save the model again"
            ) from error

    @abstractmethod
    def _made(self, folder: Path) -> Any: ...

    def _require_positions(self, folder: Path) -> None:
        """Raise UsageError where a transformer has fewer positions than are asked for."""
        for name in _LENGTHS:
            for place in _transformers(folder):
                input_length(place, getattr(self, name, None), name)

    def _require_same(self, folder: Path, found: Mapping[str, Any]) -> None:
        """Raise UsageError where the model that is taken whole is not what is asked for."""
        for name, value in found.items():
            asked = getattr(self, name)
            if asked is not None and asked != value:
                raise UsageError(
                    f"{name} must be {value!r} for {folder}, a trained model, which is taken as it "
                    f"is; got {asked!r}; leave {name} out, or give another base"
                )

    def _reading(self, folder: Path) -> dict[str, Any]:
        """Return how transformers are read.

        Raises:
            UsageError: a dropout is asked for, and the architecture has none.
        """
        changes = dict.fromkeys(self._dropouts(folder), self.dropout)
        return {"model_kwargs": {"dtype": "float32"}, "config_kwargs": changes}

    def _dropouts(self, folder: Path) -> set[str]:
        """Return the names of the dropouts to change, as the transformers' configurations say."""
        if self.dropout is None:
            return set()
        from transformers import AutoConfig

        names: set[str] = set()
        for place in _transformers(folder):
            config = AutoConfig.from_pretrained(str(place)).to_dict()
            held = {
                name
                for name, value in config.items()
                if _DROPOUT.search(name) and type(value) in {int, float}
            }
            if not held:
                raise UsageError(
                    f"dropout must be one that the model has; the configuration of {place} names "
                    f"none; got {self.dropout}; leave it out"
                )
            names |= held
        return names

    def _transformer(self, folder: Path, **given: Any) -> Any:
        from sentence_transformers.base.modules import Transformer

        return Transformer(str(folder), **self._reading(folder), **given)


def _transformers(folder: Path) -> list[Path]:
    """Return where the transformers of a model are: its own folder, or one a tower."""
    if (folder / "config.json").is_file():
        return [folder]
    configs = sorted(folder.rglob("config.json"))
    return [config.parent for config in configs if "model_type" in read_json(config)]


def cut(model: Any, query_tokens: int | None, document_tokens: int | None) -> None:
    """Let a model read so many tokens; queries that are filled with [MASK]s are filled to them."""
    for reader in readers(model):
        if document_tokens is not None:
            reader.document_length = document_tokens
        if query_tokens is not None and reader.query_expansion:
            reader.query_expansion = reader.query_expansion | {"length": query_tokens}
        elif query_tokens is not None:
            reader.query_length = query_tokens
