"""Measure the minilm encoder and the dense node on a BEIR folder.

    python benchmarks/dense_scifact.py FOLDER [--sample 200] [--split test]

Prints the pace of encoding one text a call (what Limbeck does) on one core and on all, and in
padded batches of 32; how far a vector moves when it is encoded in such a batch; then the quality of
the node and the pace of its queries. The index is taken from the cache, or built there (minutes).
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ir_measures
import numpy as np
import onnxruntime
from ir_measures import R, nDCG
from numpy.typing import NDArray

from limbeck.corpus import Corpus, read_jsonl
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.encoders import session
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.conventions import Settings
from limbeck.retrieval.encoders.minilm import find_minilm
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.types import Query

_BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a BEIR folder")
    parser.add_argument("--split", default="test", help="queries that this split judges")
    parser.add_argument("--sample", type=int, default=200, help="documents that are timed")
    options = parser.parse_args()
    corpus = Corpus.load(options.folder)
    rows = np.random.default_rng(0).permutation(len(corpus))[: options.sample]
    encoding([corpus.document(int(row)).contents for row in rows])
    retrieval(corpus, options.folder, options.split)


def encoding(texts: list[str]) -> None:
    """Print the pace of three ways, and how far the batch moves a vector."""
    encoder = open_encoder(Settings("minilm"))
    n_cores = session._n_cores()
    alone = timed("one text a call, all cores", texts, lambda: encoder.encode_documents(texts))
    session._n_cores = lambda: 1
    single = timed("one text a call, one core", texts, lambda: encoder.encode_documents(texts))
    session._n_cores = lambda: n_cores
    batched = timed(f"padded batches of {_BATCH}, all cores", texts, lambda: in_batches(texts))
    print(f"one core and all: same bits {np.array_equal(alone, single)}")
    cosines = (alone.astype(np.float64) * batched).sum(axis=1)
    same = int((alone == batched).all(axis=1).sum())
    print(f"batched: same bits for {same} of {len(texts)}, least cosine {cosines.min():.7f}")


def timed(
    name: str, texts: list[str], work: Callable[[], NDArray[np.float32]], repeats: int = 3
) -> NDArray[np.float32]:
    """Print the median pace of some repeats, and return the vectors."""
    work_s = []
    for _ in range(repeats):
        started = time.perf_counter()
        vectors = work()
        work_s.append(time.perf_counter() - started)
    print(f"{name}: {len(texts) / statistics.median(work_s):.1f} docs/s")
    return vectors


def in_batches(texts: list[str]) -> NDArray[np.float32]:
    """Return the vectors of texts encoded as is common: longest first, padded, many a call."""
    from tokenizers import Tokenizer

    files = find_minilm()
    session = onnxruntime.InferenceSession(str(files.model), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    vectors = np.zeros((len(texts), 384), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        encoded = tokenizer.encode_batch([texts[i] for i in part])
        ids = np.array([e.ids for e in encoded], dtype=np.int64)
        mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = session.run(None, feeds)[0] * mask[..., None]
        vectors[part] = states.sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return unit(vectors)


def retrieval(corpus: Corpus, folder: Path, split: str) -> None:
    """Print the quality of flat and HNSW search, and the pace of both."""
    with open(folder / "qrels" / f"{split}.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    qrels = [ir_measures.Qrel(query_id, doc_id, int(grade)) for query_id, doc_id, grade in rows]
    judged = {row[0] for row in rows}
    values = [value for _, value in read_jsonl(folder / "queries.jsonl")]
    queries = [Query(v["_id"], v["text"]) for v in values if v["_id"] in judged]
    for layout in ("flat", "hnsw"):
        node = Dense.index(corpus, layout=layout)
        node(queries[:5])
        started = time.perf_counter()
        vectors = node.encode(queries)
        encoding_s = time.perf_counter() - started
        started = time.perf_counter()
        node.searchable()[0].search(vectors, 1000)
        search_s = time.perf_counter() - started
        run = node(queries)
        scored = [ir_measures.ScoredDoc(q, *hit) for q, hits in run.items() for hit in hits]
        scores = ir_measures.calc_aggregate([nDCG @ 10, R @ 100], qrels, scored)
        quality = ", ".join(f"{measure} {score:.4f}" for measure, score in scores.items())
        print(
            f"{layout}: {quality}; {len(queries) / encoding_s:.0f} queries/s encoded, "
            f"{len(queries) / search_s:.0f} queries/s searched at k=1000"
        )


if __name__ == "__main__":
    main()
