"""Print what each retriever and reranker gives on several collections, and what a query costs.

    python benchmarks/effectiveness.py FOLDER [FOLDER ...] [--systems a,b] [--splade MODEL]

A cell is nDCG@10 and the seconds a query of a batch takes, the second time, when models are loaded,
indexes open and documents encoded. Every parameter is its default; nothing is tuned on any of these
collections. Token vectors and indexes are taken from the cache or made there, which takes minutes
for each collection the first time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from limbeck import BM25, MMR, ColBERT, CrossEncoder, Dense, Fuse, MaxSim, Splade
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.pipeline import Node

_BM25, _DENSE = BM25(), Dense()
_HYBRID = Fuse((_BM25, _DENSE), method="linear", normalise="minmax", k=100)
_MIXED = Fuse(
    (_HYBRID, _HYBRID >> MaxSim()), method="linear", normalise="minmax", weights=(0.7, 0.3)
)


def systems(splade: str | None, cross_encoder: str | None) -> dict[str, Callable[[], Node]]:
    """Return what is measured, by the name of its row."""
    rows: dict[str, Callable[[], Node]] = {
        "bm25": lambda: _BM25,
        "dense minilm": lambda: _DENSE,
        "linear hybrid of both, 100 hits": lambda: _HYBRID,
        "bm25, then maxsim of 100": lambda: _BM25.top(100) >> MaxSim(),
        "dense, then maxsim of 100": lambda: _DENSE.top(100) >> MaxSim(),
        ".7 hybrid + .3 maxsim": lambda: _MIXED,
        "colbert of minilm's tokens": lambda: ColBERT(k=100),
        "dense, then mmr of 100": lambda: _DENSE.top(100) >> MMR(_DENSE),
    }
    if splade:
        rows["splade tiny"] = lambda: Splade(splade)
        rows["linear hybrid of bm25 and splade tiny"] = lambda: Fuse(
            (_BM25, Splade(splade)), method="linear", normalise="minmax"
        )
    if cross_encoder:
        rows["bm25, then cross-encoder of 100"] = lambda: (
            _BM25.top(100) >> CrossEncoder(cross_encoder)
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="BEIR folders")
    parser.add_argument("--systems", help="rows to print, by the first word of their names")
    parser.add_argument("--splade", help="the folder of a learned sparse model")
    parser.add_argument("--cross-encoder", help="the folder of a cross-encoder")
    options = parser.parse_args()
    data = [Dataset.load(folder) for folder in options.folders]
    wanted = options.systems and set(options.systems.split(","))
    print("| system | " + " | ".join(d.name for d in data) + " |")
    print("|---" * (len(data) + 1) + "|")
    for name, make in systems(options.splade, options.cross_encoder).items():
        if not wanted or name.replace(",", "").split()[0] in wanted:
            cells = " | ".join(cell(make(), each) for each in data)
            print(f"| {name} | {cells} |", flush=True)


def cell(node: Node, data: Dataset) -> str:
    """Return nDCG@10 and the seconds of a query."""
    bound = node.bind(data.corpus)
    bound(data.queries)
    started = time.perf_counter()
    run = bound(data.queries)
    seconds = (time.perf_counter() - started) / len(data.queries)
    found = evaluate(run, data.qrels, ["nDCG@10"]).means()["nDCG@10"]
    return f"{found:.4f} ({seconds:.4f} s)"


if __name__ == "__main__":
    main()
