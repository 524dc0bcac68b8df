"""Findings of a spec: what must hold and does not, where in the file, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from limbeck.errors import Problem
from limbeck.spec.document import BY_HAND, Entry

__all__ = ["Findings", "Refused", "near"]


class Refused(Exception):  # noqa: N818 - not an error to the user, a finding
    """One finding, on its way to the list of all."""

    def __init__(self, problem: Problem) -> None:
        """Hold the finding."""
        super().__init__(str(problem))
        self.problem = problem


class Findings:
    """All findings of one file.

    Attributes:
        problems: those found so far.
    """

    def __init__(self, file: str) -> None:
        """Begin with none; `file` is the name that messages give."""
        self._file = file
        self.problems: list[Problem] = []

    def problem(self, place: str, entry: Entry, message: str, mend: str) -> Problem:
        """Return a finding with its line, without keeping it."""
        by_hand = entry.line == BY_HAND
        where = "command line" if by_hand else f"{self._file}:{entry.line}"
        return Problem(f"{where}: {place}" if place else where, message, mend)

    def find(self, place: str, entry: Entry, message: str, mend: str) -> None:
        """Keep a finding; what follows is read on."""
        self.problems.append(self.problem(place, entry, message, mend))

    def refused(self, place: str, entry: Entry, message: str, mend: str = "") -> Refused:
        """Return a finding to raise, which ends the reading of one value."""
        return Refused(self.problem(place, entry, message, mend))


def near(name: str, known: Iterable[str]) -> str:
    """Return the mend for an unknown name: what is nearest, or all there is."""
    names = sorted(set(known))
    lowered = {known.lower(): known for known in names}
    close = [lowered[m] for m in difflib.get_close_matches(name.lower(), lowered, n=3)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {', '.join(names)}" if names else "there is none"
