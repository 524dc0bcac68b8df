"""Empty answers: one that holds nothing but white space is asked for once more, then missing."""

from __future__ import annotations

import dataclasses

from limbeck.llm.request import Call, Layer, Reply

__all__ = ["NotBlank"]


class NotBlank:
    """Lets no blank sample through."""

    def __init__(self, inner: Layer) -> None:
        """Wrap a layer."""
        self._inner = inner

    def __call__(self, call: Call) -> Reply:
        """Return the samples that hold text; the failure of the others is "empty answer"."""
        reply = self._inner(call)
        blank = _blank(reply)
        if blank:
            reply = reply.joined(self._inner(call.only(blank)))
            blank = _blank(reply)
        if not blank:
            return reply
        kept = {index: s for index, s in reply.samples.items() if index not in blank}
        return dataclasses.replace(reply, samples=kept, failure=reply.failure or "empty answer")


def _blank(reply: Reply) -> tuple[int, ...]:
    return tuple(index for index, sample in reply.samples.items() if not sample.text.strip())
