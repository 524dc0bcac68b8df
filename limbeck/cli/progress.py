"""How far long work is, on standard error: bars on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from limbeck.progress import listening

__all__ = ["shown_progress"]

_EVERY_S = 30.0
"""Between two lines: a log of an hour holds a hundred of them."""

_FIRST_S = 5.0
"""Until work of one kind is told of at first."""


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show how far the work inside is."""
    with _bars() if sys.stderr.isatty() else _lines():
        yield


@contextmanager
def _lines() -> Iterator[None]:
    began: dict[str, tuple[float, int]] = {}
    due: dict[str, float] = {}

    def listen(label: str, done: int, total: int, remark: str) -> None:
        now = time.monotonic()
        if label not in began or done == 0:
            began[label] = (now, done)
        if now >= due.setdefault(label, now + _FIRST_S):
            due[label] = now + _EVERY_S
            since, before = began[label]
            left = _left(done - before, total - before, now - since)
            said = f", {remark}" if remark else ""
            click.echo(f"{label}: {done:,} of {total:,}{said}{left}", err=True)

    with listening(listen, hear=lambda text: click.echo(text, err=True)):
        yield


def _left(done: int, total: int, took_s: float) -> str:
    """Return in words how long the rest takes if it goes on so, nothing where nothing is done."""
    if not 0 < done < total:
        return ""
    left_s = took_s / done * (total - done)
    return f", {left_s / 60:,.0f} min left" if left_s >= 90 else f", {left_s:.0f} s left"


@contextmanager
def _bars() -> Iterator[None]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def listen(label: str, done: int, total: int, remark: str) -> None:
            if label not in tasks or done == 0:
                tasks[label] = bars.add_task(label, total=total, remark="")
            bars.update(tasks[label], completed=done, visible=done < total, remark=remark)

        with listening(listen, hear=bars.console.print):
            yield
