"""A student of an LLM's recorded labels: UMBRELA's grades of TREC DL 2019, by GPT-4.

    python benchmarks/llm_taught.py FOLDER LABELS OUT [--seeds 0 1 2]

FOLDER is trec-dl19-judged in BEIR's layout, LABELS the grades as a TREC qrels file. Prints how far
they agree with people's. Then its 43 queries are dealt into five parts; of each part's queries a
MiniLM is asked that was taught the grades of the four others, as a log of which nothing else is
known: a grade of 2 or more is a positive. So each query is answered by a student that never saw it
nor any judgement of people; these are read for the scores alone. Beside it stands the same student
of the people's grades. Nothing was tuned: rate and batch are those of scifact.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trained import made, row, run_of, scores

from limbeck import RecordedRun
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.eval.significance import paired_p
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

_PARTS = 5
_RELEVANT = 2


def main() -> None:
    options = _options()
    dataset = Dataset.load(options.folder)
    said = read_qrels(options.labels)
    for at in (1, 2, 3):
        grades = {query: dict(own) for query, own in said.judgements.items()}
        print(f"at {at} or more: {agreement(grades, dataset.qrels, at=at, labels_at=at)}")
    people = options.out / "people.qrels"
    options.out.mkdir(parents=True, exist_ok=True)
    write_qrels(dataset.qrels, people)
    base = scores(run_of(DenseStudent(base="minilm", document_tokens=128), dataset), dataset)
    print(f"MiniLM: {base.mean():.4f}", flush=True)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for seed in options.seeds:
        for name, labels in (("taught by the LLM", options.labels), ("by people", people)):
            each = _answered(options, dataset, labels, seed)
            found.setdefault(name, []).append(each)
            print(f"seed {seed}, {name}: {each.mean():.4f}", flush=True)
    print("\n| student | nDCG@10 | by seed | difference; p |\n|---|---|---|---|")
    means = {"MiniLM": base} | {name: np.mean(each, axis=0) for name, each in found.items()}
    for name, of_seeds in found.items():
        line = row(name, [float(each.mean()) for each in of_seeds], {})
        told = "; ".join(
            f"{(means[name] - mean).mean():+.4f} to {other} (p {paired_p(means[name] - mean):.3f})"
            for other, mean in means.items()
            if other != name
        )
        print(f"{line.removesuffix('|').rstrip()} {told} |")


def _answered(
    options: argparse.Namespace, dataset: Dataset, labels: Path, seed: int
) -> NDArray[np.float64]:
    """Return nDCG@10 of each query by a student that was taught the other parts."""
    parts = np.array_split(np.random.default_rng(seed).permutation(len(dataset.queries)), _PARTS)
    each = np.zeros(len(dataset.queries))
    for number, part in enumerate(parts):
        out = options.out / f"{labels.stem}-{seed}-{number}"
        held_out = _folder(options.folder, dataset, set(part.tolist()), out / "collection")
        model = _student(held_out, labels, out, seed)
        test = Dataset.load(held_out)
        by_id = dict(
            zip(
                (query.query_id for query in test.queries),
                scores(run_of(DenseStudent(base=str(model)), test), test),
                strict=True,
            )
        )
        for place in part.tolist():
            each[place] = by_id[dataset.queries[place].query_id]
    return each


def _folder(folder: Path, dataset: Dataset, part: set[int], out: Path) -> Path:
    """Return a collection that judges the queries of a part alone; the others are its log."""
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = out / "corpus.jsonl"
    if not corpus.exists():
        corpus.symlink_to((folder / "corpus.jsonl").resolve())
    asked_about = [dataset.queries[place] for place in sorted(part)]
    log = [query for place, query in enumerate(dataset.queries) if place not in part]
    for name, queries in (("queries", asked_about), ("log", log)):
        lines = (json.dumps({"_id": query.query_id, "text": query.text}) for query in queries)
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept = dataset.qrels.restricted(query.query_id for query in asked_about)
    write_qrels(kept, out / "qrels" / "test.tsv")
    return out


def _student(folder: Path, labels: Path, out: Path, seed: int) -> Path:
    corpus = Corpus.load(folder)
    lesson = Lesson(
        teacher=RecordedRun(labels),
        queries=(Log(path=folder / "log.jsonl"),),
        depth=1000,
        relevant=_RELEVANT,
    )
    taught(lesson, asked(lesson, folder, corpus), corpus, out)
    recipe = Recipe(
        objective=Distil(tau=0.05),
        model=DenseStudent(base="minilm", document_tokens=128),
        data=Data(labels=out / "labels", dev=None),
        negatives=Negatives(n=7, depth=1000, kept=200, pick="stratified"),
        batch=BatchSize(examples=16),
        epochs=10,
        optimiser=Optimising(rate=4e-5),
        precision="bf16",
        save_every=10**6,
        seed=seed,
    )
    return made(recipe, folder, out / "training")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="trec-dl19-judged in BEIR's layout")
    parser.add_argument("labels", type=Path, help="grades, as a TREC qrels file")
    parser.add_argument("out", type=Path, help="where labels and runs are written")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
