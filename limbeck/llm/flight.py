"""Single flight: a sample that is already being asked for is waited for, not asked for again."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock

from limbeck.llm.ledger import Price, saved
from limbeck.llm.request import ABANDONED, Abandoned, Call, Layer, Reply, Sample
from limbeck.meter import charge

__all__ = ["SingleFlight"]

_Outcome = tuple[Sample | None, str | None]


class SingleFlight:
    """Sends concurrent identical requests once; who waits for another's is charged nothing.

    A call first makes what it alone was asked for and then waits for others', so that two calls
    never wait for each other. What another's listener went away from is asked for again.
    """

    def __init__(self, inner: Layer, *, price: Price | None) -> None:
        """Wrap a layer."""
        self._inner = inner
        self._price = price
        self._flying: dict[tuple[str, int], Future[_Outcome]] = {}
        self._lock = Lock()

    def __call__(self, call: Call) -> Reply:
        """Return the samples, own ones and those that others were asking for."""
        own: dict[int, Future[_Outcome]] = {}
        others: dict[int, Future[_Outcome]] = {}
        with self._lock:
            for index in call.indices:
                place = (call.request.key, index)
                if place in self._flying:
                    others[index] = self._flying[place]
                else:
                    own[index] = self._flying[place] = Future()
        reply = self._made(call.only(own), own) if own else Reply()
        return reply.joined(self._awaited(call, others)) if others else reply

    def _made(self, call: Call, own: dict[int, Future[_Outcome]]) -> Reply:
        try:
            reply = self._inner(call)
        except Abandoned:
            reply = Reply(failure=ABANDONED)
        except BaseException as error:
            self._land(call)
            for future in own.values():
                future.set_exception(error)
            raise
        self._land(call)
        for index, future in own.items():
            future.set_result((reply.samples.get(index), reply.failure))
        return reply

    def _land(self, call: Call) -> None:
        with self._lock:
            for index in call.indices:
                del self._flying[call.request.key, index]

    def _awaited(self, call: Call, others: dict[int, Future[_Outcome]]) -> Reply:
        samples: dict[int, Sample] = {}
        abandoned: list[int] = []
        failure: str | None = None
        for index, future in others.items():
            sample, why = future.result()
            if sample is None and why == ABANDONED:
                abandoned.append(index)
                continue
            if sample is None:
                failure = why
                continue
            samples[index] = sample
            if call.listen is not None:
                call.listen(sample.text)
        charge(saved(samples.values(), self._price))
        reply = Reply(samples, failure)
        return reply.joined(self(call.only(abandoned))) if abandoned else reply
