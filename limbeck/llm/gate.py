"""The gate: the stack of layers that every call passes, and the back-end below them."""

from __future__ import annotations

from threading import RLock

from limbeck.llm.backend import Asked, Backend
from limbeck.llm.blank import NotBlank
from limbeck.llm.budget import Budget, Limits
from limbeck.llm.cassette import Recorder, Replay, Strict, unrecorded
from limbeck.llm.fill import Fill
from limbeck.llm.flight import SingleFlight
from limbeck.llm.ledger import Ledger
from limbeck.llm.opening import open_backend, open_tokenizer, side_door
from limbeck.llm.rate import RateLimit
from limbeck.llm.refusals import Refusals
from limbeck.llm.request import Call, Layer, Reply
from limbeck.llm.retry import Patience, Retry
from limbeck.llm.settings import Settings
from limbeck.llm.side_door import SideDoor
from limbeck.llm.slots import Slots
from limbeck.llm.tape import Tape
from limbeck.llm.tokenizer import Tokenizer

__all__ = ["Gate"]


class Gate:
    """One LLM's way out. All is opened with the first call that needs it."""

    def __init__(self, settings: Settings) -> None:
        """Keep the settings; nothing is opened."""
        self._settings = settings
        self._lock = RLock()
        self._patience = Patience(
            retries=settings.retries,
            first_wait_s=settings.first_wait_s,
            reconnect_s=settings.reconnect_s,
        )
        self._stack: Layer | None = None
        self._below: Layer | None = None
        self._backend: Backend | None = None
        self._tape: Tape | None = None
        self._tokenizer: Tokenizer | None = None
        self._door: SideDoor | None = None

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

    def calls(self) -> Layer:
        """Return the layers between the cassette and the model: each call is sent and charged."""
        with self._lock:
            self._below = self._below or self._calls()
            return self._below

    def answered(self) -> None:
        """Take note that the server answers: from now on it is waited for if it goes away."""
        self._patience.answered()

    def door(self) -> SideDoor:
        """Return the way to what the server tells beside completions."""
        with self._lock:
            self._door = self._door or side_door(self._settings, self._patience)
            return self._door

    def close(self) -> None:
        """Close the back-end and fold the cassette; a later call opens them again.

        What the budget counted stays counted.
        """
        if self._backend is not None:
            self._backend.close()
        if self._door is not None:
            self._door.close()
        if self._tape is not None:
            self._tape.close()

    def _composed(self) -> Layer:
        """Return the whole stack, innermost layer first."""
        settings = self._settings
        if settings.cassette is not None and settings.cassette_mode != "off":
            self._tape = Tape(settings.cassette, recorded=not settings.calls_nobody)
        if settings.calls_nobody:
            layer = self._taped(unrecorded)
        else:
            layer = self._taped(Fill(NotBlank(self.calls())))
        return SingleFlight(Refusals(layer), price=settings.price)

    def _calls(self) -> Layer:
        settings = self._settings
        limits = Limits(settings.max_calls, settings.max_tokens, settings.max_usd)
        layer: Layer = Asked(self._opened(), self.tokenizer)
        layer = Ledger(layer, price=settings.price)
        layer = Slots(layer, concurrency=settings.at_once)
        if settings.requests_per_minute is not None:
            layer = RateLimit(layer, requests_per_minute=settings.requests_per_minute)
        if limits:
            layer = Budget(layer, limits=limits, price=settings.price, tokenizer=self.tokenizer)
        return Retry(layer, self._patience)

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
            self._backend = self._backend or open_backend(self._settings)
            return self._backend

    def _make_tokenizer(self) -> Tokenizer:
        return open_tokenizer(self._settings, backend=self._opened, door=self.door)
