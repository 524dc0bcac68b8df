"""A model of transformers in torch with its tokenizer, as all encoders of this folder load it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.retrieval.encoders.folders import without_bars

__all__ = ["TorchModel"]


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
        with without_bars():
            loader = getattr(transformers, self._loader)
            network = loader.from_pretrained(self.folder, dtype=torch.float32)
        return network.to(device).eval()

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
