"""MiniLM brought to scifact by its 809 training claims: one vector, a ColBERT, a cross-encoder.

    python benchmarks/train_scifact.py FOLDER OUT --only dense [--seeds 0 1 2] [--guarded]
    python benchmarks/train_scifact.py FOLDER OUT --only dense --seeds 0 --held-out
    python benchmarks/train_scifact.py FOLDER OUT --only cross-encoder --warm-up MEDQUAD

FOLDER is scifact in BEIR's layout. Settings were chosen on a quarter of the training queries, held
out (--held-out --seeds 0); training then takes all of them for so many epochs, and the test split
is read once for each model. One vector is also fused with BM25, scores as they are; MaxSim reranks
the first 100 documents of MiniLM as it is; the cross-encoder those of the hybrid of BM25 and
MiniLM, with which it is fused. 809 claims teach MiniLM little of pairs: with --warm-up it has
learned them before, from another collection with train, and that one model serves all seeds.

Two thirds of scifact's test queries ask for documents that training queries ask for too, so that a
trained model has seen what is right; beside each score stands that of the other third ("new").
With --guarded nothing is learned from training claims that are like a test claim.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trained import cross_encoder as trained_pairs
from trained import guarded, made, row, run_of, scores

from limbeck import BM25, Dense, Fuse
from limbeck import CrossEncoder as CrossEncoderNode
from limbeck.eval.datasets import Dataset
from limbeck.eval.weights import weighed
from limbeck.retrieval.colbert import ColBERT as ColBERTIndex
from limbeck.retrieval.maxsim import MaxSim
from limbeck.training.examples import Examples
from limbeck.training.objectives.colbert import ColBERT
from limbeck.training.objectives.cross_encoder import CrossEncoder
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import ColBERTStudent, CrossEncoderStudent, DenseStudent
from limbeck.types import Run

_HELD_OUT = 0.25


@dataclass(frozen=True)
class Settings:
    """What is chosen for a kind of model.

    Attributes:
        rate: of learning, at its highest.
        epochs: over the training queries.
        n: hard negatives of a query.
        tokens: of a document, or of a pair, at most.
        weight: of the model's score beside BM25's, or its share beside the hybrid's.
    """

    rate: float
    epochs: int
    n: int
    tokens: int
    weight: float = 0.5


CHOSEN = {
    "dense": Settings(rate=4e-5, epochs=3, n=1, tokens=256, weight=43.0),
    "colbert": Settings(rate=6e-5, epochs=3, n=1, tokens=256),
    "cross-encoder": Settings(rate=1e-4, epochs=3, n=3, tokens=160, weight=0.4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="scifact in BEIR's layout")
    parser.add_argument("out", type=Path, help="where the runs are written")
    parser.add_argument("--only", choices=tuple(KINDS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--held-out", action="store_true", help="test on a quarter of train")
    parser.add_argument("--guarded", action="store_true", help="leave out claims like a test claim")
    parser.add_argument("--warm-up", type=Path, help="a collection, for the cross-encoder")
    parser.add_argument("--warm-up-steps", type=int, default=300)
    for field in fields(Settings):
        kind = float if field.name in ("rate", "weight") else int
        parser.add_argument(f"--{field.name}", type=kind)
    options = parser.parse_args()
    given = {field.name: getattr(options, field.name) for field in fields(Settings)}
    settings = replace(CHOSEN[options.only], **{k: v for k, v in given.items() if v is not None})
    found: dict[str, list[float]] = {}
    train = Dataset.load(options.folder, "train")
    if options.guarded:
        options.folder = guarded(options.folder, options.out / "collection", apart=("test",))
    for seed in options.seeds:
        dataset = searched_for(options, seed)
        new = asks_for_new(dataset, train)
        for name, run in KINDS[options.only](options, settings, dataset, seed).items():
            each = scores(run, dataset)
            found.setdefault(name, []).append(float(each.mean()))
            found.setdefault(f"{name}, new", []).append(float(each[new].mean()))
            print(f"seed {seed}, {name}: {found[name][-1]:.4f}", flush=True)
    print(f"\n{settings}\n\n| system | nDCG@10 | by seed | |\n|---|---|---|---|")
    for name, values in found.items():
        print(row(name, values, {}))


def searched_for(options: argparse.Namespace, seed: int) -> Dataset:
    """Return the test split, or the training queries that are held out."""
    if not options.held_out:
        return Dataset.load(options.folder, "test")
    held_out = Examples.load(options.folder, dev=_HELD_OUT, seed=seed).dev
    assert held_out is not None
    return held_out


def asks_for_new(dataset: Dataset, train: Dataset) -> NDArray[np.bool_]:
    """Return which queries have no relevant document that another query of train has."""
    asked: dict[str, set[str]] = {}
    for query_id, grades in train.qrels.judgements.items():
        for doc_id in grades:
            asked.setdefault(doc_id, set()).add(query_id)
    return np.array(
        [
            all(asked.get(doc_id, set()) <= {query_id} for doc_id in grades)
            for query_id, grades in dataset.qrels.judgements.items()
        ]
    )


def dense(
    options: argparse.Namespace, settings: Settings, dataset: Dataset, seed: int
) -> dict[str, Run]:
    """One vector a text, by in-batch negatives and BM25's."""
    student = DenseStudent(base="minilm", document_tokens=settings.tokens)
    model = trained(options, settings, seed, DPR(tau=0.05), student)
    first = Dense(encoder="minilm", k=100).bind(dataset.corpus)(dataset.queries)
    legs = [BM25(k=1000), Dense(encoder=model, k=1000)]
    fuse = Fuse(legs, method="linear", normalise="none", weights=(1.0, settings.weight))
    found = run_of(DenseStudent(base=model), dataset, k=1000)
    runs = [legs[0].bind(dataset.corpus)(dataset.queries), found]
    return {
        "MiniLM": first,
        "MiniLM, trained": found,
        "with BM25": fused(options, fuse, runs, dataset),
    }


def colbert(
    options: argparse.Namespace, settings: Settings, dataset: Dataset, seed: int
) -> dict[str, Run]:
    """A vector a token: MiniLM's own states, at length 1; it has forgotten what [MASK] means."""
    student = ColBERTStudent(
        base="minilm",
        dim=0,
        query_tokens=64,
        masks=False,
        document_tokens=settings.tokens,
        skip_punctuation=False,
    )
    model = trained(options, settings, seed, ColBERT(tau=0.3, in_batch=True), student)
    first = Dense(encoder="minilm", k=100).bind(dataset.corpus)(dataset.queries)
    rerank = MaxSim(encoder=model, depth=100, arithmetic="bf16")
    index = ColBERTIndex(encoder=model, k=100, arithmetic="bf16")
    return {
        "MiniLM": first,
        "MaxSim over MiniLM's first 100": rerank(dataset.queries, first),
        "its index": index.bind(dataset.corpus)(dataset.queries),
    }


def cross_encoder(
    options: argparse.Namespace, settings: Settings, dataset: Dataset, seed: int
) -> dict[str, Run]:
    """A score a pair, for the first hits of the hybrid."""
    base = "minilm" if options.warm_up is None else warmed_up(options)
    student = CrossEncoderStudent(base=base, max_tokens=settings.tokens)
    model = trained(options, settings, seed, CrossEncoder(), student)
    legs = [BM25(k=1000), Dense(encoder="minilm", k=1000)]
    hybrid = Fuse(legs, method="linear", normalise="minmax")
    first: Run = hybrid.bind(dataset.corpus).top(100)(dataset.queries)
    order = run_of(CrossEncoderStudent(base=model), dataset, given=first)
    weights = (1.0 - settings.weight, settings.weight)
    both = [hybrid, hybrid.top(100) >> CrossEncoderNode(model, depth=100)]
    fuse = Fuse(both, method="linear", normalise="minmax", weights=weights)
    return {
        "hybrid": first,
        "cross-encoder of its 100": order,
        "both": fused(options, fuse, [first, order], dataset),
    }


def fused(options: argparse.Namespace, fuse: Fuse, runs: list[Run], dataset: Dataset) -> Run:
    """Return two runs as one; on held-out queries the weights are looked for."""
    if options.held_out:
        found = weighed(fuse, dataset, runs=runs)
        tried = ", ".join(f"{weight:.3g}: {score:.4f}" for weight, score in found.tried.items())
        print(f"  by weight: {tried}")
        fuse = found.fuse
    return fuse.fuse(runs)


def warmed_up(options: argparse.Namespace) -> str:
    """Return the folder of a cross-encoder of another collection."""
    out = options.out / f"warm-up-{options.warm_up.name}-{options.warm_up_steps}"
    return trained_pairs(options.warm_up, out, steps=options.warm_up_steps, rate=1e-4)


def trained(
    options: argparse.Namespace, settings: Settings, seed: int, objective: Any, student: Any
) -> str:
    """Return the folder of a model, trained now or before."""
    recipe = Recipe(
        objective=objective,
        model=student,
        data=Data(dev=_HELD_OUT if options.held_out else None),
        negatives=Negatives(of=BM25(k=60), n=settings.n, depth=50, kept=20),
        batch=BatchSize(examples=16),
        epochs=settings.epochs,
        optimiser=Optimising(rate=settings.rate),
        precision="bf16",
        save_every=10**6,
        seed=seed,
    )
    named = [options.only, settings.rate, settings.epochs, settings.n, settings.tokens, seed]
    if student.base != "minilm":
        named.append(Path(student.base).parent.name)
    named += [name for name in ("held_out", "guarded") if getattr(options, name)]
    out = options.out / "-".join(map(str, named))
    return str(made(recipe, options.folder, out))


KINDS = {"dense": dense, "colbert": colbert, "cross-encoder": cross_encoder}


if __name__ == "__main__":
    main()
