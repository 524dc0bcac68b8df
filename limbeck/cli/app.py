"""The root of the command line: errors as one line, progress, exit status."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any, Protocol, TypeVar

import click

import limbeck
from limbeck.cli.progress import shown_progress
from limbeck.errors import CheckError, LimbeckError, UsageError

__all__ = ["closing", "command_line", "main", "noted", "one_line", "root", "with_progress"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Closes(Protocol):
    def close(self) -> None: ...


_Closed = TypeVar("_Closed", bound=_Closes)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(limbeck.__version__, prog_name="limbeck")
def root() -> None:
    """Compose, measure and serve retrieval pipelines that may use an LLM."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; a user's mistake is one line on standard error."""
    signal.signal(signal.SIGINT, _interrupt)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        root.main(args=given, prog_name="limbeck", standalone_mode=False, obj=given)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"limbeck: {one_line(error.format_message())}{_where_told(error)}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("limbeck: stopped; the same command goes on where it was", err=True)
        sys.stdout.flush()
        os._exit(130)  # calls under way are not waited for; what was answered is on disk
    except CheckError as error:
        for problem in error.problems:
            click.echo(f"limbeck: {one_line(problem)}", err=True)
        sys.exit(1)
    except LimbeckError as error:
        click.echo(f"limbeck: {one_line(error)}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def _where_told(error: click.ClickException) -> str:
    """Return where the options stand of the command that was called wrongly."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" See {context.command_path} --help" if context else ""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop at the first Ctrl-C by way of all that has to be closed, at the second one at once."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.default_int_handler(number, frame)


def command_line() -> str:
    """Return the command that runs, as it can be given again."""
    return shlex.join(["limbeck", *click.get_current_context().obj])


@contextmanager
def closing(opened: _Closed) -> Iterator[_Closed]:
    """Close what was opened, but after Ctrl-C: calls under way would be waited for.

    What was answered is on disk, and servers of ours end with this process.
    """
    try:
        yield opened
    except Exception:
        opened.close()
        raise
    opened.close()


def one_line(message: object) -> str:
    """Return a message without line ends."""
    return " ".join(str(message).split())


def with_progress(command: _Command) -> _Command:
    """Show the progress of long work while a command runs: bars, or lines where no terminal is."""

    @wraps(command)
    def showing(*args: Any, **values: Any) -> Any:
        with shown_progress():
            return command(*args, **values)

    return showing  # type: ignore[return-value]


@contextmanager
def noted() -> Iterator[dict[str, int]]:
    """Yield the notes of the work inside; at its end they stand on standard error."""
    from limbeck.meter import metered

    with metered() as meter:
        yield meter.notes
    for message, times in meter.notes.items():
        click.echo(f"{one_line(message)} ({times:,} times)", err=True)
