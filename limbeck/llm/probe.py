"""Asking a server what it can: what it says of itself, and what it does with short requests.

What a server is said to support is not asked for: older and newer ones ignore parameters without a
word (vLLM dropped `guided_json` so). Each ability is tried. It is there where the answer shows it,
and lacking where an answer shows that, or a refusal; what shows neither stays unknown.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.artifact import cache_folder, write_atomically
from limbeck.errors import LLMError
from limbeck.fingerprint import canonical_json, digest
from limbeck.llm.itself import Itself, look
from limbeck.llm.request import Call, Layer, Reply, Request, Sample
from limbeck.llm.scoring import NOT_SCORED
from limbeck.llm.side_door import SideDoor
from limbeck.types import Message

__all__ = ["Asked", "Probed", "Unreachable", "probed", "recalled"]

VERSION = 3
"""Raised whenever another question is asked, or an answer is read otherwise."""

_KEPT_S = 86_400.0
"""A server that is started again with other options may look the same: it is asked anew after a day
at most.
"""

_ODD = ("quagga", "okapi")
"""Words that no model says to a greeting unless it is held to them."""

_MANY_ALTERNATIVES = 21
"""One more than OpenAI tells, and vLLM unless started otherwise: beyond it no bound is known."""

_SHORT = 8
_HELLO = (Message("user", "Say hello."),)


@dataclass(frozen=True)
class Probed:
    """What a server told and did.

    Attributes:
        itself: what it says of itself.
        base_url: where it is, as it may be shown: references stay references.
        supports: what the model can beyond text.
        lacks: what it cannot.
        max_top_logprobs: alternatives to a token that it tells at most; None where it tells none,
            or more than 20.
        samples_per_call: completions of one request, 1 or many.
        overhead_tokens: what the chat format adds to one message, None where no usage is told.
    """

    itself: Itself
    base_url: str
    supports: frozenset[str]
    lacks: frozenset[str]
    max_top_logprobs: int | None
    samples_per_call: int
    overhead_tokens: int | None

    def plain(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        lists = {"supports": sorted(self.supports), "lacks": sorted(self.lacks)}
        plain = dataclasses.asdict(self) | lists
        itself: dict[str, Any] = plain.pop("itself")
        return itself | plain

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> Probed:
        """Return what `plain` made JSON of."""
        told = plain | {name: frozenset(plain[name]) for name in ("supports", "lacks")}
        told["models"] = tuple(plain["models"])
        itself = {field.name: told.pop(field.name) for field in dataclasses.fields(Itself)}
        return Probed(Itself(**itself), **told)

    def lines(self) -> Iterator[str]:
        """Yield what is known in words."""
        yield f"{self.itself.server or 'a server that does not say which'} at {self.base_url}"
        yield f"models: {', '.join(self.itself.models) or 'it does not say'}"
        yield f"context: {self.itself.context_length or 'it does not say'}"
        yield f"supports: {', '.join(sorted(self.supports)) or 'nothing beyond text'}"
        if self.lacks:
            yield f"lacks: {', '.join(sorted(self.lacks))}"
        if "logprobs" in self.supports:
            yield f"alternatives to a token: {self.max_top_logprobs or 'more than 20'}"
        yield f"samples in one request: {'many' if self.samples_per_call > 1 else 'one'}"
        if self.overhead_tokens is not None:
            yield f"tokens that the chat format adds: {self.overhead_tokens}"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which model is asked what it can, and how.

    Attributes:
        layer: makes what sends its requests; a failure is the reply's.
        model: as it stands in requests.
        name: as its server calls it.
        base_url: where its server is; part of the cache's key alone.
        shown: the same as it may be shown.
        extra: further parameters of each request, as a JSON object.
        choices: whether there is a way to hold an answer to one of some texts.
    """

    layer: Callable[[], Layer]
    model: str
    name: str
    base_url: str
    shown: str
    extra: str
    choices: bool

    @property
    def file(self) -> Path:
        """Where the cache keeps what was found."""
        key = digest(canonical_json([VERSION, self.base_url, self.model, self.extra]))
        return cache_folder("probes") / f"{key}.json"


def recalled(asked: Asked, door: SideDoor) -> Probed | None:
    """Return what the cache knows of a server, None where it is nothing, too old, or of another.

    Raises:
        Failed: the cache knows a server there, and it cannot be reached.
    """
    return _kept(asked, lambda: look(door, asked.name))


def probed(asked: Asked, door: SideDoor, *, again: bool) -> Probed:
    """Return what a server can, from the cache where that knows it.

    Args:
        asked: which model, and how it is asked.
        door: to its server.
        again: ask whatever the cache holds.

    Raises:
        Failed: it cannot be reached.
        LLMError: it refuses even a plain request; `Unreachable` where it does not answer one.
    """
    itself = look(door, asked.name)
    kept = None if again else _kept(asked, lambda: itself)
    if kept is not None:
        return kept
    found = _found(_Prober(asked), itself, asked)
    told = {"at": time.time(), "found": found.plain()}
    write_atomically(asked.file, json.dumps(told).encode())
    return found


def _kept(asked: Asked, look_now: Callable[[], Itself]) -> Probed | None:
    try:
        told = json.loads(asked.file.read_bytes())
        found = dataclasses.replace(Probed.from_plain(told["found"]), base_url=asked.shown)
        fresh = 0.0 <= time.time() - float(told["at"]) <= _KEPT_S
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if fresh and found.itself == look_now() else None


class Unreachable(LLMError):  # noqa: N818 - a state, that another time is over
    """A server that cannot be asked now; another time it may be."""


class _Prober:
    """Sends short requests."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._layer = asked.layer()

    def plain(self, text: str) -> Reply:
        """Return the answer to a text.

        Raises:
            LLMError: there is none.
        """
        reply = self._send((Message("user", text),))
        if not reply.samples:
            raise Unreachable(
                f"{self._asked.model} must answer to be asked what it can; it does not: "
                f"{reply.failure}; look at its server, and at base_url"
            )
        return reply

    def tried(self, *, n: int = 1, **given: Any) -> list[Sample] | None:
        """Return what a request gives, [] where it is refused, None where that cannot be told.

        Raises:
            LLMError: the server is gone.
        """
        try:
            reply = self._send(_HELLO, n=n, **given)
        except LLMError:
            return []
        if not reply.samples:
            self.plain("a")
        return list(reply.samples.values()) or None

    def streamed(self) -> bool | None:
        """Return whether text comes piece by piece."""
        heard: list[str] = []
        try:
            reply = self._send(_HELLO, listen=heard.append)
        except LLMError:
            return False
        return True if heard else None if reply.failure else False

    def scored(self) -> bool | None:
        """Return whether a text that is given is scored."""
        given = (*_HELLO, Message("assistant", "Hello there."))
        try:
            reply = self._send(given, mode="score", max_tokens=1)
        except LLMError:
            return False
        return False if reply.failure in NOT_SCORED else bool(reply.samples) or None

    def _send(
        self,
        messages: tuple[Message, ...],
        *,
        n: int = 1,
        listen: Callable[[str], None] | None = None,
        **given: Any,
    ) -> Reply:
        told: dict[str, Any] = {"max_tokens": _SHORT, "extra": self._asked.extra} | given
        request = Request(self._asked.model, messages, **told)
        return self._layer(Call(request, tuple(range(n)), listen))


def _found(ask: _Prober, itself: Itself, asked: Asked) -> Probed:
    plain = ask.plain("a")
    usage = next(iter(plain.samples.values()))
    alternatives = _alternatives(ask)
    tests: dict[str, bool | None] = {
        "choices": asked.choices and _shows(ask.tried(choices=_ODD), _is_odd),
        "json_schema": _shows(ask.tried(schema=_SCHEMA, max_tokens=64), _follows),
        "logprobs": None if alternatives is None else alternatives > 0,
        "prompt_logprobs": ask.scored(),
        "seed": _is_taken(ask.tried(seed=7)),
        "stream": ask.streamed(),
    }
    several = ask.tried(n=2)
    return Probed(
        itself=itself,
        base_url=asked.shown,
        supports=frozenset(name for name, holds in tests.items() if holds),
        lacks=frozenset(name for name, holds in tests.items() if holds is False),
        max_top_logprobs=alternatives if alternatives != _MANY_ALTERNATIVES else None,
        samples_per_call=128 if several is not None and len(several) == 2 else 1,
        overhead_tokens=None if usage.estimated else max(0, plain.prompt_tokens - 1),
    )


_SCHEMA = canonical_json(
    {
        "type": "object",
        "properties": {"animal": {"type": "string", "enum": [_ODD[0]]}},
        "required": ["animal"],
        "additionalProperties": False,
    }
)


def _alternatives(ask: _Prober) -> int | None:
    """Return how many alternatives to a token are told at most; None is not known."""
    for n in (_MANY_ALTERNATIVES, _MANY_ALTERNATIVES - 1):
        told = _told(ask, n)
        if told is None or told >= 0:
            return told
    least, most = 0, _MANY_ALTERNATIVES - 1
    while most - least > 1:
        n = (least + most) // 2
        least, most = (n, most) if (_told(ask, n) or 0) > 0 else (least, n)
    return least


def _told(ask: _Prober, n: int) -> int | None:
    """Return how many alternatives are told where n are asked for, -1 where that is refused."""
    made = ask.tried(top_logprobs=n)
    if not made:
        return None if made is None else -1
    return len(made[0].logprobs[0].top) if made[0].logprobs else 0


def _is_taken(made: list[Sample] | None) -> bool | None:
    return None if made is None else bool(made)


def _shows(made: list[Sample] | None, holds: Callable[[str], bool]) -> bool | None:
    if not made:
        return _is_taken(made)
    return None if _thinks(made[0]) else holds(made[0].text)


def _is_odd(text: str) -> bool:
    return text.strip() in _ODD


def _follows(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"animal": _ODD[0]})
    except ValueError:
        return False


def _thinks(sample: Sample) -> bool:
    """Return whether an answer ends before the model has thought to the end: it shows nothing."""
    return sample.finish == "length" and (not sample.text.strip() or "<think" in sample.text)
