"""Runs of a small student with equal settings, for comparisons of what it learns from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trained import made, row, tested, tiny

from limbeck.eval.datasets import Dataset
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import DenseStudent

__all__ = ["TAU", "Runs", "compared"]

TAU = 0.05


class Runs:
    """The runs of one seed.

    Attributes:
        base: the pretrained model that all begin from.
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.options = options
        self.base = options.base or tiny()
        self._seed = seed

    def dense(self, base: str | Path) -> DenseStudent:
        """Return a student with vectors of length 1, from a transformer or from an earlier run."""
        return DenseStudent(base=str(base), normalise=True, document_tokens=self.options.tokens)

    def model(
        self,
        name: str,
        objective: Any,
        negatives: Negatives | None,
        *,
        base: str | Path | None = None,
    ) -> Path:
        """Return the folder of a model, trained now or before.

        Args:
            name: of the run.
            objective: the method.
            negatives: hard ones.
            base: an earlier run, whose rate is then a third.
        """
        options = self.options
        recipe = Recipe(
            objective=objective,
            model=self.dense(base or self.base),
            data=Data(dev=None),
            negatives=negatives,
            batch=BatchSize(examples=options.batch),
            steps=options.steps,
            optimiser=Optimising(rate=options.rate / (1 if base is None else 3)),
            precision="bf16",
            part_tokens=4096,
            save_every=options.steps,
            seed=self._seed,
        )
        return made(recipe, options.folder, options.out / f"seed{self._seed}" / name)


def compared(
    described: str,
    runs: Callable[[Runs], Mapping[str, Path]],
    against: Mapping[str, Sequence[str]],
    **more: Any,
) -> None:
    """Train the models of each seed, search with them, and print a table.

    Args:
        described: what the script is for.
        runs: the models of a seed, by name.
        against: which of them each is compared with.
        more: options of the command line by name, each with its default.
    """
    options = _options(described, more)
    dataset = Dataset.load(options.folder, options.split)
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for name, model in runs(Runs(options, seed)).items():
            student = DenseStudent(base=str(model), document_tokens=options.tokens)
            found.setdefault(name, []).append(tested(student, dataset))
            print(f"seed {seed}, {name}: {found[name][-1]:.4f}", flush=True)
    print(f"\n| student | nDCG@10 on {options.split} | by seed | difference |\n|---|---|---|---|")
    for name, values in found.items():
        print(row(name, values, {other: found[other] for other in against.get(name, ())}))


def _options(described: str, more: Mapping[str, Any]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=described)
    parser.add_argument("folder", type=Path, help="a BEIR folder with train, and what is searched")
    parser.add_argument("out", type=Path, help="where the runs are written")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="of a passage at most")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--split", default="test", help="which queries are searched in the end")
    parser.add_argument("--base", help="a folder; BERT-tiny unless given")
    for name, value in more.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser.parse_args()
