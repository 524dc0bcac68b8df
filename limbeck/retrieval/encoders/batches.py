"""Batches of token ids for a transformer in torch: inputs of like lengths, padded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Padded", "by_length", "padded"]


class Padded(NamedTuple):
    """Inputs brought to one length, each int64 of shape (n, longest).

    Attributes:
        ids: token ids, the padding token behind those of an input.
        mask: 1 at the tokens of an input, 0 at padding.
        segments: the segment of each token, 0 at padding.
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    segments: NDArray[np.int64]


def by_length(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Return the positions of inputs in batches, longest first.

    So little is padding, the largest need of memory comes first, and the pace only quickens.

    Args:
        lengths: of the inputs, in tokens.
        most_tokens: tokens of a batch, its padding included; an input longer than that is alone.
    """
    batches: list[list[int]] = []
    room = 0
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not room:
            batches.append([])
            room = max(1, most_tokens // max(1, lengths[position]))
        batches[-1].append(position)
        room -= 1
    return batches


def padded(
    rows: Sequence[Sequence[int]], pad: int, segments: Sequence[Sequence[int]] | None = None
) -> Padded:
    """Return inputs as arrays.

    Args:
        rows: the token ids of each input.
        pad: the id of the padding token.
        segments: the segment of each token; all 0 where not given.
    """
    longest = max(map(len, rows), default=0)
    shape = (len(rows), longest)
    made = Padded(*(np.full(shape, fill, dtype=np.int64) for fill in (pad, 0, 0)))
    for number, row in enumerate(rows):
        made.ids[number, : len(row)] = row
        made.mask[number, : len(row)] = 1
        if segments is not None:
            made.segments[number, : len(row)] = segments[number]
    return made
