"""Measure MaxSim beside a plain padded one in torch, on a BEIR folder.

    python benchmarks/maxsim.py FOLDER [--split test] [--depth 100] [--timed 60]

Each query's first hits by minilm vectors are scored with the token vectors of minilm: by einsum,
mask, max and sum in torch, from a padded tensor that is there already and from packed documents
that have to be padded first; and by Limbeck's compiled loops, from packed documents at each
precision. All take turns, query by query, with as many threads; the ratio is the median over the
queries of the ratio of the best of five times. The quality of each precision follows. Token vectors
are taken from the cache, or encoded (minutes). Needs the extra `torch`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.retrieval.codes import quantise
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.encoders.token_opening import open_token_encoder
from limbeck.retrieval.encoders.tokens import TokenSettings
from limbeck.retrieval.interaction import CodedTokens, FloatTokens, Tokens
from limbeck.retrieval.maxsim import MaxSim, Precision
from limbeck.retrieval.store import remembered
from limbeck.types import Run

_TRIES = 5

_PAUSE_S = 0.005
"""Between two ways: threads of torch keep their processors busy for a while after their work."""


class Packed(NamedTuple):
    """The documents of all hits: their rows in the corpus, and where their tokens lie."""

    rows: NDArray[np.int64]
    bounds: NDArray[np.int64]
    vectors: NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a BEIR folder")
    parser.add_argument("--split", default="test", help="queries that this split judges")
    parser.add_argument("--depth", type=int, default=100, help="hits scored for each query")
    parser.add_argument("--timed", type=int, default=60, help="queries that are timed")
    options = parser.parse_args()
    data = Dataset.load(options.folder, options.split)
    run = Dense.index(data.corpus).top(options.depth)(data.queries)
    packed = documents_of(run)
    texts = [query.text for query in data.queries]
    encoded = open_token_encoder(TokenSettings("minilm")).encode_queries(texts)
    queries = [encoded.of_text(i) for i in range(len(texts))]
    forms = {precision: form(packed.vectors, precision) for precision in get_args(Precision)}
    speed(queries[: options.timed], run, packed, forms)
    quality(data, queries, run, packed, forms)


def documents_of(run: Run) -> Packed:
    """Return the token vectors of all documents that are hits, by the store that MaxSim fills."""
    node = MaxSim()
    rows = np.unique(run.rows)
    records = remembered(
        node._store, run.corpus, rows.tolist(), node._encoded, label="encoding tokens"
    )
    bounds, vectors = records.packed()
    return Packed(rows, bounds, vectors.astype(np.float32))


def form(vectors: NDArray[np.float32], precision: str) -> Tokens:
    if precision.startswith("float"):
        return FloatTokens(vectors.astype(precision))
    bits = int(precision[3:])
    return CodedTokens(quantise(vectors, bits, unit=True), bits)


def spans(run: Run, position: int, packed: Packed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    at = np.searchsorted(packed.rows, run.rows[run.segment(position)])
    return packed.bounds[at], packed.bounds[at + 1]


def speed(
    queries: Sequence[NDArray[np.float32]], run: Run, packed: Packed, forms: dict[str, Tokens]
) -> None:
    """Print the times of all ways, and their ratios to the plain one."""
    times: dict[str, list[float]] = {}
    worst = 0.0
    work, tokens = [], []
    for position, query in enumerate(queries):
        starts, ends = spans(run, position, packed)
        texts = [torch.from_numpy(packed.vectors[s:e]) for s, e in zip(starts, ends, strict=True)]
        asked = torch.from_numpy(query)
        tensor, there = padded(texts)
        ways: dict[str, Callable[[], object]] = {
            "torch, padded before": lambda q=asked, t=tensor, m=there: plain(q, t, m),
            "torch, padding included": lambda q=asked, t=texts: plain(q, *padded(t)),
        }
        for name, kept in forms.items():
            ways[name] = lambda k=kept, q=query, s=starts, e=ends: k.scores(q, s, e)
        for name, seconds in best_of(ways).items():
            times.setdefault(name, []).append(seconds)
        ours = forms["float32"].scores(query, starts, ends)
        theirs = plain(asked, tensor, there).numpy()
        worst = max(worst, float(np.abs(ours - theirs).max()))
        tokens.append(int((ends - starts).sum()))
        work.append(2 * tokens[-1] * query.size)
    print(
        f"{len(queries)} queries of {np.mean([len(q) for q in queries]):.1f} tokens, "
        f"{np.mean(tokens):.0f} tokens of documents each, {torch.get_num_threads()} threads; "
        f"float32 differs from torch by {worst:.1e} at most\n"
    )
    first, second = list(times)[:2]
    print("| way | ms a query | GFLOP/s | times as fast as padded before | as padding included |")
    print("|---|---|---|---|---|")
    for name, of_way in times.items():
        ratios = [
            statistics.median(a / b for a, b in zip(times[base], of_way, strict=True))
            for base in (first, second)
        ]
        pace = statistics.median(w / t / 1e9 for w, t in zip(work, of_way, strict=True))
        median = statistics.median(of_way) * 1e3
        print(f"| {name} | {median:.2f} | {pace:.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def padded(texts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    tensor = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    lengths = torch.tensor([len(text) for text in texts])
    return tensor, torch.arange(tensor.shape[1]) < lengths[:, None]


def plain(query: torch.Tensor, documents: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    products = torch.einsum("qd,ntd->nqt", query, documents)
    return products.masked_fill(~there[:, None], float("-inf")).amax(dim=2).sum(dim=1)


def best_of(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the best time of each way in seconds; they take turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(_TRIES):
        for name, way in ways.items():
            pause()
            started = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def pause() -> None:
    """Wait without sleeping, from which a processor wakes slowly."""
    until = time.perf_counter() + _PAUSE_S
    while time.perf_counter() < until:
        pass


def quality(
    data: Dataset,
    queries: Sequence[NDArray[np.float32]],
    run: Run,
    packed: Packed,
    forms: dict[str, Tokens],
) -> None:
    print("\n| precision | nDCG@10 | bytes a token |\n|---|---|---|")
    for name, kept in forms.items():
        scores = [kept.scores(query, *spans(run, i, packed)) for i, query in enumerate(queries)]
        made = Run.ranked(
            run.query_ids,
            run.bounds,
            run.rows,
            np.concatenate(scores),
            kind="maxsim",
            corpus=run.corpus,
        )
        found = evaluate(made, data.qrels, ["nDCG@10"])
        stored = kept.rows if isinstance(kept, FloatTokens) else kept.codes
        print(f"| {name} | {found.means()['nDCG@10']:.4f} | {stored.nbytes / len(stored):.0f} |")


if __name__ == "__main__":
    main()
