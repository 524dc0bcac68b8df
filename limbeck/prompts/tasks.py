"""What a query asks for in each task, put into the prompts that judge passages.

A prompt of a reranker is written once; the words for the query, for what is shown, and for what
makes it relevant come from `tasks.toml`.
"""

from __future__ import annotations

import dataclasses
import tomllib
from functools import cache
from importlib.resources import files

from limbeck.errors import UsageError
from limbeck.prompts.template import Template, fill, load_template

__all__ = ["load_for_task"]


@cache
def _tasks() -> dict[str, dict[str, str]]:
    source = files("limbeck.prompts").joinpath("tasks.toml")
    return tomllib.loads(source.read_text(encoding="utf-8"))


def load_for_task(method: str, task: str, *, form: str = "any") -> Template:
    """Return the template of a method, such as "listwise", in the words of a task, such as "fiqa".

    Args:
        method: whose template.
        task: whose words.
        form: which of the method's templates.

    Raises:
        UsageError: there is no such task.
    """
    if task not in _tasks():
        raise UsageError(f"task of {method} must be one of {', '.join(_tasks())}; got {task!r}")
    template, words = load_template(method, form), _tasks()[task]
    kept = {name: f"{{{name}}}" for name in template.fields - words.keys()}
    return dataclasses.replace(template, user=fill(template.user, words | kept))
