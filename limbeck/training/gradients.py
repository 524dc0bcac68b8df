"""The gradient of a step: in one pass, or in parts by way of the representations' own gradients.

A loss over all passages of a batch holds the graph of all of them in memory. In parts, the
representations are computed without a graph, the loss gives their gradients, and then each part is
computed again, with the same dropout, and takes its share. The gradient is the same.

Paper: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv
2101.06983.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.training.networks import Network, Side, Vectors, joined
from limbeck.training.objective import View
from limbeck.training.ranks import Ranks
from limbeck.training.tokens import TokenTable, concatenated

__all__ = ["Added", "accumulate"]


class Added(NamedTuple):
    """What a gradient was of.

    Attributes:
        loss: its value.
        tokens: of the texts that are trained on, of all ranks.
    """

    loss: float
    tokens: int


def accumulate(
    networks: Mapping[str, Network],
    views: Mapping[str, View],
    loss: Callable[[Mapping[str, Vectors]], Tensor],
    *,
    ranks: Ranks,
    cached: bool = False,
) -> Added:
    """Add the gradient of a loss to the weights, this rank's part of it, and return the loss.

    Args:
        networks: by the names that the views know them by.
        views: the texts of the step.
        loss: of their representations.
        ranks: who share the texts.
        cached: in parts, which needs less memory and a third more time.
    """
    groups = _groups(networks, views, ranks)
    held = [group.computed(with_graph=not cached) for group in groups]
    whole: dict[str, Vectors] = {}
    for group, own in zip(groups, held, strict=True):
        whole |= group.gathered(own)
    value = loss(whole)
    torch.autograd.backward(value)
    if cached:
        for group, own in zip(groups, held, strict=True):
            group.replayed(own)
    return Added(float(value.detach()), sum(group.n_trained for group in groups))


def _groups(
    networks: Mapping[str, Network], views: Mapping[str, View], ranks: Ranks
) -> list[_Group]:
    """Return the views that are computed together: of one network, their sides akin."""
    together: dict[tuple[str, str], dict[str, View]] = {}
    for name, view in views.items():
        kin = networks[view.of].kin(view.side)
        together.setdefault((view.of, kin), {})[name] = view
    return [_Group(networks[of], group, ranks) for (of, _), group in together.items()]


class _Group:
    """Texts of one or more views that are computed together, and this rank's share of them."""

    def __init__(self, network: Network, views: Mapping[str, View], ranks: Ranks) -> None:
        self._network = network
        self._names = list(views)
        self._side: Side = next(iter(views.values())).side
        self._ranks = ranks
        whole = concatenated([network.tokens(view.side, view.rows) for view in views.values()])
        self.n_trained = 0 if network.frozen else int(whole.bounds[-1])
        self._bounds = np.cumsum([0, *(len(view.rows) for view in views.values())]).tolist()
        self._shares = ranks.shares(whole.lengths)
        self._first = whole.taken(np.zeros(1, dtype=np.int64))
        self._own: TokenTable = whole.taken(self._shares[ranks.rank])
        self._parts = network.parts(self._own.lengths)
        self._random: list[list[Tensor]] = []

    def computed(self, *, with_graph: bool) -> Vectors:
        """Return the representations; without a graph they are where the gradient ends."""
        if not self._parts:
            return self._none()
        if with_graph and not self._network.frozen:
            return joined([self._of(part) for part in self._parts], self._parts)
        made: list[Vectors] = []
        with torch.no_grad():
            for part in self._parts:
                self._random.append(_random_states(self._network.device))
                made.append(self._of(part))
        held = joined(made, self._parts)
        return held._replace(values=held.values.requires_grad_(not self._network.frozen))

    def _none(self) -> Vectors:
        """Return no representations, of the shape that they have: others have all the texts."""
        with torch.no_grad():
            one = self._network.computed(self._first, self._side)
        none = one.of(slice(0))
        return none._replace(values=none.values.requires_grad_(not self._network.frozen))

    def replayed(self, held: Vectors) -> None:
        """Compute the parts again, and give each the gradient of its representations."""
        gradient = held.values.grad
        if gradient is None:
            return
        for part, random in zip(self._parts, self._random, strict=True):
            with _random_as(random, self._network.device):
                values = self._of(part).values
            if not values.requires_grad:  # as an adapter's documents, which stay as they are
                continue
            of_part = gradient[torch.from_numpy(part)][:, : values.shape[1]]
            torch.autograd.backward(values, of_part)

    def gathered(self, held: Vectors) -> dict[str, Vectors]:
        """Return the representations of all ranks, by view."""
        values = self._ranks.gathered(held.values, self._shares)
        where = held.where
        if where is not None:
            where = self._ranks.gathered(where.byte(), self._shares).bool()
        whole = Vectors(values, where)
        return {
            name: whole.of(slice(start, end))
            for name, start, end in zip(
                self._names, self._bounds[:-1], self._bounds[1:], strict=True
            )
        }

    def _of(self, part: NDArray[np.int64]) -> Vectors:
        return self._network.computed(self._own.taken(part), self._side)


def _random_states(device: torch.device) -> list[Tensor]:
    """Return the states that dropout draws from."""
    states = [torch.get_rng_state()]
    return states if device.type != "cuda" else [*states, torch.cuda.get_rng_state(device)]


@contextmanager
def _random_as(states: list[Tensor], device: torch.device) -> Iterator[None]:
    """Draw inside as from these states, and outside as if nothing had been drawn."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.set_rng_state(states[0])
        if devices:
            torch.cuda.set_rng_state(states[1], device)
        yield
