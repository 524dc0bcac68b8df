"""Servers that return fewer completions than were asked for are asked for the rest."""

from __future__ import annotations

from limbeck.llm.request import Call, Layer, Reply

__all__ = ["Fill"]


class Fill:
    """Asks in runs of neighbouring samples, again and again while something comes.

    A run is of neighbours because a request has one seed: sample i of a request with seed s has the
    seed s + i, whichever request it comes with.
    """

    def __init__(self, inner: Layer) -> None:
        """Wrap a layer."""
        self._inner = inner

    def __call__(self, call: Call) -> Reply:
        """Return the samples; there are fewer than asked for only with a failure."""
        reply = Reply()
        missing = call.indices
        while missing:
            part = self._inner(call.only(_first_run(missing)))
            reply = reply.joined(part)
            if part.failure or not part.samples:
                return reply.joined(Reply(failure=part.failure or "fewer answers than asked for"))
            missing = reply.missing(call.indices)
        return reply


def _first_run(indices: tuple[int, ...]) -> tuple[int, ...]:
    """Return the leading indices that count up by one."""
    run = [indices[0]]
    for index in indices[1:]:
        if index != run[-1] + 1:
            break
        run.append(index)
    return tuple(run)
