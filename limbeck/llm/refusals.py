"""What a server's refusal means: a fault of one prompt, or of all calls like it."""

from __future__ import annotations

import dataclasses
import email.utils
import re
import time
from collections.abc import Mapping

from limbeck.errors import LLMError
from limbeck.llm.request import Call, Failed, Layer, Reply, Request

__all__ = ["Refusals", "Refused", "passing", "prompt_too_long", "retry_after_s"]

_RETRIED = frozenset({408, 409, 425, 429})
_NOT_IMPLEMENTED = 501
_ABOUT_THE_REQUEST = frozenset({400, 413, 422})
_TOO_LONG = re.compile(
    r"context[ _-]?(?:length|size|window)|maximum model length|prompt is too long|"
    r"reduce the length|input token count",
    re.IGNORECASE,
)
"""In the errors of OpenAI, vLLM, SGLang, llama.cpp, Mistral, Groq, Anthropic and Gemini."""


def passing(status: int) -> bool:
    """Return whether a refusal with this HTTP status may be over when the call is made again."""
    return status in _RETRIED or (status >= 500 and status != _NOT_IMPLEMENTED)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait that the headers ask for, as milliseconds, seconds or a date."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit_s)
        except (KeyError, ValueError):
            continue
    try:
        at = email.utils.parsedate_to_datetime(headers["retry-after"])
        return max(0.0, at.timestamp() - time.time())
    except (KeyError, ValueError, OverflowError):
        return None


def prompt_too_long(status: int, message: str) -> bool:
    """Return whether a server refuses a request because its prompt is too long for the model."""
    return status == 413 or (status in _ABOUT_THE_REQUEST and bool(_TOO_LONG.search(message)))


class Refused(LLMError):  # noqa: N818 - it may end as a failure of one prompt
    """A request that the server refuses for what it holds: its prompt, or its parameters."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @staticmethod
    def of(status: int, told: str, message: str) -> Exception:
        """Return what a status means that will not pass.

        Args:
            status: of HTTP.
            told: what the server says.
            message: what is told the user where it ends all.
        """
        if prompt_too_long(status, told):
            return Failed("prompt too long", retry=False)
        return Refused(status, message) if status in _ABOUT_THE_REQUEST else LLMError(message)


class Refusals:
    """Lets a refusal cost its own prompt alone once the same parameters were answered.

    Before that nothing tells a prompt that the server does not take from a parameter that it does
    not know, which no prompt would mend: the error goes on. Recorded answers count, so that a run
    that ended well ends well again.
    """

    def __init__(self, inner: Layer) -> None:
        """Wrap a layer."""
        self._inner = inner
        self._answered: set[Request] = set()

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply, or one that holds nothing but the failure.

        Raises:
            Refused: no request with these parameters was answered yet.
        """
        parameters = dataclasses.replace(call.request, messages=())
        try:
            reply = self._inner(call)
        except Refused as error:
            if parameters not in self._answered:
                raise
            return Reply(failure=f"http {error.status}")
        if reply.samples:
            self._answered.add(parameters)
        return reply
