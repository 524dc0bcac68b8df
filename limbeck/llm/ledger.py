"""The ledger: each request that is sent is charged to the open meters, and what hits save."""

from __future__ import annotations

import time
from collections.abc import Iterable

from limbeck.llm.request import Call, Layer, Reply, Sample
from limbeck.meter import Usage, charge

__all__ = ["Ledger", "Price", "cost_usd", "saved"]

Price = tuple[float, float]
"""US dollars for a million prompt tokens, and for a million completion tokens."""

_MILLION = 1_000_000


def cost_usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float:
    """Return what tokens cost, 0 where no price is known."""
    if price is None:
        return 0.0
    return (price[0] * prompt_tokens + price[1] * completion_tokens) / _MILLION


def saved(samples: Iterable[Sample], price: Price | None) -> Usage:
    """Return what it would have cost to have these samples generated."""
    held = list(samples)
    prompt_tokens = sum(sample.prompt_tokens for sample in held)
    completion_tokens = sum(sample.completion_tokens for sample in held)
    return Usage(
        saved_calls=sum(sample.prompt_tokens > 0 for sample in held),
        saved_prompt_tokens=prompt_tokens,
        saved_completion_tokens=completion_tokens,
        saved_usd=cost_usd(price, prompt_tokens, completion_tokens),
    )


class Ledger:
    """Charges calls, tokens, money and seconds; a request that fails is a call too."""

    def __init__(self, inner: Layer, *, price: Price | None) -> None:
        """Charge what the inner layer does."""
        self._inner = inner
        self._price = price

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply."""
        started = time.perf_counter()
        reply = Reply()
        try:
            reply = self._inner(call)
        finally:
            charge(
                Usage(
                    calls=1,
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=reply.completion_tokens,
                    usd=cost_usd(self._price, reply.prompt_tokens, reply.completion_tokens),
                    seconds=time.perf_counter() - started,
                )
            )
        return reply
