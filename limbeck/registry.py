"""The registry: names in spec files to classes, found by entry points and nowhere else.

A package adds a node with an entry point in the group "limbeck.nodes"; Limbeck's own nodes are
registered in the same way. A class is imported when its name is used.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from limbeck.errors import MissingExtraError, UsageError
from limbeck.pipeline import Node

__all__ = ["node_class", "node_names", "registered_class", "registered_names"]

_NODES = "limbeck.nodes"

_T = TypeVar("_T")


def node_names() -> tuple[str, ...]:
    """Return the names of all registered nodes, sorted."""
    return registered_names(_NODES)


@cache
def node_class(name: str) -> type[Node]:
    """Return the node class of a name.

    Raises:
        UsageError: no package, or more than one, registers the name, or what it registers is not a
            node of that name.
    """
    return registered_class(_NODES, name, Node, "node")  # type: ignore[type-abstract]


def registered_names(group: str) -> tuple[str, ...]:
    """Return the names of a group of entry points, sorted."""
    return tuple(sorted(_registered(group)))


@cache
def _registered(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        others = found.get(point.name, ())
        if point.value not in {other.value for other in others}:
            found[point.name] = (*others, point)
    return found


def registered_class(group: str, name: str, parent: type[_T], word: str) -> type[_T]:
    """Return the class that a group has under a name.

    Args:
        group: of entry points.
        name: which the class has too, as its `name`.
        parent: what it must be derived from.
        word: what such a class is called in messages.

    Raises:
        UsageError: no package, or more than one, registers the name, or what it registers is not
            such a class.
    """
    points = _registered(group).get(name, ())
    if len(points) != 1:
        came = " and ".join(point.value for point in points) or "none"
        raise UsageError(
            f"one package must register the {word} {name!r}; got {came}; "
            "install the package that has it, or remove one of them"
        )
    try:
        found: Any = points[0].load()
    except MissingExtraError:
        raise
    except Exception as error:  # a package of others may raise whatever it likes
        came = str(error) or type(error).__name__
        raise UsageError(
            f"the {word} {name!r} must load from {points[0].value}; got: {came}; mend that package"
        ) from error
    is_one = isinstance(found, type) and issubclass(found, parent)
    if not is_one or getattr(found, "name", None) != name:
        raise UsageError(
            f"{points[0].value} must be a {parent.__name__} class whose name is {name!r}; "
            f"got {found!r}"
        )
    made: type[_T] = found
    return made
