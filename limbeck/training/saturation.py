"""Temperatures at which distillation teaches nothing, found in the first steps of a run."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import UsageError

__all__ = ["Saturation"]

_FIRST = 8
"""Batches that must all teach nothing: later ones, or a single one, may be learned already."""

_FEWEST_QUERIES = 8
"""Of a batch that is judged: of few queries all may be learned."""

_NO_GRADIENT = 1e-7
"""Of a score, in float32: what softmaxes differ by that have run into the same 0s and 1s."""


class Saturation:
    """Looks at the first batches of a run.

    Attributes:
        left: batches that may still teach nothing; 0 when one taught something. Part of a
            checkpoint.
    """

    def __init__(self) -> None:
        """Look at all first batches."""
        self.left = _FIRST

    def look(self, scores: Tensor, teacher: Tensor, *, where: Tensor | None = None) -> None:
        """Compare the softmaxes of a student's and a teacher's scores, each by its temperature.

        Raises:
            UsageError: none of the first batches has a gradient.
        """
        if not self.left or len(scores) < _FEWEST_QUERIES or scores.shape[1] < 2:
            return
        with torch.no_grad():
            there = torch.ones_like(scores, dtype=torch.bool) if where is None else where
            told, wanted = (
                torch.softmax(each.masked_fill(~there, float("-inf")), dim=1)
                for each in (scores, teacher)
            )
            is_taught = bool((told - wanted).abs().max() >= _NO_GRADIENT)
        self.left = 0 if is_taught else self.left - 1
        if is_taught or self.left:
            return
        raise UsageError(
            "student and teacher must differ somewhere, or nothing is learned; in the first "
            f"{_FIRST} batches both put all on the same passage of each query; raise tau and "
            "student_tau, or normalise the vectors"
        )
