"""A model of transformers in torch with its tokenizer, as all encoders of this folder load it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError, told_by
from limbeck.retrieval.encoders.folders import without_bars

__all__ = ["TorchModel"]


_NOT_READ = {"AutoModel": ("pooler.",)}
"""Weights that do not matter, by loader: token states are read before the pooler, which a model
that was trained for another task seldom has."""


class TorchModel:
    """Both are loaded when they are first used; the model in float32, on a GPU where there is one.

    Neither is safe for threads: callers take turns.
    """

    def __init__(self, folder: Path, loader: str = "AutoModel") -> None:
        """Remember what to load.

        Args:
            folder: of the model.
            loader: the class of transformers that loads it.
        """
        self.folder = folder
        self._loader = loader

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def network(self) -> Any:
        """The model, in evaluation mode."""
        import torch
        import transformers

        device = "cuda" if torch.cuda.is_available() else "cpu"
        loader = getattr(transformers, self._loader)
        try:
            with without_bars(), _without_reports():
                network, found = loader.from_pretrained(
                    self.folder, dtype=torch.float32, output_loading_info=True
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise ArtifactError(
                f"{self.folder} must hold a model that transformers loads; got: "
                f"{told_by(error)}; fetch or save the model again"
            ) from error
        self._require_whole(found["missing_keys"])
        return network.to(device).eval()

    def _require_whole(self, missing: Collection[str]) -> None:
        """Raise ArtifactError where weights that are read would be random."""
        not_read = _NOT_READ.get(self._loader, ())
        lost = sorted(name for name in missing if not name.startswith(not_read))
        if lost:
            raise ArtifactError(
                f"{self.folder} must hold all weights of the model that its config.json describes; "
                f"{len(lost)} are missing, such as {lost[0]}; fetch or save the model again"
            )

    @property
    def pad(self) -> int:
        """The id of the padding token."""
        return int(self.tokenizer.pad_token_id or 0)

    @property
    def separator(self) -> str:
        """The token that stands between a query and a text joined to it."""
        return str(self.tokenizer.sep_token or " ")

    def tensor(self, array: NDArray[np.int64]) -> Any:
        """Return an array as a tensor beside the model's weights."""
        import torch

        return torch.from_numpy(array).to(self.network.device)


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep transformers from reporting what it loaded: what matters of it is an error here.

    It warns of weights of a head that is not asked for, and of the pooler.
    """
    from transformers.utils import logging

    reports: Any = logging
    before = reports.get_verbosity()
    reports.set_verbosity_error()
    try:
        yield
    finally:
        reports.set_verbosity(before)
