"""A slow pipeline without any LLM, distilled into one vector a text: scifact.

    python benchmarks/distil_scifact.py FOLDER OUT [--seeds 0 1 2] [--held-out] [--queries split]

FOLDER is scifact in BEIR's layout. The teacher is the linear hybrid of BM25 and MiniLM, .7 of it,
and .3 of MaxSim over MiniLM's token states of its first 100; the student is MiniLM. What is taught:
training claims, of which those that are like a test claim are left out. Beside it stand the same
student without the teacher's term, of people's labels and the teacher's hits as hard negatives; and
one of the teacher alone, to whom the claims are a log that nobody has labelled: its first hit is
the positive. Settings were chosen
on quarters of the training claims, held out, another one a seed (--held-out); the test split is
read once for each model. Beside each score stands that of the claims that ask for documents which
no training claim asks for ("new"): one third of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from train_scifact import asks_for_new
from trained import made, row, run_of, scores

from limbeck import BM25, Dense, Fuse, MaxSim
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.training.asking import asked
from limbeck.training.examples import Examples
from limbeck.training.labels import Labels
from limbeck.training.lesson import Lesson
from limbeck.training.objective import Objective
from limbeck.training.objectives.adam import Adam, Pace
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.questions import SOURCES, Log
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import DenseStudent
from limbeck.training.teaching import taught
from limbeck.types import Run

_HELD_OUT = 0.25
_TOKENS = 256
_TAU = 0.05
_BY_HAND = ("n", "batch", "epochs", "rate", "soft", "hard", "entropy", "share")

BOTH, PEOPLE, ALONE = "student", "of people's labels", "of the teacher alone"


def main() -> None:
    options = _options()
    labels = _labels(options)
    train = Dataset.load(options.folder, "train")
    found: dict[str, list[float]] = {}

    def tell(name: str, run: Run, dataset: Dataset) -> None:
        new = asks_for_new(dataset, train)
        each = scores(run, dataset)
        found.setdefault(name, []).append(float(each.mean()))
        found.setdefault(f"{name}, new", []).append(float(each[new].mean()))
        print(f"{name}: {found[name][-1]:.4f}, new {each[new].mean():.4f}", flush=True)

    for seed in options.seeds:
        dataset = _searched_for(options, labels, seed)
        if options.held_out or not found:
            tell("teacher", teacher().bind(dataset.corpus).top(100)(dataset.queries), dataset)
            base = DenseStudent(base="minilm", document_tokens=_TOKENS)
            tell("base", run_of(base, dataset), dataset)
        for name in options.only:
            out = options.out / _named(options, name, seed)
            recipe = _recipe(options, name, labels, seed)
            model = made(recipe, options.folder, out)
            tell(name, run_of(DenseStudent(base=str(model)), dataset), dataset)
    print("\n| system | nDCG@10 | by seed | |\n|---|---|---|---|")
    for name, values in found.items():
        print(row(name, values, {}))


def teacher() -> Fuse:
    """Return the pipeline that teaches."""
    legs = [BM25(k=1000), Dense(encoder="minilm", k=1000)]
    hybrid = Fuse(legs, method="linear", normalise="minmax")
    reranked = hybrid >> MaxSim("minilm", depth=100)
    return Fuse([hybrid, reranked], method="linear", normalise="minmax", weights=(0.7, 0.3))


def _labels(options: argparse.Namespace) -> Labels:
    corpus = Corpus.load(options.folder)
    sources = (
        SOURCES[name](n=None if name == "split" else options.made) for name in options.queries
    )
    lesson = Lesson(teacher=teacher(), queries=tuple(sources), depth=50)
    given = asked(lesson, options.folder, corpus)
    print(f"{len(given.questions):,} queries, {len(given.leaks)} kept out", flush=True)
    labels = taught(lesson, given, corpus, options.out / _taught(options))
    print(f"{len(labels.run.rows):,} labels in {labels.origin.seconds:.0f} s", flush=True)
    return labels


def _searched_for(options: argparse.Namespace, labels: Labels, seed: int) -> Dataset:
    """Return the test split, or the training claims that are held out."""
    if not options.held_out:
        return Dataset.load(options.folder, "test")
    held_out = Examples.taught(labels, options.folder, dev=_HELD_OUT, seed=seed).dev
    assert held_out is not None
    return held_out


def _recipe(options: argparse.Namespace, name: str, labels: Labels, seed: int) -> Recipe:
    dev = _HELD_OUT if options.held_out else None
    data = Data(labels=options.out / _taught(options) / "labels", dev=dev)
    if name == ALONE:
        data = Data(labels=_of_a_log(options, labels, seed), dev=None)
    return Recipe(
        objective=_objective(options, name),
        model=DenseStudent(base="minilm", document_tokens=_TOKENS),
        data=data,
        negatives=Negatives(n=options.n, depth=45, kept=20),
        batch=BatchSize(examples=options.batch),
        epochs=options.epochs,
        optimiser=Optimising(rate=options.rate),
        precision="bf16",
        save_every=10**6,
        seed=seed,
    )


def _objective(options: argparse.Namespace, name: str) -> Objective:
    """Return the method of a student."""
    if name == PEOPLE:
        return DPR(tau=_TAU)
    pace = None if options.share is None else Pace(direction="fixed", share=options.share)
    given = {each: getattr(options, each) for each in ("soft", "hard", "entropy")}
    return Adam(tau=_TAU, dark=False, pace=pace, **given)


def _of_a_log(options: argparse.Namespace, labels: Labels, seed: int) -> Path:
    """Return the folder of labels of the same queries, of which nothing but their text is told."""
    queries = labels.queries
    out = options.out / f"log-{_taught(options)}"
    if options.held_out:
        queries = Examples.taught(labels, options.folder, dev=_HELD_OUT, seed=seed).queries
        out = options.out / f"{out.name}-held-out-{seed}"
    out.mkdir(parents=True, exist_ok=True)
    log = out / "log.jsonl"
    lines = (json.dumps({"_id": query.query_id, "text": query.text}) for query in queries)
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    lesson = Lesson(teacher=teacher(), queries=(Log(path=log),), depth=50)
    corpus = labels.texts.corpus
    taught(lesson, asked(lesson, options.folder, corpus), corpus, out)
    return out / "labels"


def _taught(options: argparse.Namespace) -> str:
    """Return the name of the queries that are taught."""
    return "-".join([*options.queries, *([str(options.made)] if options.made else [])])


def _named(options: argparse.Namespace, name: str, seed: int) -> str:
    """Return the folder of a run."""
    told = [name.replace(" ", "-").replace("'", ""), _taught(options)]
    told += [f"{each}-{getattr(options, each)}" for each in _BY_HAND]
    return "-".join([*told, *(["held-out"] if options.held_out else []), str(seed)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="scifact in BEIR's layout")
    parser.add_argument("out", type=Path, help="where labels and runs are written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--held-out", action="store_true", help="test on a quarter of train")
    students = [BOTH, PEOPLE, ALONE]
    parser.add_argument("--only", nargs="+", choices=students, default=students)
    parser.add_argument("--queries", nargs="+", choices=("split", "titles", "sentences"))
    parser.add_argument("--made", type=int, help="so many titles, and so many sentences")
    parser.add_argument("--n", type=int, default=1, help="hard negatives of a query")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=4e-5)
    parser.add_argument("--soft", type=float, default=1.0)
    parser.add_argument("--hard", type=float, default=1.0)
    parser.add_argument("--entropy", type=float, default=0.5)
    parser.add_argument("--share", type=float, default=0.5, help="of the queries: the surest ones")
    options = parser.parse_args()
    options.queries = options.queries or ["split"]
    return options


if __name__ == "__main__":
    main()
