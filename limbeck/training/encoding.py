"""Representations of many texts by a network as it now is, without a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.progress import track
from limbeck.training.networks import Network, Side, Vectors

__all__ = ["encoded", "representations"]

_BLOCK = 2048
"""Texts that are sorted by length together."""


def encoded(
    network: Network, side: Side, rows: NDArray[np.int64], *, label: str
) -> NDArray[np.float32]:
    """Return the vectors of texts, shape (n_texts, dim), of a network with one vector a text."""
    vectors: NDArray[np.float32] | None = None
    for places, made in representations(network, side, rows, label=label):
        values = made.values.cpu().numpy()
        if vectors is None:
            vectors = np.empty((len(rows), values.shape[1]), dtype=np.float32)
        vectors[places] = values
    return np.zeros((0, 0), dtype=np.float32) if vectors is None else vectors


def representations(
    network: Network, side: Side, rows: NDArray[np.int64], *, label: str
) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Yield representations part by part, each with the places of its texts among the rows.

    Args:
        network: which is put back into training afterwards if it was there.
        side: of the texts.
        rows: which texts.
        label: for progress.
    """
    blocks = range(0, len(rows), _BLOCK)
    with _asked(network):
        for start in track(blocks, label=label, total=len(blocks)):
            tokens = network.tokens(side, rows[start : start + _BLOCK])
            for part in network.parts(tokens.lengths):
                yield start + part, network.computed(tokens.taken(part), side)


@contextmanager
def _asked(network: Network) -> Iterator[None]:
    was_training = network.model.training
    network.model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.model.train(was_training)
