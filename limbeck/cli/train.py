"""Commands that make models: train one, export one."""

from __future__ import annotations

import json
import os
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import click

from limbeck.cli.app import noted, root, with_progress
from limbeck.cli.options import CHANGES, DATA, JSON, OUT
from limbeck.errors import UsageError
from limbeck.progress import listening

__all__ = ["export", "train"]


class _WithRecipes(click.Command):
    """A command whose help ends with the names of our recipes."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        del ctx
        with formatter.indentation():
            formatter.write_paragraph()
            formatter.write_text(f"Our recipes: {', '.join(_ours())}.")


@root.command("train", cls=_WithRecipes)
@click.argument("recipe")
@CHANGES
@DATA
@OUT
@JSON
@with_progress
def train(
    recipe: str,
    changes: tuple[str, ...],
    data: Path,
    out: Path,
    as_json: bool,  # noqa: FBT001 - click passes it by name
) -> None:
    """Train a model by RECIPE: a spec file with the section `train`, or the name of one of ours.

    KEY=VALUE changes a parameter of that section, as optimiser.rate=1e-5 or model.base=minilm. The
    model is written to OUT/model. A run that was stopped goes on when the same command is given
    again. `limbeck train fine-tune --data beir/scifact --out scifact` is an example.
    """
    from limbeck.retrieval.encoders.folders import require_torch
    from limbeck.spec.spec import Spec

    require_torch("train", extra="training")
    file = Path(recipe)
    if file.is_file():
        spec = Spec.load(file, changes)
    else:
        with as_file(_shipped(recipe)) as path:
            spec = Spec.load(path, changes)
    if spec.recipe is None:
        raise UsageError(f"{recipe} must have a section `train`; it has none; add one")
    from limbeck.training.loop import train as run

    if os.environ.get("RANK", "0") != "0":  # torchrun started several of us; the first one speaks
        with listening(lambda *_: None):
            run(spec.recipe, data, out)
        return
    with noted():
        trained = run(spec.recipe, data, out)
    if as_json:
        told = {"model": str(trained.model), "step": trained.best_step, "dev": trained.best_score}
        click.echo(json.dumps(told))
        return
    score = f", nDCG@10 {trained.best_score:.4f} on dev" if trained.best_score is not None else ""
    click.echo(f"{trained.model}: step {trained.best_step:,}{score}")
    if trained.best_step == 0:
        click.echo("no step made it better: these are the weights that it began from", err=True)


@root.command("export")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    default="int8",
    show_default=True,
    type=click.Choice(["int8", "fp32"]),
    help="Of the weights.",
)
def export(model: Path, out: Path, precision: Literal["int8", "fp32"]) -> None:
    """Write the encoder in the folder MODEL to the folder OUT, in ONNX, to run without torch."""
    from limbeck.retrieval.encoders.folders import require_torch

    require_torch("export", extra="training")
    from limbeck.training.export import export_onnx

    told = export_onnx(model, out, precision=precision)
    click.echo(f"{out}: {precision}, cosine to its source {told['least_cosine']:.4f} at least")


def _shipped(name: str) -> Traversable:
    """Return one of Limbeck's own recipes.

    Raises:
        UsageError: there is none of that name.
    """
    ours = _ours()
    if name not in ours:
        from limbeck.spec.findings import near

        raise UsageError(
            f"a recipe must be a file, or one of {', '.join(ours)}; got {name!r}; "
            f"{near(name, ours)}"
        )
    return ours[name]


def _ours() -> dict[str, Traversable]:
    """Return the files of our recipes by their names."""
    found = (files("limbeck.training") / "recipes").iterdir()
    return dict(sorted((file.name.removesuffix(".yaml"), file) for file in found))
