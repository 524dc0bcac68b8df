"""What a reasoning model thinks aloud before it answers, taken off."""

from __future__ import annotations

import re

__all__ = ["without_thinking"]

_THINKING = re.compile(  # some servers put the opening tag into the prompt, not the answer
    r"\A(?:(?!<think>).)*?</think>|<think>.*?(?:</think>|\Z)", re.IGNORECASE | re.DOTALL
)


def without_thinking(text: str) -> str:
    """Return an answer without its <think> blocks; one that is never closed goes on to the end."""
    return _THINKING.sub("", text)
