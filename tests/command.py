"""The command line, called in this process."""

from __future__ import annotations

from limbeck import cli

__all__ = ["run"]


def run(capsys, *arguments):
    """Return exit status, standard output and standard error of a command line."""
    try:
        cli.main([str(argument) for argument in arguments])
        status = 0
    except SystemExit as done:
        status = done.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err
