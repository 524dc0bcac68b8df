"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["CHANGES", "DATA", "JSON", "OUT"]

CHANGES = click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
"""Parameters that stand above what a spec says."""

DATA = click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A collection in BEIR layout.",
)
"""One collection."""

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")

OUT = click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of what is made."
)
