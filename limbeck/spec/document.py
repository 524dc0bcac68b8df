"""YAML as plain data that knows its lines: no tags, no aliases, no key twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from limbeck.errors import Problem, SpecError

__all__ = ["BY_HAND", "Entry", "by_hand", "parse"]

BY_HAND = 0
"""The line of what was given on the command line; it may name any path, as its giver may."""

_MAX_BYTES = 1 << 20
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of a YAML file and the line it begins on; lists and mappings hold entries."""

    value: str | int | float | bool | list[Entry] | dict[str, Entry] | None
    line: int

    def plain(self) -> Any:
        """Return the value without its lines."""
        if isinstance(self.value, list):
            return [entry.plain() for entry in self.value]
        if isinstance(self.value, dict):
            return {key: entry.plain() for key, entry in self.value.items()}
        return self.value


def by_hand(entry: Entry) -> bool:
    """Return whether a value, or a part of it, was given on the command line."""
    held = entry.value
    if isinstance(held, dict):
        held = list(held.values())
    return entry.line == BY_HAND or (isinstance(held, list) and any(map(by_hand, held)))


def parse(text: str, *, name: str) -> Entry:
    """Return the one document of a YAML text.

    Args:
        text: the YAML.
        name: the file's name, for messages.

    Raises:
        SpecError: it is not plain YAML: malformed, with tags, anchors or aliases, with a key twice.
    """
    if len(text.encode(errors="replace")) > _MAX_BYTES:
        raise _error(name, 1, f"a spec must have at most {_MAX_BYTES} bytes", "split it")
    try:
        _refuse_marks_and_depth(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            raise _error(name, 1, "a spec must be a mapping; the file is empty", "fill it")
        return _entry(node, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _error(name, line, f"a spec must be YAML; {error.problem}", "mend the line") from None
    except yaml.YAMLError as error:
        raise _error(name, 1, f"a spec must be YAML; {error}", "mend the file") from None


def _refuse_marks_and_depth(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            raise _error(
                name,
                line,
                f"a spec must have no anchors and aliases; got {anchor!r}",
                "write the value out, or name it under indexes, llms or pipelines",
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _error(name, line, f"a spec must have no tags; got {tag!r}", "take it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _error(
                name, line, f"a spec must be nested {_MAX_DEPTH} deep at most", "name its parts"
            )


def _entry(node: yaml.Node, name: str) -> Entry:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return Entry([_entry(item, name) for item in node.value], line)
    if isinstance(node, yaml.MappingNode):
        return Entry(_mapping(node, name), line)
    return Entry(_scalar(node), line)


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    """Return a plain value; what only looks like one, as 2024-13-01 like a date, is text."""
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (ValueError, yaml.constructor.ConstructorError):
        value = node.value
    plain = isinstance(value, (str, int, float, bool, type(None)))
    return value if plain else str(node.value)


def _mapping(node: yaml.MappingNode, name: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise _error(name, line, "a key must be a name; got a list or a mapping", "name it")
        key = key_node.value
        if key in found:
            raise _error(name, line, f"a key may stand once; {key!r} stands twice", "take one out")
        found[key] = _entry(value_node, name)
    return found


def _error(name: str, line: int, message: str, mend: str) -> SpecError:
    return SpecError([Problem(f"{name}:{line}", message, mend)])
