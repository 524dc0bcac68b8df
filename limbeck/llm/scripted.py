"""A scripted back-end: replies that are data, or a function of prompt and sample number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from limbeck.llm.backend import Completion, Completions
from limbeck.llm.request import Request
from limbeck.types import Message

__all__ = ["Script", "Scripted", "replies_in_turn"]

Script = Callable[[Sequence[Message], int], str | Completion]
"""Given the messages and the sample number, returns a text, or a completion with log-probabilities;
may raise `Failed` and may sleep."""


def replies_in_turn(replies: Sequence[str]) -> Script:
    """Return the script in which sample i of every prompt is reply i, from the first again."""
    return lambda _, index: replies[index % len(replies)]


@dataclass(frozen=True)
class Scripted:
    """A back-end that answers by a script; it counts no tokens, so that the gate does."""

    script: Script

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return what the script says for each sample; a listener is told word by word."""
        made = [_completion(self.script(request.messages, first + i)) for i in range(n)]
        if listen is not None:
            for delta in _words(made[0].text):
                listen(delta)
        return Completions(tuple(made))

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _completion(said: str | Completion) -> Completion:
    return said if isinstance(said, Completion) else Completion(said, "stop")


def _words(text: str) -> list[str]:
    return [word for word in text.replace(" ", " \0").split("\0") if word]
