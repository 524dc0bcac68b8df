"""Measure the colbert node against exhaustive MaxSim on BEIR folders.

    python benchmarks/colbert.py FOLDER [FOLDER ...] [--split test] [--queries 300] [--k 10]
        [--bits 4 2 1] [--pools 2 3] [--codecs] [--indexes FOLDER]

Prints, for each folder and number of bits: bytes a token with everything counted, nDCG@10 of the
node and of exhaustive MaxSim over the float32 vectors, the overlap of their first k, and medians of
milliseconds a query: of each stage, in all, and exhaustively. Each query is timed with both ways,
one after the other, so that what else the machine does hits both. Encoding the query, which both
need, is left out. `--pools` adds rows with pooled tokens; `--codecs` compares, on the first 50
documents of 50 queries, our codes of residuals with PLAID's buckets at quantiles.

Token vectors are taken from the cache, or encoded once (minutes: about 30 documents a second).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from ir_measures import nDCG
from numpy.typing import NDArray

from limbeck.artifact import cache_folder
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.fingerprint import digest
from limbeck.retrieval import colbert
from limbeck.retrieval.centroid_search import CentroidSearch
from limbeck.retrieval.codes import decoded, rotated
from limbeck.retrieval.colbert import ColBERT
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.token_opening import open_token_encoder
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenSettings, TokenVectors
from limbeck.retrieval.interaction import FloatTokens
from limbeck.retrieval.store import Store, remembered
from limbeck.types import Document

_TIMED = 60
"""Queries that are timed, evenly spread."""

_REPEATS = 3
_CODEC_QUERIES, _CODEC_DEPTH = 50, 50
"""Codes of residuals are compared on so many queries, over their first documents."""

_STAGES = ("table", "cells", "prune", "exact")
_HEAD = (
    "bits pool  bytes/token  nDCG@10  overlap"
    "   table  cells  prune  exact    all  exhaustive  faster"
)

Scores = list[NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="BEIR folders")
    parser.add_argument("--split", default="test", help="queries that this split judges")
    parser.add_argument("--queries", type=int, default=300, help="how many of them, the first")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--bits", type=int, nargs="*", default=[4, 2, 1])
    parser.add_argument("--pools", type=int, nargs="*", default=[])
    parser.add_argument("--codecs", action="store_true")
    parser.add_argument("--indexes", type=Path, help="where indexes are kept; else they are not")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for folder in options.folders:
            measure(folder, options, (options.indexes or Path(place)) / folder.name)


def measure(folder: Path, options: argparse.Namespace, place: Path) -> None:
    """Print the lines of one collection."""
    bench = Bench(Dataset.load(folder, split=options.split), options.queries, place)
    bench.head(folder.name)
    for bits, pool in [(b, 1) for b in options.bits] + [(4, p) for p in options.pools]:
        bench.row(bits, pool, options.k)
    if options.codecs:
        bench.codecs()


class Remembering(TokenEncoder):
    """minilm, with the vectors of documents kept in the cache, where the reranker has them too."""

    def __init__(self, corpus: Corpus) -> None:
        self._real = open_token_encoder(TokenSettings("minilm"))
        self.document_fingerprint = self._real.document_fingerprint
        self.fingerprint = self._real.fingerprint
        vector = np.dtype(("<f2", (self.dim,)))
        name = digest(self.document_fingerprint, "float16")
        self.store = Store(cache_folder("tokens", name), vector)
        rows = [row for row, d in enumerate(corpus.documents()) if d.contents.strip()]
        remembered(self.store, corpus, rows, self._encoded, label="encoding tokens")
        keys = {row: bytes.fromhex(corpus.digest(row)) for row in rows}
        self._keys = {corpus.document(row).contents: key for row, key in keys.items()}

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._real.dim

    def _encoded(self, documents: Sequence[Document]) -> tuple[list[int], NDArray[Any]]:
        bounds, vectors = self._real.encode_documents(documents)
        return np.diff(bounds).tolist(), vectors

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Return the token vectors of queries."""
        return self._real.encode_queries(texts)

    def encode_documents(self, documents: Sequence[Document | str]) -> TokenVectors:
        """Return the token vectors of documents, from the cache."""
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        bounds, vectors = self.store.records([self._keys[text] for text in texts]).packed()
        return TokenVectors(bounds, vectors.astype(np.float32))


class Bench:
    """One collection, with the scores of exhaustive MaxSim."""

    def __init__(self, dataset: Dataset, n_queries: int, place: Path) -> None:
        self.place = place
        self.corpus = dataset.corpus
        self.queries = list(dataset.queries)[:n_queries]
        self.qrels = dataset.qrels.restricted([q.query_id for q in self.queries]).judgements
        self.encoder = Remembering(self.corpus)
        colbert.open_token_encoder = lambda _: self.encoder
        documents = list(self.corpus.documents())
        self.rows = [row for row, d in enumerate(documents) if d.contents.strip()]
        self.bounds, vectors = self.encoder.encode_documents([documents[row] for row in self.rows])
        self.floats = FloatTokens(vectors)
        self.asked = self.encoder.encode_queries([query.text for query in self.queries])
        self.exhaustive = [self.scores(position) for position in range(len(self.queries))]

    def head(self, name: str) -> None:
        """Print what all lines of the collection share."""
        quality = self.quality(self.exhaustive)
        print(f"\n{name}: {len(self.corpus)} documents, {self.bounds[-1]} tokens")
        print(f"{len(self.queries)} queries; exhaustive nDCG@10 {quality:.4f}")
        print(_HEAD)

    def scores(self, position: int) -> NDArray[np.float32]:
        """Return the score of each document with text, exhaustively."""
        query = self.asked.of_text(position)
        return self.floats.scores(query, self.bounds[:-1], self.bounds[1:])

    def quality(self, scores: Scores) -> float:
        """Return the nDCG@10 of the rankings by some scores."""
        rankings = [best(of_query, 10) for of_query in scores]
        return self.measured(
            [(np.array(self.rows)[b], s[b]) for b, s in zip(rankings, scores, strict=True)]
        )

    def measured(self, hits: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> float:
        """Return the nDCG@10 of rows and scores."""
        ids = self.corpus.doc_ids
        run = {
            query.query_id: {ids[row]: float(score) for row, score in zip(*of_query, strict=True)}
            for query, of_query in zip(self.queries, hits, strict=True)
        }
        measure = nDCG @ 10
        return float(ir_measures.calc_aggregate([measure], self.qrels, run)[measure])

    def row(self, bits: int, pool: int, k: int) -> None:
        """Print the line of one index."""
        path = self.place / f"{bits}-{pool}"
        node = ColBERT.index(self.corpus, path=path, bits=bits, pool=pool, k=k)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        index = node.searchable()[0]
        n_tokens = int((index.ends - index.starts).sum())
        hits, timed = self.timed(index, k, node._effort(k))
        found = [set(rows.tolist()) for rows, _ in hits]
        overlaps = [
            len(of_query & set(np.array(self.rows)[best(scores, k)].tolist())) / k
            for of_query, scores in zip(found, self.exhaustive, strict=True)
        ]
        ms = {name: 1e3 * statistics.median(of_stage) for name, of_stage in timed.items()}
        stages = " ".join(f"{ms[name]:6.2f}" for name in (*_STAGES, "all"))
        print(f"{bits:4} {pool:4}  {size / n_tokens:11.1f}  {self.measured(hits):7.4f}  ", end="")
        print(f"{statistics.mean(overlaps):7.4f}  {stages}  {ms['exhaustive']:10.1f}  ", end="")
        print(f"{ms['exhaustive'] / ms['all']:5.1f}x", flush=True)

    def timed(
        self, index: CentroidSearch, k: int, effort: dict[str, int]
    ) -> tuple[list[Any], dict[str, list[float]]]:
        """Return the hits of each query, and the seconds of each stage for each."""
        timed: dict[str, list[float]] = {name: [] for name in (*_STAGES, "all", "exhaustive")}
        every = self.asked.bounds[:-1].size
        hits = [index.search(self.asked.of_text(i), k, **effort) for i in range(every)]
        for position in range(0, every, max(1, every // _TIMED)):
            query = self.asked.of_text(position)
            timed["exhaustive"].append(seconds(partial(self.scores, position)))
            search = partial(index.search, query, k, **effort)
            timed["all"].append(statistics.median(seconds(search) for _ in range(_REPEATS)))
            for name, took in stages(index, query, max(k, effort["n_exact"]), effort["n_cells"]):
                timed[name].append(took)
        return hits, timed

    def codecs(self) -> None:
        """Print the overlap of the first ten that each code of residuals keeps."""
        node = ColBERT.index(self.corpus, path=self.place / "4-1", bits=4)
        codebook = node.searchable()[0].codebook
        near = np.unique(
            np.concatenate([best(s, _CODEC_DEPTH) for s in self.exhaustive[:_CODEC_QUERIES]])
        )
        spans = [np.arange(self.bounds[doc], self.bounds[doc + 1]) for doc in near]
        ends = np.cumsum([len(span) for span in spans])
        vectors = np.asarray(self.floats.rows[np.concatenate(spans)], dtype=np.float32)
        centroids = codebook.centroids[codebook.nearest(vectors)]
        for bits in (1, 2, 4):
            _, codes = codebook.coded(vectors, bits)
            back = rotated(np.eye(vectors.shape[1], dtype=np.float32)).T
            ours = unit(centroids + decoded(codes, bits) @ back)
            plaid = unit(centroids + bucketed(vectors - centroids, bits))
            kept = [self.kept(made, ends, near) for made in (ours, plaid)]
            print(f"codec, {bits} bits: first ten kept {kept[0]:.4f}, by quantiles {kept[1]:.4f}")

    def kept(
        self, vectors: NDArray[np.float32], ends: NDArray[np.int64], near: NDArray[np.int64]
    ) -> float:
        """Return the share of the first ten that other vectors of some documents keep."""
        tokens, starts = FloatTokens(vectors), np.concatenate(([0], ends[:-1]))
        overlaps = []
        for position, scores in enumerate(self.exhaustive[:_CODEC_QUERIES]):
            again = tokens.scores(self.asked.of_text(position), starts, ends)
            overlaps.append(len({*near[best(again, 10)]} & {*best(scores, 10)}) / 10)
        return statistics.mean(overlaps)


def stages(
    index: CentroidSearch, query: NDArray[np.float32], n_exact: int, n_cells: int
) -> list[tuple[str, float]]:
    """Return the seconds of each stage of one search."""
    marks = [time.perf_counter()]
    products = index.codebook.products(query)
    marks.append(time.perf_counter())
    rows = index.candidates(products, len(query), n_cells, n_exact)
    marks.append(time.perf_counter())
    rows = index.pruned(products, len(query), rows, n_exact)
    marks.append(time.perf_counter())
    index.tokens.scores(query, products, index.starts[rows], index.ends[rows])
    marks.append(time.perf_counter())
    return list(zip(_STAGES, np.diff(marks).tolist(), strict=True))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the places of the k largest scores; of equal ones the lower."""
    return np.argsort(-scores, kind="stable")[:k]


def bucketed(residuals: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return residuals as ColBERTv2's code stores them: each bucket's middle quantile."""
    n = 1 << bits
    sample = residuals[:: max(1, len(residuals) // 20_000)].ravel()
    cuts = np.quantile(sample, np.arange(1, n) / n)
    weights = np.quantile(sample, (np.arange(n) + 0.5) / n).astype(np.float32)
    return weights[np.searchsorted(cuts, residuals)]


if __name__ == "__main__":
    main()
