"""Print what each retriever and reranker gives on several collections, and what a query costs.

    python benchmarks/effectiveness.py FOLDER [FOLDER ...] [--splade MODEL] [--cross-encoder MODEL]
    python benchmarks/effectiveness.py FOLDER [FOLDER ...] --llm BACKEND:MODEL [--queries 10]

A cell is nDCG@10 and the seconds a query of a batch takes, the second time, when models are loaded,
indexes open and documents encoded. Every parameter is its default; nothing is tuned on any of these
collections. Token vectors and indexes are taken from the cache or made there, which takes minutes
for each collection the first time. With `--llm` the rows are those of the LLM rerankers, over
BM25's first hits; the first few queries of each collection tell enough of what a query costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from limbeck import (
    BM25,
    LLM,
    MMR,
    ColBERT,
    CrossEncoder,
    Cutoff,
    Dedup,
    Dense,
    Fuse,
    Listwise,
    MaxSim,
    Pairwise,
    Pass,
    Pointwise,
    Setwise,
    Splade,
)
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.pipeline import Node
from limbeck.types import Qrels

_PAIRS = 20
"""Hits that a cross-encoder reads for a query: as large as MiniLM it reads some 20 in a second."""

_FEW, _PASSAGE_TOKENS = 5, 128
"""Hits that an LLM reads for a query, and tokens of each."""

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
        "bm25, then cutoff at half the best score": lambda: _BM25 >> Cutoff(share=0.5),
        "bm25, then dedup": lambda: _BM25 >> Dedup(),
        "bm25, then pass": lambda: _BM25 >> Pass(),
    }
    if splade:
        rows["splade tiny"] = lambda: Splade(splade)
        rows["linear hybrid of bm25 and splade tiny"] = lambda: Fuse(
            (_BM25, Splade(splade)), method="linear", normalise="minmax"
        )
    if cross_encoder:
        rows[f"bm25, then cross-encoder of {_PAIRS}"] = lambda: (
            _BM25.top(_PAIRS) >> CrossEncoder(cross_encoder)
        )
    return rows


def llm_systems(model: str) -> dict[str, Callable[[], Node]]:
    """Return the rerankers by an LLM, by the names of their rows."""
    llm = LLM(model, tokenizer_from="pieces")
    few: dict[str, int] = {"depth": _FEW, "passage_tokens": _PASSAGE_TOKENS}
    rerankers: dict[str, Callable[[], Node]] = {
        "pointwise yes-no": lambda: Pointwise(llm, **few),
        "pointwise graded": lambda: Pointwise(llm, method="graded", **few),
        "pairwise": lambda: Pairwise(llm, **few),
        "setwise": lambda: Setwise(llm, **few),
        "listwise": lambda: Listwise(llm, **few),
    }
    rows: dict[str, Callable[[], Node]] = {"bm25": lambda: _BM25}
    for name, make in rerankers.items():
        rows[f"bm25, then {name} of {_FEW}"] = lambda make=make: _BM25.top(_FEW) >> make()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="BEIR folders")
    parser.add_argument("--splade", help="the folder of a learned sparse model")
    parser.add_argument("--cross-encoder", help="the folder of a cross-encoder")
    parser.add_argument("--llm", help="a back-end and a model, such as llamacpp:smollm2")
    parser.add_argument("--only", default="", help="rows whose names hold this")
    parser.add_argument("--queries", type=int, help="queries of each collection, the first ones")
    options = parser.parse_args()
    data = [first(Dataset.load(folder), options.queries) for folder in options.folders]
    rows = systems(options.splade, options.cross_encoder)
    if options.llm:
        rows = llm_systems(options.llm)
    print("| system | " + " | ".join(d.name for d in data) + " |")
    print("|---" * (len(data) + 1) + "|")
    for name, make in rows.items():
        if options.only not in name:
            continue
        cells = " | ".join(cell(make(), each) for each in data)
        print(f"| {name} | {cells} |", flush=True)


def first(data: Dataset, n_queries: int | None) -> Dataset:
    """Return a collection with its first queries alone."""
    queries = data.queries[:n_queries]
    asked = {query.query_id for query in queries}
    judged = {q: of for q, of in data.qrels.judgements.items() if q in asked}
    return dataclasses.replace(data, queries=queries, qrels=Qrels(judged))


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
