"""Representations of texts, and those of parts put together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

__all__ = ["Vectors", "joined"]


class Vectors(NamedTuple):
    """Representations of texts.

    Attributes:
        values: float, shape (n_texts, dim), or (n_texts, n_tokens, dim) of a model with a vector
            for each token; of a cross-encoder the scores, shape (n_pairs, 1).
        where: bool, shape (n_texts, n_tokens), the tokens that count; None where there is one
            vector.
    """

    values: Tensor
    where: Tensor | None = None

    def of(self, places: slice) -> Vectors:
        """Return those of some texts."""
        return Vectors(self.values[places], None if self.where is None else self.where[places])


def joined(made: list[Vectors], parts: list[NDArray[np.int64]]) -> Vectors:
    """Return the representations of parts as one, each text in its place."""
    back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(made[0].values.device)
    values = torch.cat(_even([part.values for part in made]))[back]
    if made[0].where is None:
        return Vectors(values)
    return Vectors(values, torch.cat(_even([p.where for p in made if p.where is not None]))[back])


def _even(parts: list[Tensor]) -> list[Tensor]:
    """Return parts padded with zeros to the longest, where their second dimension is tokens."""
    width = max(part.shape[1] for part in parts)
    return [functional.pad(p, (0, 0) * (p.ndim - 2) + (0, width - p.shape[1])) for p in parts]
