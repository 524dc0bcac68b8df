"""Layers for tests of other layers."""

from __future__ import annotations

from collections.abc import Callable

from limbeck.llm.request import Call, Reply, Request, Sample
from limbeck.types import Message


def request(text: str = "hello", **fields: object) -> Request:
    """Return a request of one message."""
    return Request("scripted:x", (Message("user", text),), max_tokens=10, **fields)


def call(n: int = 1, text: str = "hello", **fields: object) -> Call:
    """Return a call for the first n samples."""
    return Call(request(text, **fields), tuple(range(n)))


class Spoken:
    """An innermost layer: sample i is "i of TEXT"; it remembers the calls."""

    def __init__(self, say: Callable[[int], str] | None = None) -> None:
        self.calls: list[tuple[int, ...]] = []
        self._say = say

    def __call__(self, call: Call) -> Reply:
        self.calls.append(call.indices)
        say = self._say or (lambda index: f"{index} of {call.request.messages[0].content}")
        samples = {
            index: Sample(
                say(index), "stop", prompt_tokens=0 if position else 3, completion_tokens=4
            )
            for position, index in enumerate(call.indices)
        }
        if call.listen is not None:
            call.listen(samples[call.indices[0]].text)
        return Reply(samples, None, 3, 4 * len(samples))
