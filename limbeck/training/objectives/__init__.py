"""The methods of training, each in a file of its own, found by name through entry points.

A package adds one in the group "limbeck.objectives"; Limbeck's own are registered in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limbeck.registry import registered_class, registered_names

if TYPE_CHECKING:
    from limbeck.training.objective import Objective

__all__ = ["objective_class", "objective_names"]

_GROUP = "limbeck.objectives"


def objective_names() -> tuple[str, ...]:
    """Return the names of all registered methods, sorted."""
    return registered_names(_GROUP)


def objective_class(name: str) -> type[Objective]:
    """Return the class of a method; it needs torch.

    Raises:
        UsageError: no package, or more than one, registers the name, or what it registers is none.
    """
    from limbeck.training.objective import Objective

    return registered_class(_GROUP, name, Objective, "objective")  # type: ignore[type-abstract]
