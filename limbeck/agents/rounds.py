"""Conversations with an LLM that advance side by side, so that a batch costs rounds and not calls.

An algorithm that asks, looks at the answers and asks again is a generator: it yields the prompts of
a round and receives their generations. `together` makes one of many, and `driven` carries it
through. Forty queries that each need nine windows in turn are nine rounds of forty calls.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from limbeck.llm.model import Generation
from limbeck.types import Message

__all__ = ["Prompt", "Steps", "driven", "together"]

_T = TypeVar("_T")

Prompt = tuple[Message, ...]
Steps = Generator[list[Prompt], list[Generation], _T]
"""Yields prompts, receives what was generated for each of them, in order, and returns a result."""


def together(parts: Sequence[Steps[_T]]) -> Steps[list[_T]]:
    """Return the results of all parts; each round holds the prompts of all that are not done."""
    results: dict[int, _T] = {}
    asked: dict[int, list[Prompt]] = {}

    def advance(number: int, answers: list[Generation] | None) -> None:
        try:
            steps = parts[number]
            asked[number] = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            results[number] = end.value
            asked.pop(number, None)

    for number in range(len(parts)):
        advance(number, None)
    while asked:
        round_ = list(asked.items())
        answers = iter((yield [prompt for _, prompts in round_ for prompt in prompts]))
        for number, prompts in round_:
            advance(number, [next(answers) for _ in prompts])
    return [results[number] for number in range(len(parts))]


def driven(steps: Steps[_T], ask: Callable[[list[Prompt]], list[Generation]]) -> _T:
    """Return the result of steps whose prompts are asked by a function, one call a round."""
    try:
        prompts = next(steps)
        while True:
            prompts = steps.send(ask(prompts))
    except StopIteration as end:
        result: _T = end.value
        return result
