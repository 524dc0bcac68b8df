"""Optimisers, and how the learning rate goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from limbeck.errors import UsageError

__all__ = ["LAMB", "OptimiserName", "Optimising", "Schedule", "optimiser", "rate"]

OptimiserName = Literal["adamw", "lamb"]
Schedule = Literal["linear", "cosine", "constant"]

_HIGHEST_NORM = 10.0


@dataclass(frozen=True, kw_only=True)
class Optimising:
    """How the weights move.

    Attributes:
        name: adamw, or lamb as in ANCE.
        rate: the learning rate at its highest.
        schedule: how it falls after the warm-up.
        warm_up: steps in which it grows; below 1, a share of all steps.
        weight_decay: of matrices; biases and norms have none.
        betas: of the two moments.
        eps: added to the root of the second moment.
        clip: the gradient's norm at most; None: as it is.
    """

    name: OptimiserName = "adamw"
    rate: float = 2e-5
    schedule: Schedule = "linear"
    warm_up: float = 0.1
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        for name, allowed in (("name", OptimiserName), ("schedule", Schedule)):
            if getattr(self, name) not in get_args(allowed):
                raise UsageError(
                    f"{name} must be one of {', '.join(get_args(allowed))}; "
                    f"got {getattr(self, name)!r}"
                )
        if not self.rate > 0 or self.warm_up < 0 or (self.clip is not None and not self.clip > 0):
            raise UsageError(
                "rate and clip must be above 0 and warm_up 0 or more; got "
                f"{self.rate}, {self.clip}, {self.warm_up}"
            )
        if not all(0 <= beta < 1 for beta in self.betas) or self.eps < 0 or self.weight_decay < 0:
            raise UsageError(
                "betas must lie in [0, 1), and eps and weight_decay be 0 or more; got "
                f"{self.betas}, {self.eps}, {self.weight_decay}"
            )

    def warm_up_steps(self, n_steps: int) -> int:
        """Return the steps of the warm-up in a run of so many.

        Raises:
            UsageError: it is longer than the run.
        """
        steps = round(self.warm_up * n_steps) if self.warm_up < 1 else round(self.warm_up)
        if steps > n_steps:
            raise UsageError(
                f"warm_up must lie in [0, {n_steps}], the steps of the run; got {steps}; lower it"
            )
        return steps


def optimiser(wanted: Optimising, weights: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe for some weights; biases and norms do not decay.

    AdamW is torch's fused one. States are float32, as the weights are.
    """
    trained = list(weights)
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": wanted.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    given: dict[str, Any] = {"lr": wanted.rate, "betas": wanted.betas, "eps": wanted.eps}
    if wanted.name == "lamb":
        return LAMB(groups, **given)
    return torch.optim.AdamW(groups, **given, fused=True)


def rate(step: int, n_steps: int, *, warm_up: int, schedule: Schedule) -> float:
    """Return the share of the learning rate at a step, from 0.

    Args:
        step: which one.
        n_steps: of the whole run.
        warm_up: steps in which it grows from nothing.
        schedule: how it falls to nothing from there on, or that it does not.
    """
    if step < warm_up:
        return (step + 1) / warm_up
    share = (step - warm_up) / max(1, n_steps - warm_up)
    falls: dict[str, Callable[[], float]] = {
        "constant": lambda: 1.0,
        "linear": lambda: 1.0 - share,
        "cosine": lambda: 0.5 * (1.0 + math.cos(math.pi * share)),
    }
    return falls[schedule]()


class LAMB(torch.optim.Optimizer):
    """Adam whose step is scaled, layer by layer, to the size of the weights.

    Paper: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    arXiv 1904.00962, algorithm 2, with phi the norm of the weights, 10 at most. ANCE was trained
    with an implementation that does not correct the moments' bias; the paper, and this one, do.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        """Keep the settings; a group of weights may have others."""
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move the weights against their gradients."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._move(weights, weights.grad, group)
        return loss

    def _move(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weights]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(weights)}
            state["square"] = torch.zeros_like(weights)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(gradient, 1.0 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
        mean = state["mean"] / (1.0 - beta1 ** state["step"])
        square = state["square"] / (1.0 - beta2 ** state["step"])
        move = mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * weights
        size, moved = weights.norm().clamp(max=_HIGHEST_NORM), move.norm()
        trust = float(size / moved) if size > 0 and moved > 0 else 1.0
        weights.add_(move, alpha=-group["lr"] * trust)
