"""Cassettes as layers: one replays, one records, and two stand where a back-end would be.

auto is Replay over Recorder over the back-end; record is Recorder over the back-end; replay is
Replay over `unrecorded`; strict is Replay over Strict; and off has none of them.
"""

from __future__ import annotations

from limbeck.errors import CassetteError
from limbeck.llm.ledger import Price, saved
from limbeck.llm.request import Call, Layer, Reply
from limbeck.llm.tape import Tape
from limbeck.meter import charge

__all__ = ["Recorder", "Replay", "Strict", "unrecorded"]


class Replay:
    """Answers from the tape, and asks the inner layer only for the samples that it lacks."""

    def __init__(self, inner: Layer, *, tape: Tape, price: Price | None) -> None:
        """Wrap a layer; the price says what a hit saves."""
        self._inner = inner
        self._tape = tape
        self._price = price

    def __call__(self, call: Call) -> Reply:
        """Return the recorded samples, and those that the inner layer gives for the others."""
        reply = Reply(self._tape.samples(call.request, call.indices))
        if reply.samples:
            charge(saved(reply.samples.values(), self._price))
            if call.listen is not None:
                call.listen(reply.samples[call.indices[0]].text)
        missing = reply.missing(call.indices)
        return reply.joined(self._inner(call.only(missing))) if missing else reply


class Recorder:
    """Puts every sample that the inner layer gives on the tape before it is handed on."""

    def __init__(self, inner: Layer, *, tape: Tape) -> None:
        """Wrap a layer."""
        self._inner = inner
        self._tape = tape

    def __call__(self, call: Call) -> Reply:
        """Return the inner layer's reply."""
        reply = self._inner(call)
        self._tape.record(call.request, reply.samples)
        return reply


def unrecorded(_: Call) -> Reply:
    """Return nothing but the failure of a miss: in replay mode there is no back-end."""
    return Reply(failure="not in the cassette")


class Strict:
    """In strict mode, what a miss meets."""

    def __init__(self, tape: Tape) -> None:
        """Name the tape, for the message."""
        self._tape = tape

    def __call__(self, call: Call) -> Reply:
        """Say what was asked for and how the nearest recording differs.

        Raises:
            CassetteError: always.
        """
        raise CassetteError(
            f"{self._tape.path} must hold samples {list(call.indices)} of request "
            f"{call.request.key} in strict mode; {self._tape.nearest(call.request)}\n"
            "record them with cassette_mode='auto', or ask what was recorded"
        )
