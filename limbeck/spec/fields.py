"""Objects of dataclasses from a spec: each parameter by the type of its field."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from limbeck.errors import LimbeckError
from limbeck.pipeline import Node
from limbeck.spec.document import BY_HAND, Entry, by_hand
from limbeck.spec.findings import Findings, Refused, near
from limbeck.spec.models import MODEL_FIELDS, found, found_anywhere
from limbeck.spec.spec import parameters
from limbeck.spec.values import optional, path_below, plain, required, without_none

__all__ = ["Fields", "ReadValue"]

_T = TypeVar("_T")

ReadValue = Callable[[Entry, str], object]
"""From a value and its place to what it means."""


class Fields:
    """Reads the parameters of one spec; gathers findings instead of stopping at the first.

    Attributes:
        special: how values of the types are read that plain YAML does not have.
    """

    def __init__(
        self, folder: Path, findings: Findings, read_node: Callable[[Entry, str], Node]
    ) -> None:
        """Read for a spec.

        Args:
            folder: what relative paths start from.
            findings: of the spec.
            read_node: how a node is read.
        """
        self._folder = folder
        self._findings = findings
        self._read_node = read_node
        self.special: dict[Any, ReadValue] = {Path: self._path}

    def made(
        self,
        cls: type[_T],
        values: dict[str, Entry],
        entry: Entry,
        place: str,
        *,
        first: str | None = None,
        base: _T | None = None,
    ) -> _T:
        """Return an object of a dataclass from its parameters, all of them checked first."""
        hints = typing.get_type_hints(cls)
        fields = parameters(cls)
        open_fields = [f for f in fields if first is None or f is not fields[0]]
        before = len(self._findings.problems)
        self.known(values, [f.name for f in open_fields], place)
        given: dict[str, object] = {} if first is None else {fields[0].name: first}
        for f in open_fields:
            if f.name in values:
                where = f"{place}.{f.name}"
                self._take(given, f.name, values[f.name], hints[f.name], where)
            elif base is None and required(f):
                shown = getattr(cls, "name", cls.__name__)
                self._findings.find(
                    f"{place}", entry, f"{shown} must have `{f.name}`", f"add {f.name}:"
                )
        if len(self._findings.problems) > before:
            raise Refused(self._findings.problems.pop())
        try:
            return cls(**given) if base is None else dataclasses.replace(base, **given)  # type: ignore[type-var]
        except LimbeckError as error:
            blamed = Entry(None, BY_HAND) if any(map(by_hand, values.values())) else entry
            raise self._findings.refused(place, blamed, str(error)) from None

    def _take(
        self, given: dict[str, object], name: str, entry: Entry, hint: Any, place: str
    ) -> None:
        try:
            value = self._value(entry, hint, place)
            if name in MODEL_FIELDS and isinstance(value, str):
                find = found if entry.line != BY_HAND else found_anywhere
                value = self.model(value, entry, place, find)
            given[name] = value
        except Refused as refused:
            self._findings.problems.append(refused.problem)

    def _value(self, entry: Entry, hint: Any, place: str) -> object:
        """Return a parameter's value by the type of its field."""
        if optional(hint):
            if entry.value is None:
                return None
            hint = without_none(hint)
        if isinstance(hint, type) and issubclass(hint, Node):
            node = self._read_node(entry, place)
            if not isinstance(node, hint):
                wanted = getattr(hint, "name", f"node of the family {hint.__name__}")
                raise self._findings.refused(
                    place, entry, f"must be a {wanted}; got a {node.name}", ""
                )
            return node
        special = self.special.get(hint)
        if special:
            return special(entry, place)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self.made(hint, self.mapping(entry, place), entry, place)
        return plain(entry, hint, place, self._findings)

    def _path(self, entry: Entry, place: str) -> Path:
        if entry.line == BY_HAND and isinstance(entry.value, str):
            return Path(entry.value)
        return path_below(self._folder, entry, place, self._findings)

    def model(self, name: str, entry: Entry, place: str, find: Callable[[str, Path], _T]) -> _T:
        """Return what the name of a model means below the spec's folder."""
        try:
            return find(name, self._folder)
        except LimbeckError as error:
            raise self._findings.refused(place, entry, str(error)) from None

    def mapping(self, entry: Entry, place: str) -> dict[str, Entry]:
        """Return the entries of a mapping; nothing is an empty one.

        Raises:
            Refused: it is something else.
        """
        if entry.value is None:
            return {}
        if not isinstance(entry.value, dict):
            raise self._findings.refused(
                place, entry, f"must be a mapping of parameters; got {entry.plain()!r}", "write {}"
            )
        return entry.value

    def single(self, entry: Entry, place: str, form: str) -> tuple[str, dict[str, Entry]]:
        """Return the name and the parameters of a value such as {name: parameters}.

        Raises:
            Refused: it has not that form, which is told.
        """
        if not isinstance(entry.value, dict) or len(entry.value) != 1:
            raise self._findings.refused(
                place, entry, f"{form}; got {entry.plain()!r}", "write it so"
            )
        ((name, parameters),) = entry.value.items()
        return name, self.mapping(parameters, place)

    def known(self, values: dict[str, Entry], known: Iterable[str], place: str) -> None:
        """Find every entry that has none of the known names."""
        names = list(known)
        for key, entry in values.items():
            if key not in names:
                message = f"there is no parameter {key!r}"
                self._findings.find(f"{place}.{key}", entry, message, near(key, names))
