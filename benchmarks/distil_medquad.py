"""A fine-tuned cross-encoder, distilled into one vector a text: medquad.

    python benchmarks/distil_medquad.py FOLDER OUT [--seeds 0 1 2] [--split test]

FOLDER is medquad in BEIR's layout. A cross-encoder made of MiniLM is trained by the training
queries, but those that are like one of dev or test, against hits of the hybrid of BM25 and MiniLM;
the teacher is this over the hybrid's first hundred. Of training queries it labels the first twenty
hits, and the positives; from these labels MiniLM learns beside people's labels, one student a seed;
and, for what the teacher brings, another one without its term, of people's labels and the teacher's
hits as hard negatives. All are then measured in one run: nDCG@10, and milliseconds a query, a
student's with its model in 8 bits. Settings were chosen on dev (--split dev --seeds 0); the test
split is read once.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from trained import cross_encoder, guarded, made, row

from limbeck import BM25, CrossEncoder, Dense, Experiment, Fuse
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.pipeline import Node
from limbeck.training.asking import asked
from limbeck.training.export import export_onnx
from limbeck.training.lesson import Lesson
from limbeck.training.objectives.distil import Distil
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.questions import Split
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import DenseStudent
from limbeck.training.teaching import taught

_MEASURE = "nDCG@10"
_TAU = 0.05

STUDENT, PEOPLE = "student", "labels of people"


def main() -> None:
    options = _options()
    options.guarded = guarded(options.folder, options.out / "collection")
    dataset = Dataset.load(options.folder, options.split)
    legs = [BM25(k=1000), Dense(encoder="minilm", k=1000)]
    hybrid = Fuse(legs, method="linear", normalise="minmax")
    model = cross_encoder(
        options.guarded,
        options.out / "teacher",
        steps=options.teacher_steps,
        rate=options.teacher_rate,
        max_tokens=96,
        of=hybrid.top(110),
    )
    rerank = CrossEncoder(model, depth=100, arithmetic="bf16")
    _teach(options, hybrid, rerank)
    pipelines: dict[str, Node] = {
        "teacher": hybrid.top(100) >> rerank,
        "base": Dense(encoder="minilm", k=100),
    }
    for name, seed in product((STUDENT, PEOPLE), options.seeds):
        pipelines[f"{name} {seed}"] = Dense(encoder=str(_exported(options, name, seed)), k=100)
    report = Experiment(
        pipelines, [dataset], measures=(_MEASURE,), out=options.out / f"report-{options.split}"
    ).run()
    found = {each.name: each for each in report.datasets[0].pipelines}
    score = {name: each.scores[_MEASURE].mean for name, each in found.items()}
    ms = {name: each.ms_per_query for name, each in found.items()}
    for name in found:
        print(f"{name}: {score[name]:.4f}, {ms[name]:.2f} ms a query")
    print(f"\n| on {options.split} | mean ± spread | by seed | |\n|---|---|---|---|")
    for each in (STUDENT, PEOPLE):
        own = [f"{each} {seed}" for seed in options.seeds]
        print(row(f"{each}, nDCG@10", [score[name] for name in own], {}))
        print(row(f"{each}, retention", [score[name] / score["teacher"] for name in own], {}))
        print(row(f"{each}, times faster", [ms["teacher"] / ms[name] for name in own], {}))


def _teach(options: argparse.Namespace, candidates: Node, teacher: Node) -> None:
    corpus = Corpus.load(options.guarded)
    lesson = Lesson(
        teacher=teacher,
        candidates=candidates,
        queries=(Split(n=options.queries),),
        depth=options.depth,
        apart=("test", "dev"),
    )
    given = asked(lesson, options.guarded, corpus)
    labels = taught(lesson, given, corpus, options.out)
    print(
        f"{len(labels):,} queries, {len(given.leaks)} kept out, {len(labels.run.rows):,} labels in "
        f"{labels.origin.seconds:.0f} s",
        flush=True,
    )


def _exported(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Return the folder of a student in 8 bits."""
    out: Path = options.out / f"{name.replace(' ', '-')}-{seed}"
    model = made(_recipe(options, name, seed), options.guarded, out)
    exported = out / "exported"
    if not exported.is_dir():
        export_onnx(model, exported)
    return exported


def _recipe(options: argparse.Namespace, name: str, seed: int) -> Recipe:
    distil = Distil(tau=_TAU, soft=options.soft, hard=options.hard)
    return Recipe(
        objective=distil if name == STUDENT else DPR(tau=_TAU),
        model=DenseStudent(base="minilm", document_tokens=128),
        data=Data(labels=options.out / "labels", dev=None),
        negatives=Negatives(n=3, depth=options.depth - 2, kept=options.depth - 4),
        batch=BatchSize(examples=16),
        steps=options.steps,
        optimiser=Optimising(rate=4e-5),
        precision="bf16",
        save_every=10**6,
        seed=seed,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="medquad in BEIR's layout")
    parser.add_argument("out", type=Path, help="where labels and runs are written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="which queries are searched in the end")
    parser.add_argument("--queries", type=int, default=2400, help="that are taught")
    parser.add_argument("--depth", type=int, default=20, help="hits that are labelled")
    parser.add_argument("--teacher-steps", type=int, default=400)
    parser.add_argument("--teacher-rate", type=float, default=2e-4)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--soft", type=float, default=1.0)
    parser.add_argument("--hard", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
