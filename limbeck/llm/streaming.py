"""Streaming: one call through the whole gate, its text handed over piece by piece."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event

from limbeck.errors import BudgetError, LLMError
from limbeck.llm.request import Abandoned, Call, Layer, Reply, Request

__all__ = ["streamed"]


def streamed(layer: Layer, request: Request) -> Iterator[str]:
    """Yield the text of one sample as it is generated, each piece once.

    When this ends, by whatever way, the call has ended too, and is charged.

    Raises:
        BudgetError: the budget does not allow the call.
        LLMError: the call failed.
    """
    pieces: SimpleQueue[str | None] = SimpleQueue()
    left = Event()

    def listen(piece: str) -> None:
        if left.is_set():
            raise Abandoned
        pieces.put(piece)

    def work() -> Reply:
        try:
            return layer(Call(request, (0,), listen))
        finally:
            pieces.put(None)

    with ThreadPoolExecutor(1, thread_name_prefix="limbeck-llm-stream") as pool:
        call = pool.submit(contextvars.copy_context().run, work)
        try:
            while (piece := pieces.get()) is not None:
                yield piece
        finally:
            left.set()
    reply = call.result()
    failure = None if reply.samples else reply.failure
    if failure == "budget":
        raise BudgetError(
            f"{request.model}: the budget is used up; raise max_usd, max_calls or max_tokens"
        )
    if failure:
        raise LLMError(
            f"{request.model} must answer to the end; it did not: {failure}; ask again, or mend "
            "the prompt where that is named"
        )
