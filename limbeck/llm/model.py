"""The LLM: prompts in, generations out, every call through the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError, UsageError
from limbeck.fingerprint import canonical_json
from limbeck.llm.gate import Gate
from limbeck.llm.langchain import LangChain, name_of
from limbeck.llm.ledger import saved
from limbeck.llm.probe import Asked, Probed, Unreachable, probed, recalled
from limbeck.llm.request import Call, Failed, Reply, Request, Sample, Token, encodable
from limbeck.llm.scripted import Script, Scripted
from limbeck.llm.secrets import resolve
from limbeck.llm.settings import Settings
from limbeck.llm.side_door import SideDoor
from limbeck.llm.spread import spread
from limbeck.llm.streaming import streamed
from limbeck.llm.tokenizer import Tokenizer
from limbeck.meter import charge, note
from limbeck.types import Message

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["CALL_FAILED", "LLM", "Generation"]

CALL_FAILED = "LLM call failed"
"""Stands in the note on each generation that lacks a sample."""

_OVERHEAD_TOKENS = 40
"""SmolLM2 adds 30 with its own system message, Llama 3.1 some 36, Qwen 3 some 10."""

_PROBE_TIMEOUT_S = 30.0
_PROBE_RETRIES = 2

_known: dict[tuple[str, str, str], Probed] = {}
"""What this process has learned of servers, by place, model and what is sent with each request."""

_ROLES = frozenset({"assistant", "developer", "system", "user"})


@dataclass(frozen=True, slots=True)
class Generation:
    """What became of one prompt.

    Attributes:
        texts: the samples that were had, up to n, in sample order.
        failure: why some are missing, in a few words ("timeout", "budget", "http 500", "empty
            answer", ...); None where none is.
        samples: the same samples with their finish reasons, tokens and log-probabilities.
    """

    texts: tuple[str, ...] = ()
    failure: str | None = None
    samples: tuple[Sample, ...] = ()

    @property
    def logprobs(self) -> tuple[tuple[Token, ...] | None, ...]:
        """The tokens of each text with their log-probabilities, None where none were told."""
        return tuple(sample.logprobs for sample in self.samples)


@dataclass(frozen=True)
class LLM(Settings):
    """A language model behind the gate; `Settings` says what the fields mean.

    Two with equal fields are equal, and each has a gate, and with it a budget, of its own.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_gate", Gate(self))

    @staticmethod
    def scripted(script: Script, *, name: str = "script") -> LLM:
        """Return an LLM for tests that answers by a function of messages and sample number.

        The function may raise `limbeck.llm.request.Failed` and may sleep. Other fields are set with
        `dataclasses.replace`.
        """
        return LLM(f"scripted:{name}", backend=Scripted(script))

    @staticmethod
    def from_langchain(
        chat_model: BaseChatModel, *, name: str | None = None, sampling: bool = True
    ) -> LLM:
        """Return an LLM that asks a LangChain chat model; other fields by `dataclasses.replace`.

        Args:
            chat_model: the model.
            name: its name in cassettes and fingerprints; None is its class and model name.
            sampling: temperature, top_p, max_tokens and seed are given with each call. False where
                they are set on the model: those of `generate` then only stand in the cassette's
                key, and what is set on the model should stand in `revision`.
        """
        backend = LangChain(chat_model, sampling=sampling)
        return LLM(f"langchain:{name or name_of(chat_model)}", backend=backend)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that counts and cuts texts for this model, loaded on first use."""
        return self._own_gate.tokenizer()

    def probe(self, *, again: bool = False) -> Probed | None:
        """Return what the model's server can, and go by it from now on; None where there is none.

        Some ten short requests are sent, with this LLM's `extra`, unless the cache knows this
        server. They stand on the meter, but take nothing of `max_calls` and its like. Where
        `supports` was given, it stands; of two context lengths the shorter counts.

        Args:
            again: ask whatever the cache holds.

        Raises:
            LLMError: the server refuses a plain request, or, as `Unreachable`, gives no answer.
        """
        return self._learn(lambda asked, door: probed(asked, door, again=again))

    def recall(self) -> Probed | None:
        """Return what the cache knows of the model's server, and go by it from now on.

        No text is generated, and a server of which the cache knows nothing is not asked at all.
        """
        try:
            return self._learn(recalled)
        except LimbeckError:
            return None

    def _learn(self, ask: Callable[[Asked, SideDoor], Probed | None]) -> Probed | None:
        """Return what a question tells of the model's server, and go by it from now on."""
        if not self.has_server:
            return None
        with closing(self._asking()) as asking:
            gate = asking._own_gate
            asked = Asked(
                layer=gate.calls,
                model=self.identity,
                name=self.name,
                base_url=resolve(self.place, wanted_by=self.model),
                shown=self.place,
                extra=str(self.extra),
                choices=bool(self.family.choices),
            )
            try:
                found = ask(asked, gate.door())
            except Failed as error:
                raise Unreachable(
                    f"{self.model} must be reachable to be asked what it can; it is not: "
                    f"{error.reason}; start the server, or give its base_url"
                ) from None
        if found is not None:
            _known[self._place_of_model] = found
            self._own_gate.answered()
        return found

    def _asking(self) -> LLM:
        """Return an LLM of the same server whose answers nobody records, and who soon gives up."""
        return dataclasses.replace(
            self,
            cassette=None,
            cassette_mode="off",
            max_usd=None,
            max_calls=None,
            max_tokens=None,
            timeout_s=min(_PROBE_TIMEOUT_S, self.deadline_s),
            retries=min(_PROBE_RETRIES, self.retries),
            reconnect_s=0.0,
        )

    @property
    def _place_of_model(self) -> tuple[str, str, str]:
        return self.place, self.model, str(self.extra)

    @property
    def _found(self) -> Probed | None:
        return _known.get(self._place_of_model) if self.has_server else None

    @property
    def capabilities(self) -> frozenset[str]:
        """What the model can beyond text: as it was given, else found, else usual."""
        usual = super().capabilities
        if self.supports is not None or self._found is None:
            return usual
        return (usual - self._found.lacks) | self._found.supports

    @property
    def max_top_logprobs(self) -> int | None:
        """Alternatives that can be asked for, None where only the server knows."""
        told = None if self._found is None else self._found.max_top_logprobs
        return told or super().max_top_logprobs

    @property
    def width(self) -> int:
        """Samples that one request asks for at most."""
        if self.samples_per_call is None and self._found is not None:
            return self._found.samples_per_call
        return super().width

    @property
    def room(self) -> int | None:
        """Tokens of a prompt and its completion together, None where it is not known."""
        told = None if self._found is None else self._found.itself.context_length
        known = [length for length in (self.context_length, told) if length is not None]
        return min(known, default=None)

    @property
    def overhead_tokens(self) -> int:
        """What the chat format adds to a message: what was found, else more than most add."""
        told = None if self._found is None else self._found.overhead_tokens
        return _OVERHEAD_TOKENS if told is None else told

    @property
    def _own_gate(self) -> Gate:
        gate: Gate = self.__dict__["_gate"]
        return gate

    def generate(  # noqa: PLR0913 - these are the sampling parameters of a chat request
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        n: int = 1,
        temperature: float | None = None,
        max_tokens: int = 512,
        top_p: float | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        top_logprobs: int | None = None,
        schema: Mapping[str, Any] | None = None,
        choices: Sequence[str] = (),
        label: str = "llm",
    ) -> list[Generation]:
        """Return what the model says to each prompt, in order.

        A call that fails for good costs its own prompt alone: its generation says why, and a note
        is made. What is None is left to the server. Equal prompts have equal samples and are sent
        once.

        Args:
            prompts: messages of each prompt.
            n: samples of each prompt.
            temperature: 0 is sent as 0.
            max_tokens: tokens of each completion at most.
            top_p: share of the probability mass that is sampled from.
            stop: texts that end a completion.
            seed: sample i of each prompt is drawn with seed + i.
            top_logprobs: alternatives told for each token; 0 tells the tokens' own alone.
            schema: JSON schema that each answer must follow.
            choices: texts of which each answer must be one.
            label: who asks, for notes and progress.

        Raises:
            UsageError: an argument is out of range, or the model cannot do what is asked.
            LLMError: the server refuses all such calls: a wrong key, model or parameter.
            CassetteError: a miss in strict mode, or a cassette that cannot be read or written.
        """
        if n < 1:
            raise UsageError(f"n must be 1 or more; got {n}")
        requests = [
            self._request(
                messages,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                stop=stop,
                seed=seed,
                top_logprobs=top_logprobs,
                schema=schema,
                choices=choices,
            )
            for messages in prompts
        ]
        return self._generations(requests, n, label)

    def score(
        self, prompts: Sequence[Sequence[Message]], *, label: str = "llm"
    ) -> list[Generation]:
        """Return how likely the model holds the last message of each prompt, in order.

        The last message is the assistant's, and nothing is generated: the sample of a generation is
        that message with the log-probabilities of its tokens. All else is as with `generate`.

        Raises:
            UsageError: a prompt does not end with an assistant's text, or the model does not
                support prompt_logprobs.
            LLMError: the server refuses all such calls.
            CassetteError: a miss in strict mode, or a cassette that cannot be read or written.
        """
        self._require("prompt_logprobs")
        requests = [
            dataclasses.replace(
                self._request(messages, max_tokens=1, temperature=None, top_p=None), mode="score"
            )
            for messages in prompts
        ]
        for request in requests:
            role, content = request.messages[-1]
            if role != "assistant" or not content.strip():
                raise UsageError(
                    "a prompt to score must end with an assistant's message that holds text; "
                    f"got {role!r}; put the text to score there"
                )
        return self._generations(requests, 1, label)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        temperature: float | None = None,
        max_tokens: int = 512,
        top_p: float | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield the answer to one prompt piece by piece, each piece once.

        It passes the same gate: a recorded answer comes as one piece, and what was heard to the end
        is recorded and charged. Who stops listening stops the generation.

        Raises:
            UsageError: an argument is out of range.
            BudgetError: the budget does not allow the call.
            LLMError: the call failed; what was yielded before is all there is.
        """
        self._require("stream")
        request = self._request(
            messages,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            stop=stop,
            seed=seed,
        )
        return streamed(self._own_gate, request)

    def close(self) -> None:
        """Close connections and fold the cassette's journal; a later call opens them again."""
        self._own_gate.close()

    def _generations(self, requests: Sequence[Request], n: int, label: str) -> list[Generation]:
        """Return what became of each request; a note is made for each that lacks a sample."""
        replies = self._replies(requests, n, label)
        generations = [_generation(replies[request.key], n) for request in requests]
        for generation in generations:
            if generation.failure:
                note(f"{label}: {CALL_FAILED} ({generation.failure})")
        return generations

    def _replies(self, requests: Sequence[Request], n: int, label: str) -> dict[str, Reply]:
        """Return one reply for each distinct request; those asked again are charged as saved."""
        distinct = {request.key: request for request in requests}
        calls = [
            Call(request, tuple(range(start, min(start + self.width, n))))
            for request in distinct.values()
            for start in range(0, n, self.width)
        ]
        made = spread(self._own_gate, calls, concurrency=self.at_once, label=label)
        replies = dict.fromkeys(distinct, Reply())
        for call, reply in zip(calls, made, strict=True):
            replies[call.request.key] = replies[call.request.key].joined(reply)
        for key in _repeated(request.key for request in requests):
            charge(saved(replies[key].samples.values(), self.price))
        return replies

    def _require(self, capability: str) -> None:
        if capability not in self.capabilities:
            raise UsageError(
                f"{self.model} must support {capability} for this; it supports "
                f"{', '.join(sorted(self.capabilities)) or 'nothing beyond text'}; "
                f"add it to supports if the model can"
            )

    def _request(  # noqa: PLR0913 - as `generate`
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float | None,
        top_p: float | None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        top_logprobs: int | None = None,
        schema: Mapping[str, Any] | None = None,
        choices: Sequence[str] = (),
    ) -> Request:
        """Return the request of one prompt.

        Raises:
            UsageError: an argument is out of range, or the model cannot do what is asked.
        """
        _require_range("max_tokens", max_tokens, 1)
        _require_range("temperature", temperature, 0.0)
        _require_range("top_p", top_p, 0.0, 1.0)
        _require_range("top_logprobs", top_logprobs, 0, self.max_top_logprobs or float("inf"))
        _require_choices(choices, schema)
        wanted = {"seed": seed, "logprobs": top_logprobs, "json_schema": schema}
        for capability, value in {**wanted, "choices": choices or None}.items():
            if value is not None:
                self._require(capability)
        return Request(
            model=self.identity,
            messages=_checked(messages),
            max_tokens=max_tokens,
            revision=self.state,
            temperature=None if temperature is None else float(temperature),
            top_p=None if top_p is None else float(top_p),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            seed=seed,
            top_logprobs=top_logprobs,
            schema="" if schema is None else canonical_json(schema),
            choices=tuple(choices),
            extra=str(self.extra),
        )


def _repeated(keys: Iterable[str]) -> Iterator[str]:
    """Yield each key as often as it comes again."""
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            yield key
        seen.add(key)


def _generation(reply: Reply, n: int) -> Generation:
    samples = tuple(reply.samples[index] for index in sorted(reply.samples))
    failure = (reply.failure or "fewer answers than asked for") if len(samples) < n else None
    return Generation(tuple(sample.text for sample in samples), failure, samples)


def _checked(messages: Sequence[Message]) -> tuple[Message, ...]:
    given: object = messages
    if not given or isinstance(given, (str, Message)):
        raise UsageError("a prompt must be a sequence of messages; wrap it: [Message('user', ...)]")
    for message in messages:
        role, content = message if isinstance(message, tuple) and len(message) == 2 else (None, 0)
        if role not in _ROLES or not isinstance(content, str):
            raise UsageError(
                f"a message must have a role of {', '.join(sorted(_ROLES))} and a text; "
                f"got {role!r} and {type(content).__name__}"
            )
    return tuple(Message(role, encodable(content)) for role, content in messages)


def _require_choices(choices: Sequence[str], schema: Mapping[str, Any] | None) -> None:
    given: object = choices
    if isinstance(given, str) or len(set(choices)) != len(choices) or not all(choices):
        raise UsageError(f"choices must be different texts, none of them empty; got {given!r}")
    if choices and schema is not None:
        raise UsageError("an answer can follow a schema or be one of some choices; got both")


def _require_range(
    name: str, value: float | None, least: float, most: float = float("inf")
) -> None:
    if value is not None and not least <= value <= most:
        raise UsageError(f"{name} must lie in [{least:g}, {most:g}]; got {value}")
