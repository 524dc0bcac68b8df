"""A small student of a ColBERT, as `adam.py` and `distil_curves.py` need it.

A BERT-tiny is warmed up on BM25's negatives; its own hits are what a ColBERT, made of MiniLM by the
same training queries, is asked about, and how well it puts them in order is printed first: who is
no better than the student has nothing to teach. Training queries that are like one of dev or test
are left out of all of it. Labels are made once and serve all students, which go on from the
warm-up.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trained import colbert, guarded, made, run_of, scores, tiny

from limbeck import BM25, Dense, MaxSim
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.training.asking import asked
from limbeck.training.dark import Dark
from limbeck.training.diagnostics import certainty
from limbeck.training.labels import Labels
from limbeck.training.lesson import Lesson
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.questions import Split
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import DenseStudent
from limbeck.training.teaching import taught

__all__ = ["DEPTH", "TAU", "Students", "options_of"]

TAU = 0.05
DEPTH = 24
"""Hits of a query that the teacher scores."""

_FIRST = Negatives(of=BM25(k=110), depth=100, kept=30)


class Students:
    """Students of one teacher.

    Attributes:
        dataset: the queries that are searched in the end.
        warm: the model that all students begin from.
        labels: what they learn.
    """

    def __init__(self, options: argparse.Namespace, dark: Dark | None = None) -> None:
        """Warm up, train the teacher, and let it label; what was done before is not done again."""
        self._options = options
        self.dataset = Dataset.load(options.folder, options.split)
        self._folder = guarded(options.folder, options.out / "collection")
        self.warm = self._warm_up()
        self.labels = self._labels(dark)

    def _warm_up(self) -> Path:
        recipe = self._dense(tiny(), DPR(tau=TAU), _FIRST, Data(dev=None))
        recipe = dataclasses.replace(
            recipe, steps=200, optimiser=Optimising(rate=5e-4), batch=BatchSize(examples=64)
        )
        return made(recipe, self._folder, self._options.out / "warm-up")

    def _tell(self, teacher: MaxSim) -> None:
        """Print how good the warm-up is, and the teacher's order of its first hits."""
        first = run_of(self._student(self.warm), self.dataset, k=DEPTH)
        order = teacher(self.dataset.queries, first)
        found = [scores(run, self.dataset).mean() for run in (first, order)]
        print(f"warm-up: {found[0]:.4f}, the teacher's order {found[1]:.4f}", flush=True)

    def _labels(self, dark: Dark | None) -> Labels:
        corpus = Corpus.load(self._folder)
        out = self._options.out / "teacher"
        model = colbert(self._folder, out, tokens=self._options.tokens)
        teacher = MaxSim(encoder=str(model), depth=200, arithmetic="bf16")
        self._tell(teacher)
        lesson = Lesson(
            teacher=teacher,
            candidates=Dense(encoder=str(self.warm), k=100),
            queries=(Split(n=self._options.queries),),
            depth=DEPTH,
            dark=dark,
            apart=("test", "dev"),
        )
        given = asked(lesson, self._folder, corpus)
        labels = taught(lesson, given, corpus, self._options.out / "lesson")
        print(
            f"{len(labels):,} queries, {len(labels.run.rows):,} labels in "
            f"{labels.origin.seconds:.0f} s",
            flush=True,
        )
        for name, value in certainty(labels).items():
            print(f"  {name}: {value:.4g}", flush=True)
        return labels

    def taught(
        self, name: str, objective: Any, negatives: Negatives, labels: Path, seed: int
    ) -> NDArray[np.float64]:
        """Return nDCG@10 of each query by a student, trained now or before."""
        recipe = self._dense(
            str(self.warm), objective, negatives, Data(labels=labels, dev=None), seed=seed
        )
        folder = name.replace(" ", "-").replace(",", "")
        model = made(recipe, self._folder, self._options.out / f"seed{seed}" / folder)
        found = self.searched(model)
        print(f"seed {seed}, {name}: {found.mean():.4f}", flush=True)
        return found

    def searched(self, model: Path) -> NDArray[np.float64]:
        """Return nDCG@10 of each query over the whole corpus."""
        return scores(run_of(self._student(model), self.dataset), self.dataset)

    def _student(self, base: str | Path) -> DenseStudent:
        tokens = self._options.tokens
        return DenseStudent(base=str(base), normalise=True, document_tokens=tokens)

    def _dense(
        self, base: str, objective: Any, negatives: Negatives, data: Data, *, seed: int = 0
    ) -> Recipe:
        return Recipe(
            objective=objective,
            model=self._student(base),
            data=data,
            negatives=negatives,
            batch=BatchSize(examples=self._options.batch),
            steps=self._options.steps,
            optimiser=Optimising(rate=2e-4),
            precision="bf16",
            part_tokens=4096,
            save_every=10**6,
            seed=seed,
        )


def options_of(
    described: str, more: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser(description=described)
    parser.add_argument("folder", type=Path, help="a BEIR folder with train, dev and test")
    parser.add_argument("out", type=Path, help="where labels and runs are written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="which queries are searched in the end")
    parser.add_argument("--queries", type=int, default=1600, help="that are taught")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64, help="of a passage at most")
    if more is not None:
        more(parser)
    return parser.parse_args()
