"""What a request that no cassette holds differs by from the nearest one that is held."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["difference"]

_MOST_LINES = 12
_LONGEST_LINE = 160


def difference(asked: Mapping[str, Any], recorded: Iterable[Mapping[str, Any]]) -> str:
    """Return a diff from the recorded request that is nearest, by its words, to the asked one."""
    wanted = _words(asked)
    nearest = max(recorded, key=lambda request: _likeness(wanted, _words(request)), default=None)
    if nearest is None:
        return "the cassette is empty"
    diff = difflib.unified_diff(
        _lines(nearest), _lines(asked), "recorded", "asked", n=0, lineterm=""
    )
    changed = [_shown(line) for line in diff if not line.startswith("@@")]
    more = len(changed) - _MOST_LINES
    tail = [f"... and {more} lines more"] if more > 0 else []
    return "\n".join(["the nearest recording differs by:", *changed[:_MOST_LINES], *tail])


def _lines(request: Mapping[str, Any]) -> list[str]:
    """Return one line for each parameter and for each line of each message."""
    lines = [
        f"{name}: {json.dumps(request[name])}" for name in sorted(request) if name != "messages"
    ]
    for message in request["messages"]:
        lines += [f"{message['role']}: {line}" for line in message["content"].split("\n")]
    return lines


def _words(request: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(word for line in _lines(request) for word in line.split())


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


def _shown(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + "…"
