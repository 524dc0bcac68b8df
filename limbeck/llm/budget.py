"""The budget: what a call may take is reserved before it is made, so that none goes beyond it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from limbeck.llm.ledger import Price, cost_usd
from limbeck.llm.request import Call, Failed, Layer, Reply
from limbeck.llm.tokenizer import Tokenizer, count_prompt

__all__ = ["Budget", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one LLM may use in all; None is no limit.

    Attributes:
        calls: requests sent, retries included.
        tokens: prompt and completion tokens together.
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.calls, self.tokens, self.usd))


@dataclass(slots=True)
class _Used:
    """What was used, and what the calls under way may use at most."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def add(self, tokens: int, usd: float, *, calls: int = 0) -> None:
        self.calls += calls
        self.tokens += tokens
        self.usd += usd


class Budget:
    """Refuses the call that could go beyond a limit; smaller ones may still fit."""

    def __init__(
        self,
        inner: Layer,
        *,
        limits: Limits,
        price: Price | None,
        tokenizer: Callable[[], Tokenizer],
    ) -> None:
        """Wrap a layer; the tokenizer counts prompts before they are sent."""
        self._inner = inner
        self._limits = limits
        self._price = price
        self._tokenizer = tokenizer
        self._used = _Used()
        self._lock = Lock()

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply.

        Raises:
            Failed: "budget", and no retry, where the call does not fit.
        """
        prompt = count_prompt(self._tokenizer(), call.request.messages)
        completion = len(call.indices) * call.request.max_tokens
        with self._reserved(prompt, completion) as settle:
            reply = self._inner(call)
            settle(reply.prompt_tokens, reply.completion_tokens)
        return reply

    @contextmanager
    def _reserved(self, prompt: int, completion: int) -> Iterator[Callable[[int, int], None]]:
        """Hold room for a call; what it took in the end is what is settled, nothing if it fails."""
        usd = cost_usd(self._price, prompt, completion)
        self._reserve(prompt + completion, usd)
        took = [(0, 0.0)]

        def settle(prompt: int, completion: int) -> None:
            took[0] = (prompt + completion, cost_usd(self._price, prompt, completion))

        try:
            yield settle
        finally:
            with self._lock:
                self._used.add(took[0][0] - prompt - completion, took[0][1] - usd)

    def _reserve(self, tokens: int, usd: float) -> None:
        with self._lock:
            used, limits = self._used, self._limits
            fits = (
                (limits.calls is None or used.calls + 1 <= limits.calls)
                and (limits.tokens is None or used.tokens + tokens <= limits.tokens)
                and (limits.usd is None or used.usd + usd <= limits.usd)
            )
            if not fits:
                raise Failed("budget", retry=False)
            used.add(tokens, usd, calls=1)
