"""The exception tree. Every message says what must hold, what came, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ArtifactError",
    "BudgetError",
    "CassetteError",
    "CheckError",
    "DataError",
    "LLMError",
    "LimbeckError",
    "MissingExtraError",
    "Problem",
    "SpecError",
    "TrainingError",
    "UsageError",
    "told_by",
]

_SHOWN = 300


def told_by(error: BaseException) -> str:
    """Return in a line what an error of another package says, its type where it says nothing."""
    return " ".join(str(error).split())[:_SHOWN] or type(error).__name__


class LimbeckError(Exception):
    """Root of every error that Limbeck raises on purpose; its text is meant for the user."""


class UsageError(LimbeckError):
    """A call or a command line that cannot mean anything: a wrong argument, an unknown name."""


class DataError(LimbeckError):
    """Documents, queries, qrels or runs that are malformed or do not fit together."""


class ArtifactError(LimbeckError):
    """An index or another artifact on disk that is missing, truncated, foreign or stale."""


class TrainingError(LimbeckError):
    """A training run that cannot go on: its loss is not a number, or memory ran out."""


class MissingExtraError(LimbeckError):
    """A package that an optional part needs is not installed; the message names the extra."""

    def __init__(self, package: str, *, extra: str, wanted_by: str) -> None:
        super().__init__(
            f"{wanted_by} needs the package {package!r}, which is not installed; "
            f"run: pip install 'limbeck[{extra}]'"
        )


class LLMError(LimbeckError):
    """An LLM call that failed for good, after the retries that its kind of failure allows."""


class CassetteError(LLMError):
    """A cassette that cannot be read, or that holds no answer for a request in strict mode."""


class BudgetError(LLMError):
    """A call that the budget does not allow."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a static check: where it is, what is wrong, and how to mend it.

    The mend is empty where the message holds it already.
    """

    place: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f"; {self.mend}" if self.mend else "")


class CheckError(LimbeckError):
    """A pipeline that the static check refuses; `problems` holds every finding."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SpecError(CheckError):
    """A spec file that cannot be read; each problem's place begins with the file and the line."""
