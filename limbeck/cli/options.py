"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["CHANGES", "DATA", "JSON", "OUT", "is_mini"]

CHANGES = click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
"""Parameters that stand above what a spec says."""


class _Collection(click.Path):
    """A folder; `mini` is the collection that comes with Limbeck, where no folder is called so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if is_mini(value):
            from limbeck.eval.datasets import MINI

            return MINI
        return Path(str(super().convert(value, param, ctx)))


def is_mini(name: str) -> bool:
    """Return whether a collection is named that comes with Limbeck."""
    return name == "mini" and not Path(name).exists()


DATA = click.option(
    "--data",
    required=True,
    type=_Collection(path_type=Path, exists=True, file_okay=False),
    help="A collection in BEIR layout; `mini` is the bundled one.",
)
"""One collection."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")

OUT = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of what is made."
)
