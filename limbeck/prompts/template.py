"""Prompt templates: data with a hash, filled in without any code."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from limbeck.errors import UsageError
from limbeck.types import Message

__all__ = ["Template", "load_template", "task_names"]

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with places to fill, written {name}. What is filled in is never read again.

    Attributes:
        user: the user's message.
        system: the system's message; none is sent where it is empty.
        alone: the user's message where there is no passage to show (LameR with M = 0).
        example: how one example is written where examples are shown.
    """

    user: str
    system: str = ""
    alone: str = ""
    example: str = ""

    @property
    def fields(self) -> frozenset[str]:
        """The names of the places in the user's message."""
        return frozenset(_PLACEHOLDER.findall(self.user))

    def render(self, *, alone: bool = False, **values: str) -> tuple[Message, ...]:
        """Return the messages with every place filled in.

        Args:
            alone: use the form without passages.
            values: the text for each place.

        Raises:
            UsageError: the template has a place that no value fills.
        """
        user = Message("user", fill(self.alone if alone else self.user, values))
        return (Message("system", self.system), user) if self.system else (user,)

    def require(self, needed: frozenset[str], allowed: frozenset[str], *, where: str) -> None:
        """Raise UsageError unless the places are those that a node fills in."""
        missing, unknown = needed - self.fields, self.fields - needed - allowed
        if missing or unknown:
            wanted = ", ".join(f"{{{name}}}" for name in sorted(needed))
            came = ", ".join(f"{{{name}}}" for name in sorted(self.fields)) or "none"
            raise UsageError(
                f"the template of {where} must have the places {wanted}; it has {came}; "
                "add what is missing and take out what is unknown"
            )


def fill(text: str, values: dict[str, str]) -> str:
    """Return a text with its places filled in one pass; braces in the values stay as they are."""

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise UsageError(f"the template has a place {{{name}}} that nothing fills; take it out")
        return values[name]

    return _PLACEHOLDER.sub(value_of, text)


@cache
def _tasks(method: str) -> dict[str, Template]:
    source = files("limbeck.prompts").joinpath(f"{method}.toml")
    tables = tomllib.loads(source.read_text(encoding="utf-8"))
    return {
        task: Template(**{name: text.removeprefix("\n") for name, text in table.items()})
        for task, table in tables.items()
    }


def task_names(method: str) -> tuple[str, ...]:
    """Return the tasks that a method has a template for."""
    return tuple(_tasks(method))


def load_template(method: str, task: str) -> Template:
    """Return the template of a method, such as "hyde", for a task, such as "scifact".

    Raises:
        UsageError: the method has no template for the task.
    """
    tasks = _tasks(method)
    if task not in tasks:
        raise UsageError(f"task of {method} must be one of {', '.join(tasks)}; got {task!r}")
    return tasks[task]
