"""The registry: names in spec files to node classes, found by entry points and nowhere else.

A package adds a node with an entry point in the group "limbeck.nodes"; Limbeck's own nodes are
registered in the same way. A node is imported when its name is used.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from limbeck.errors import MissingExtraError, UsageError
from limbeck.pipeline import Node

__all__ = ["node_class", "node_names"]

_GROUP = "limbeck.nodes"


@cache
def _registered() -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=_GROUP):
        others = found.get(point.name, ())
        if point.value not in {other.value for other in others}:
            found[point.name] = (*others, point)
    return found


def node_names() -> tuple[str, ...]:
    """Return the names of all registered nodes, sorted."""
    return tuple(sorted(_registered()))


@cache
def node_class(name: str) -> type[Node]:
    """Return the node class of a name.

    Raises:
        UsageError: no package, or more than one, registers the name, or what it registers is not a
            node of that name.
    """
    points = _registered().get(name, ())
    if len(points) != 1:
        came = " and ".join(point.value for point in points) or "none"
        raise UsageError(
            f"one package must register the node {name!r}; got {came}; "
            "install the package that has it, or remove one of them"
        )
    try:
        found = points[0].load()
    except MissingExtraError:
        raise
    except Exception as error:  # a package of others may raise whatever it likes
        came = str(error) or type(error).__name__
        raise UsageError(
            f"the node {name!r} must load from {points[0].value}; got: {came}; mend that package"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Node)) or found.name != name:
        raise UsageError(
            f"{points[0].value} must be a Node class whose name is {name!r}; got {found!r}"
        )
    return found
