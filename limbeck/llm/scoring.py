"""Scoring a text that is given: log-probabilities of a prompt's last message, as vLLM tells them.

OpenAI's chat completions have no such thing. vLLM's take three parameters more: the last message is
left open, as if the model were about to write on, and the tokens of the whole prompt come back, the
chat format's among them. The message's own are the last ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from limbeck.llm.backend import Completion
from limbeck.llm.request import Failed, Token

__all__ = ["NOT_SCORED", "scored", "scoring_body"]

_PARAMETERS = {
    "prompt_logprobs": 1,
    "add_generation_prompt": False,
    "continue_final_message": True,
}
_NOT_TOLD = "no log-probabilities of the prompt in the answer"
_OF_OTHER_TEXT = "the prompt's tokens do not end with its last message"
NOT_SCORED = frozenset({_NOT_TOLD, _OF_OTHER_TEXT})
"""The failures of an answer that does not score the text."""

_PART = "\ufffd"
"""Stands in a token's text for bytes that are no whole character."""


def scoring_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a request for completions as one that scores its last message."""
    return body | {"extra_body": {**body.get("extra_body", {}), **_PARAMETERS}}


def scored(answer: object, text: str) -> Completion:
    """Return a text with the log-probabilities of its tokens.

    Args:
        answer: the server's parsed answer.
        text: the prompt's last message.

    Raises:
        Failed: the answer tells no log-probabilities of the prompt, or none of this text.
    """
    try:
        assert isinstance(answer, dict)
        tokens = [_token(told) for told in answer["prompt_logprobs"] if told is not None]
    except (AssertionError, AttributeError, KeyError, StopIteration, TypeError, ValueError):
        raise Failed(_NOT_TOLD, retry=False) from None
    own = _last_tokens(tokens, text)
    if not own:
        raise Failed(_OF_OTHER_TEXT, retry=False)
    return Completion(text, "stop", own)


def _token(told: dict[str, Any]) -> Token:
    """Return the prompt's token at a place; the first entry is its, what follows is likelier."""
    entry = next(iter(told.values()))
    return Token(str(entry.get("decoded_token") or ""), float(entry["logprob"]))


def _last_tokens(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """Return the tokens at the end that make up a text, none where they do not.

    White space is not compared: a token that is decoded by itself may have lost its own. A
    character that is split among tokens is in each of them a part, which stands for anything beyond
    ASCII; of two ways to read such parts the longer is taken.
    """
    wanted = "".join(text.split())
    found = len(tokens)
    for start in range(len(tokens) - 1, -1, -1):
        if found < len(tokens) and _PART not in tokens[start].text:
            break
        shown = "".join("".join(token.text for token in tokens[start:]).split())
        if _reads(shown, wanted):
            found = start
        elif len(shown.replace(_PART, "")) > len(wanted):
            break
    return tuple(tokens[found:])


def _reads(shown: str, wanted: str) -> bool:
    if _PART not in shown:
        return shown == wanted
    pattern = "".join(
        r"[^\x00-\x7f]*" if part.startswith(_PART) else re.escape(part)
        for part in re.split(f"({_PART}+)", shown)
    )
    return re.fullmatch(pattern, wanted) is not None
