"""The gate: the stack of layers that every call passes, and the back-end below them."""

from __future__ import annotations

import os
from threading import RLock

from limbeck.llm.backend import Asked, Backend
from limbeck.llm.blank import NotBlank
from limbeck.llm.budget import Budget, Limits
from limbeck.llm.cassette import Recorder, Replay, Strict, unrecorded
from limbeck.llm.deadline import Deadline
from limbeck.llm.fill import Fill
from limbeck.llm.flight import SingleFlight
from limbeck.llm.ledger import Ledger
from limbeck.llm.llamacpp import LlamaCpp, LlamaCppTokenizer
from limbeck.llm.openai_compatible import OpenAICompatible
from limbeck.llm.rate import RateLimit
from limbeck.llm.refusals import Refusals
from limbeck.llm.request import Call, Layer, Reply
from limbeck.llm.retry import Retry
from limbeck.llm.scripted import Scripted, replies_in_turn
from limbeck.llm.secrets import resolve
from limbeck.llm.settings import Settings
from limbeck.llm.slots import Slots
from limbeck.llm.tape import Tape
from limbeck.llm.tokenizer import FALLBACK, Tokenizer, load_tokenizer

__all__ = ["Gate"]

_NO_KEY = "no-key"
"""What the SDK is given where there is none; it is taken out of messages, so no word of them."""


class Gate:
    """One LLM's way out. All is opened with the first call that needs it."""

    def __init__(self, settings: Settings) -> None:
        """Keep the settings; nothing is opened."""
        self._settings = settings
        self._lock = RLock()
        self._stack: Layer | None = None
        self._backend: Backend | None = None
        self._tape: Tape | None = None
        self._tokenizer: Tokenizer | None = None

    def __call__(self, call: Call) -> Reply:
        """Return what the outermost layer replies."""
        with self._lock:
            stack = self._stack = self._stack or self._composed()
        return stack(call)

    def tokenizer(self) -> Tokenizer:
        """Return the model's tokenizer, loaded once."""
        with self._lock:
            self._tokenizer = self._tokenizer or self._make_tokenizer()
            return self._tokenizer

    def close(self) -> None:
        """Close the back-end and fold the cassette; a later call opens them again.

        What the budget counted stays counted.
        """
        if self._backend is not None:
            self._backend.close()
        if self._tape is not None:
            self._tape.close()

    def _composed(self) -> Layer:
        """Return the whole stack, innermost layer first."""
        settings = self._settings
        if settings.cassette is not None and settings.cassette_mode != "off":
            self._tape = Tape(settings.cassette, recorded=not settings.calls_nobody)
        layer = self._taped(unrecorded) if settings.calls_nobody else self._taped(self._calls())
        return SingleFlight(Refusals(layer), price=settings.price)

    def _calls(self) -> Layer:
        """Return the layers between the cassette and the model."""
        settings = self._settings
        limits = Limits(settings.max_calls, settings.max_tokens, settings.max_usd)
        layer: Layer = Asked(self._opened(), self.tokenizer)
        layer = Ledger(layer, price=settings.price)
        layer = Slots(layer, concurrency=settings.concurrency)
        if settings.requests_per_minute is not None:
            layer = RateLimit(layer, requests_per_minute=settings.requests_per_minute)
        if limits:
            layer = Budget(layer, limits=limits, price=settings.price, tokenizer=self.tokenizer)
        layer = Retry(layer, retries=settings.retries, first_wait_s=settings.first_wait_s)
        return Fill(NotBlank(layer))

    def _taped(self, layer: Layer) -> Layer:
        """Return a layer behind the cassette, as its mode wants."""
        tape, price = self._tape, self._settings.price
        if tape is None:
            return layer
        if self._settings.cassette_mode == "record":
            return Recorder(layer, tape=tape)
        if self._settings.cassette_mode == "auto":
            layer = Recorder(layer, tape=tape)
        if self._settings.cassette_mode == "strict":
            layer = Strict(tape)
        return Replay(layer, tape=tape, price=price)

    def _opened(self) -> Backend:
        with self._lock:
            self._backend = self._backend or self._make_backend()
            return self._backend

    def _make_backend(self) -> Backend:
        settings = self._settings
        if settings.backend is not None:
            return Deadline(settings.backend, timeout_s=settings.timeout_s)
        if settings.family.name == "scripted":
            return Scripted(replies_in_turn(settings.replies))
        if settings.family.name == "llamacpp":
            assert settings.context_length is not None
            return LlamaCpp(
                settings.name,
                context_length=settings.context_length,
                concurrency=settings.concurrency,
                timeout_s=settings.timeout_s,
            )
        server = OpenAICompatible(
            settings.name,
            connect=self._connection,
            timeout_s=settings.timeout_s,
            max_tokens=self._bound(),
        )
        return Deadline(server, timeout_s=settings.timeout_s)  # headers and errors may trickle too

    def _bound(self) -> str:
        """Return the parameter that bounds a completion: OpenAI's new name for OpenAI alone."""
        given = self._settings.base_url is not None and self._settings.family.name == "openai"
        return "max_tokens" if given else self._settings.family.max_tokens

    def _connection(self) -> tuple[str | None, str]:
        """Return base URL and key, both resolved now and kept by nobody but the connection."""
        settings = self._settings
        base_url = settings.family.base_url
        if settings.base_url is not None:
            base_url = resolve(settings.base_url, wanted_by=settings.model)
        if settings.api_key is not None:
            return base_url, resolve(settings.api_key, wanted_by=settings.model).strip()
        if settings.key_variable is None:
            return base_url, _NO_KEY
        if settings.family.key_required:
            reference = f"${{env:{settings.key_variable}}}"
            return base_url, resolve(reference, wanted_by=settings.model).strip()
        return base_url, os.environ.get(settings.key_variable, "").strip() or _NO_KEY

    def _make_tokenizer(self) -> Tokenizer:
        settings = self._settings
        if settings.tokenizer_from is not None:
            return load_tokenizer(settings.tokenizer_from, revision=settings.revision)
        if settings.family.name == "llamacpp":
            backend = self._opened()
            assert isinstance(backend, LlamaCpp)
            return LlamaCppTokenizer(backend)
        return FALLBACK
