"""Time BM25 beside bm25s (numba back-end, its own tokenizer with PyStemmer) on BEIR folders.

    python benchmarks/bm25_speed.py FOLDER [FOLDER ...] [--repeats 15] [--split test]

Both start from texts in memory. "index" is analysis and index; ours ends with the index on disk and
opened again, theirs in memory ("index, saved": theirs with a save as well). "queries" is analysis
and search of the whole batch, in one thread and in two. The repeats of the two alternate; a ratio
below 1 means that Limbeck is faster.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bm25s
import Stemmer
from bm25s.tokenization import Tokenizer

from limbeck.corpus import Corpus, read_jsonl
from limbeck.retrieval.bm25 import BM25
from limbeck.types import Query

K1, B = 0.9, 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="BEIR folders")
    parser.add_argument("--split", default="test", help="queries that this split judges")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    print(f"{'collection':18} {'work':28} {'limbeck s':>10} {'bm25s s':>10} {'ratio':>6}")
    for folder in options.folders:
        with tempfile.TemporaryDirectory(prefix="bm25-speed-") as scratch:
            for work, ours, theirs in cases(folder, options.split, Path(scratch)):
                mine, other = alternated(ours, theirs, options.repeats)
                print(f"{folder.name:18} {work:28} {mine:10.4f} {other:10.4f} {mine / other:6.2f}")


Case = tuple[str, Callable[[], object], Callable[[], object]]


def cases(folder: Path, split: str, scratch: Path) -> list[Case]:
    """Return what is timed: a name, and each side's work."""
    read = Corpus.load(folder)
    corpus = Corpus.from_documents(read.documents())
    texts = [document.contents for document in corpus.documents()]
    queries = judged_queries(folder, split)
    asked = [query.text for query in queries]

    def build() -> BM25:
        return BM25.index(corpus, path=scratch / f"{time.perf_counter_ns()}", k1=K1, b=B)

    node = build()
    tokenizer, other = build_theirs(texts)
    rows: list[Case] = [
        ("index", build, lambda: build_theirs(texts)),
        ("index, saved", build, lambda: build_theirs(texts)[1].save(scratch / "theirs")),
    ]
    rows += [
        (
            f"{len(queries)} queries, k={k}, threads={threads}",
            limited(threads, partial(node.top(k), queries)),
            partial(ask_theirs, tokenizer, other, asked, k, threads),
        )
        for k in (10, 1000)
        for threads in (1, 2)
    ]
    return rows


def judged_queries(folder: Path, split: str) -> list[Query]:
    """Return the queries that a split judges."""
    with open(folder / "qrels" / f"{split}.tsv", encoding="utf-8", newline="") as file:
        judged = {row["query-id"] for row in csv.DictReader(file, delimiter="\t")}
    lines = read_jsonl(folder / "queries.jsonl")
    return [Query(str(q["_id"]), q["text"]) for _, q in lines if str(q["_id"]) in judged]


def build_theirs(texts: list[str]) -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(stemmer=Stemmer.Stemmer("porter"), stopwords="en")
    tokens = tokenizer.tokenize(texts, return_as="tuple", show_progress=False)
    index = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numba")
    index.index(tokens, show_progress=False)
    return tokenizer, index


def ask_theirs(tokenizer: Tokenizer, index: Any, texts: list[str], k: int, threads: int) -> Any:
    tokens = tokenizer.tokenize(texts, update_vocab=False, return_as="ids", show_progress=False)
    return index.retrieve(
        tokens, k=k, n_threads=threads, show_progress=False, backend_selection="numba"
    )


def limited(threads: int, work: Callable[[], object]) -> Callable[[], object]:
    """Return the work kept to so many threads, by the variable that a user would set."""
    import numba

    def run() -> object:
        before = numba.config.NUMBA_NUM_THREADS
        numba.config.NUMBA_NUM_THREADS = min(threads, os.cpu_count() or 1)
        try:
            return work()
        finally:
            numba.config.NUMBA_NUM_THREADS = before

    return run


def alternated(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Return the median seconds of both, after one call of each to warm up."""
    taken: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for work, seconds in zip((ours, theirs), taken, strict=True):
            started = time.perf_counter()
            work()
            if repeat:
                seconds.append(time.perf_counter() - started)
    return statistics.median(taken[0]), statistics.median(taken[1])


if __name__ == "__main__":
    main()
