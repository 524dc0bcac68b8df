"""What a reasoning model thinks aloud before it answers, taken off."""

from __future__ import annotations

import re

__all__ = ["without_thinking"]

_FLAGS = re.IGNORECASE | re.DOTALL
_NAME = "think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad"
_BLOCK = re.compile(rf"<({_NAME})>.*?(?:</\1>|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)", _FLAGS)
_OPENED_BEFORE = re.compile(  # some servers put the opening tag into the prompt, not the answer
    rf"\A(?:(?!<(?:{_NAME})>|\[THINK\]).)*?(?:</(?:{_NAME})>|\[/THINK\])", _FLAGS
)
_CHANNEL = "<|channel|>"
_FINAL = re.compile(
    r"<\|channel\|>final\b(?:(?!<\|message).){0,60}<\|message\|>(.*?)(?=<\|[a-z]+\|>|\Z)", _FLAGS
)
_BARE_CHANNELS = re.compile(r"\Aanalysis.*?assistantfinal", re.DOTALL)  # special tokens left out


def without_thinking(text: str) -> str:
    """Return an answer without what was thought aloud; what is never closed goes on to the end.

    Known are tags such as <think> and <reasoning>, [THINK] (Magistral), and the channels of
    gpt-oss, of which the final one is the answer.
    """
    if _CHANNEL in text:
        return "".join(_FINAL.findall(text))
    return _BLOCK.sub("", _OPENED_BEFORE.sub("", _BARE_CHANNELS.sub("", text)))
