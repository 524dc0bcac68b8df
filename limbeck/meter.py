"""The meter: what calls cost and what was degraded, gathered where the work was asked for.

Gates call `charge` and `note`; whoever wants to know opens a `metered()` block around the work.
Blocks nest, and each sees all that happens inside it, in worker threads too as long as they are
started with `contextvars.copy_context()`. Notes of a pipeline for which nobody opened a block go to
the log "limbeck", so that a run made without its LLM does not pass for one made with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields

__all__ = ["Meter", "Usage", "charge", "log_unheard", "metered", "note"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls, tokens, money and seconds of an LLM; `saved_` is what cassette hits did not cost.

    Attributes:
        prompts: those that nodes asked, from wherever the answers came; not in an estimate.
        answered: prompts of them that had an answer.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    saved_calls: int = 0
    saved_prompt_tokens: int = 0
    saved_completion_tokens: int = 0
    saved_usd: float = 0.0
    prompts: int = 0
    answered: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(slots=True)
class Meter:
    """What happened inside one `metered()` block."""

    usage: Usage = field(default_factory=Usage)
    notes: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, usage: Usage) -> None:
        """Add a call's usage."""
        with self._lock:
            self.usage = self.usage + usage

    def remark(self, message: str, times: int) -> None:
        """Count a note; the same words add up."""
        with self._lock:
            self.notes[message] = self.notes.get(message, 0) + times


_LOG = logging.getLogger("limbeck")
_open: ContextVar[tuple[Meter, ...]] = ContextVar("limbeck_meters", default=())


@contextmanager
def metered() -> Iterator[Meter]:
    """Yield a meter that sees every charge and note made inside the block."""
    meter = Meter()
    token = _open.set((*_open.get(), meter))
    try:
        yield meter
    finally:
        _open.reset(token)


def charge(usage: Usage) -> None:
    """Report the cost of a call to every open meter."""
    for meter in _open.get():
        meter.add(usage)


def note(message: str, times: int = 1) -> None:
    """Report a degradation, such as a query that kept its text, to every open meter."""
    for meter in _open.get():
        meter.remark(message, times)


def log_unheard(notes: Mapping[str, int]) -> None:
    """Log each distinct note once, at the level WARNING, where no meter is open that heard it."""
    if _open.get():
        return
    for message, times in notes.items():
        _LOG.warning("%s (%d times)", message, times)
