"""Several processes that train one model together: who computes what, and how it is joined.

Every rank knows the whole batch and computes a share of its texts. Their representations are
gathered, so that each rank holds all, with a gradient in its own alone; each computes the whole
loss. The sum of the ranks' gradients is then that of one rank with the whole batch, exactly:
nothing is averaged, and no negative is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.nn import functional

__all__ = ["Ranks", "together"]

_PATIENCE = timedelta(hours=24)
"""For the first rank, which alone mines and measures; torchrun ends all where one has ended."""


@contextmanager
def together() -> Iterator[Ranks]:
    """Yield the processes that `torchrun` started, or this one alone."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else None
    if device is not None:
        torch.cuda.set_device(device)
    is_ours = "WORLD_SIZE" in os.environ and not distributed.is_initialized()
    if is_ours:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(device)
    finally:
        if is_ours:
            distributed.destroy_process_group()


class Ranks:
    """The processes that train together.

    Attributes:
        device: where this one computes.
        rank: the number of this one.
        n: how many they are.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """Look whether there are others; None computes on the CPU."""
        self.device = device or torch.device("cpu")
        self._together = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if self._together else 0
        self.n = distributed.get_world_size() if self._together else 1

    def shares(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the places of the texts of each rank.

        The longest go round, so that all have as much to do.

        Args:
            lengths: tokens of each text.
        """
        order = np.argsort(-lengths, kind="stable")
        return [np.sort(order[rank :: self.n]) for rank in range(self.n)]

    def gathered(self, own: Tensor, shares: list[NDArray[np.int64]]) -> Tensor:
        """Return the rows of all ranks in their places; those of others have no gradient.

        Args:
            own: this rank's rows, in the order of its share.
            shares: the places of each rank's rows.
        """
        if not self._together:
            return own
        widths = [torch.empty(1, dtype=torch.int64, device=own.device) for _ in range(self.n)]
        distributed.all_gather(widths, torch.tensor([own.shape[1]], device=own.device))
        widest = max(int(width) for width in widths)
        longest = max(len(share) for share in shares)
        padded = _padded(own.detach(), longest, widest)
        others = [torch.empty_like(padded) for _ in range(self.n)]
        distributed.all_gather(others, padded)
        parts = [part[: len(share)] for part, share in zip(others, shares, strict=True)]
        parts[self.rank] = _padded(own, len(own), widest)
        back = torch.from_numpy(np.argsort(np.concatenate(shares))).to(own.device)
        return torch.cat(parts)[back]

    def spread(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Give all ranks the weights of the first."""
        for weight in weights if self._together else ():
            distributed.broadcast(weight.detach(), 0)

    def add_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Add up the gradients of all ranks, in one exchange a step.

        A weight that has one on no rank has none afterwards: it does not move.
        """
        if not self._together:
            return
        held = list(weights)
        gradients = [w.grad if w.grad is not None else torch.zeros_like(w) for w in held]
        is_there = torch.tensor([float(w.grad is not None) for w in held], device=self.device)
        flat = torch.cat([is_there, *(gradient.reshape(-1) for gradient in gradients)])
        distributed.all_reduce(flat)
        counts, *parts = torch.split(flat, [len(held), *(weight.numel() for weight in held)])
        for weight, part, count in zip(held, parts, counts.tolist(), strict=True):
            weight.grad = part.view_as(weight) if count else None

    def agreed(self, number: float) -> float:
        """Return the number of the first rank, so that all go by the same."""
        if not self._together:
            return number
        told = torch.tensor([number], dtype=torch.float64, device=self.device)
        distributed.broadcast(told, 0)
        return float(told)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self._together:
            distributed.barrier()


def _padded(rows: Tensor, n: int, width: int) -> Tensor:
    """Return rows with zeros behind, up to so many rows and so wide a second dimension."""
    more = (0, 0) * (rows.ndim - 2) + (0, width - rows.shape[1], 0, n - len(rows))
    return functional.pad(rows, more)
