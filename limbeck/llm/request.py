"""What passes through the gate: a request, a call for some of its samples, and the reply.

Each layer of the gate is a callable from a `Call` to a `Reply` that wraps another one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from limbeck.fingerprint import canonical_json, digest
from limbeck.types import Message

__all__ = [
    "ABANDONED",
    "Abandoned",
    "Call",
    "Failed",
    "Layer",
    "Reply",
    "Request",
    "Sample",
    "Token",
    "encodable",
]


ABANDONED = "abandoned"
"""The failure of a call whose listener went away."""


class Failed(Exception):  # noqa: N818 - the call failed; the error is told elsewhere
    """A call that gave no answer; the retry wrapper turns the last one into a reply's failure.

    Attributes:
        reason: a few words that stand in the generation: "timeout", "http 500", "budget".
        retry: whether another try may help.
        retry_after_s: how long the server asked to wait, None where it did not say.
    """

    def __init__(
        self, reason: str, *, retry: bool = True, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.retry_after_s = retry_after_s


class Abandoned(Exception):  # noqa: N818 - nothing failed: the listener went away
    """Raised by a listener that wants no more text; the back-end stops generating."""


class Token(NamedTuple):
    """A token of a completion with its log-probability, and its likeliest alternatives."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion, and its share of what its call cost.

    Attributes:
        prompt_tokens: the call's prompt tokens, carried by its first sample alone.
        completion_tokens: an equal share of the call's completion tokens, so that the samples of a
            call add up to what the server reported.
        estimated: the server reported no usage; the tokens were counted here.
    """

    text: str
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    logprobs: tuple[Token, ...] | None = None


@dataclass(frozen=True)
class Request:
    """All that may change the text of an answer, and nothing else; `key` names it.

    Attributes:
        model: back-end family and model, "openai:gpt-4.1-mini".
        top_logprobs: alternatives told for each token; 0 tells the tokens' own log-probabilities,
            None tells nothing.
        schema: a JSON schema that the answer must follow, as canonical JSON.
        choices: texts of which the answer must be one; () leaves it free.
        extra: further parameters of the request, as canonical JSON.
        mode: "score": the tokens of the last message are scored, and its text is the sample; empty:
            a completion.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    revision: str = ""
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int | None = None
    schema: str = ""
    choices: tuple[str, ...] = ()
    extra: str = ""
    mode: Literal["", "score"] = ""

    def plain(self) -> dict[str, Any]:
        """Return the request as JSON data, without what is unset: an explicit 0 stays."""
        unset: tuple[object, ...] = (None, "", ())
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {name: value for name, value in found.items() if value not in unset}
        plain["messages"] = [message._asdict() for message in self.messages]
        for name in {"schema", "extra"} & plain.keys():
            plain[name] = json.loads(plain[name])
        return plain

    @cached_property
    def key(self) -> str:
        """Digest of the canonical request."""
        return digest(canonical_json(self.plain()))


Listener = Callable[[str], None]
"""Told each piece of text as it is generated; may raise `Abandoned`."""


@dataclass(frozen=True)
class Call:
    """Some of the samples of a request, and who wants to hear the text while it is generated."""

    request: Request
    indices: tuple[int, ...]
    listen: Listener | None = None

    def overheard(self) -> tuple[Call, list[str]]:
        """Return the call, and a list of what its listener, if there is one, is told."""
        heard: list[str] = []
        listen = self.listen
        if listen is None:
            return self, heard

        def both(text: str) -> None:
            heard.append(text)
            listen(text)

        return dataclasses.replace(self, listen=both), heard

    def only(self, indices: Iterable[int]) -> Call:
        """Return the call for other samples of the same request."""
        return dataclasses.replace(self, indices=tuple(indices))


@dataclass(frozen=True)
class Reply:
    """The samples that were had, by index, and in a few words why others were not.

    Attributes:
        prompt_tokens: what the call took, samples that were thrown away included; so are
            `completion_tokens`.
    """

    samples: Mapping[int, Sample] = field(default_factory=dict)
    failure: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def missing(self, indices: Iterable[int]) -> tuple[int, ...]:
        """Return those of the indices that have no sample."""
        return tuple(index for index in indices if index not in self.samples)

    def joined(self, other: Reply) -> Reply:
        """Return one reply from two, the other's samples and failure before this one's."""
        return Reply(
            {**self.samples, **other.samples},
            other.failure or self.failure,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


Layer = Callable[[Call], Reply]


def encodable(text: str) -> str:
    """Return the text with lone surrogates replaced, which no UTF-8 file or request can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
