"""The section `teach` of a spec as a lesson."""

from __future__ import annotations

from typing import Any

from limbeck.spec.document import Entry
from limbeck.spec.fields import Fields
from limbeck.spec.findings import Findings, near
from limbeck.training.lesson import Lesson
from limbeck.training.questions import SOURCES, Source

__all__ = ["read_lesson"]


def read_lesson(entry: Entry, fields: Fields, findings: Findings) -> Lesson:
    """Return the lesson of a section.

    Raises:
        Refused: it is none.
    """

    def source(entry: Entry, place: str) -> Source:
        name, values = str(entry.value), dict[str, Entry]()
        if not isinstance(entry.value, str):
            name, values = fields.single(entry, place, "a source is a name, or {name: parameters}")
        if name not in SOURCES:
            message, mend = f"{name!r} is no source of queries", near(name, SOURCES)
            raise findings.refused(place, entry, message, mend)
        return fields.made(SOURCES[name], values, entry, place)

    def sources(entry: Entry, place: str) -> Any:
        if not isinstance(entry.value, list):
            return (source(entry, place),)
        return tuple(source(each, f"{place}[{n}]") for n, each in enumerate(entry.value))

    fields.special |= {tuple[Source, ...]: sources}
    return fields.made(Lesson, fields.mapping(entry, "teach"), entry, "teach")
