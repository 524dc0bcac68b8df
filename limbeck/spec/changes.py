"""Values of a spec that the command line changes: `key.key=value`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from limbeck.errors import UsageError
from limbeck.spec.document import BY_HAND, Entry, parse
from limbeck.spec.values import is_short_float

__all__ = ["changed"]

_BY_NAME = frozenset({"model", "objective"})
"""Values of the form {name: parameters}, whose name need not be said again."""


def changed(root: Entry, section: str, changes: Iterable[str]) -> Entry:
    """Return a document in which values below a section are replaced or added.

    Args:
        root: the document.
        section: that the keys are in; "" where they begin with it.
        changes: each `key=value`, the key with dots for what is nested, the value in YAML.

    Raises:
        UsageError: a change is no such thing.
        SpecError: a value is no YAML.
    """
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not all(key.split(".")):
            mend = f"{key}=VALUE" if key and not equals else "KEY=VALUE, such as depth=20"
            raise UsageError(f"a change must be key=value; got {change!r}; write {mend}")
        given = _by_hand(parse(value or "null", name=f"{key}="))
        root = _with(root, [*filter(None, [section]), *key.split(".")], given)
    return root


def _by_hand(entry: Entry) -> Entry:
    value = entry.value
    if isinstance(value, str) and is_short_float(value):
        value = float(value)
    elif isinstance(value, dict):
        value = {key: _by_hand(item) for key, item in value.items()}
    elif isinstance(value, list):
        value = [_by_hand(item) for item in value]
    return Entry(value, BY_HAND)


def _with(entry: Entry, keys: list[str], given: Entry) -> Entry:
    """Return a mapping with a value in its place, which is made where it is not there."""
    if not keys:
        return given
    held = entry.value if isinstance(entry.value, dict) else {}
    first, rest = keys[0], keys[1:]
    below = held.get(first, Entry(None, BY_HAND))
    if first in _BY_NAME and rest and isinstance(below.value, dict) and len(below.value) == 1:
        (name,) = below.value
        rest = rest if rest[0] == name else [name, *rest]
    return dataclasses.replace(entry, value=held | {first: _with(below, rest, given)})
