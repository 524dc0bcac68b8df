"""Values of a spec by the types of the fields they are for."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from limbeck.spec.document import Entry
from limbeck.spec.findings import Findings

__all__ = ["is_short_float", "optional", "path_below", "plain", "required", "without_none"]

_SHORT_FLOAT = re.compile(r"([+-]?\d+)(\.\d*)?[eE]([+-]?)(\d+)")
"""What YAML takes for text, as 1e-1, and 1.0e-1 for a number."""


def is_short_float(text: str) -> bool:
    """Return whether a text is a number as Python writes it, such as 1e-5."""
    return _SHORT_FLOAT.fullmatch(text) is not None


def plain(entry: Entry, hint: Any, place: str, findings: Findings) -> object:
    """Return a value that plain YAML has, such as a number or a list of texts.

    Raises:
        Refused: it is of another type.
    """
    import pydantic

    adapter = pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(strict=True))
    try:
        return adapter.validate_json(json.dumps(entry.plain()))
    except pydantic.ValidationError as error:
        wanted = error.errors()[0]["msg"].removeprefix("Input should be ")
        raise findings.refused(
            place, entry, f"must be {wanted}; got {entry.plain()!r}", _mend(entry.value, wanted)
        ) from None


def path_below(folder: Path, entry: Entry, place: str, findings: Findings) -> Path:
    """Return the path of a value, which lies below the folder of the spec.

    Raises:
        Refused: it is no path, or leads out of the folder.
    """
    if not isinstance(entry.value, str) or not entry.value:
        raise findings.refused(place, entry, f"must be a path; got {entry.plain()!r}", "quote it")
    try:
        path = (folder / entry.value).resolve()
        path.exists()
    except (OSError, ValueError) as error:
        came = f"got {entry.value[:80]!r}, and: {getattr(error, 'strerror', None) or error}"
        raise findings.refused(place, entry, f"must be a path; {came}", "change it") from None
    if not path.is_relative_to(folder):
        raise findings.refused(
            place,
            entry,
            f"a path must lie in the spec's folder; got {entry.value!r}",
            "move the spec, or what it names",
        )
    return path


def _mend(value: object, wanted: str) -> str:
    if wanted == "a valid string":
        return "write texts in quotes; without, YAML takes yes, no, on and off for booleans"
    short = _SHORT_FLOAT.fullmatch(value) if isinstance(value, str) else None
    if short is None:
        return "change the value"
    return f"write {short[1]}{short[2] or '.0'}e{short[3] or '+'}{short[4]}"


def required(f: dataclasses.Field[Any]) -> bool:
    """Return whether a field has no default."""
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def optional(hint: Any) -> bool:
    """Return whether a type has None among its members."""
    return type(None) in typing.get_args(hint) and _is_union(hint)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in {typing.Union, types.UnionType}


def without_none(hint: Any) -> Any:
    """Return a type without None."""
    kept = [member for member in typing.get_args(hint) if member is not type(None)]
    return kept[0] if len(kept) == 1 else typing.Union[tuple(kept)]  # noqa: UP007 - made at run time
