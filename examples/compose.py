"""Compose pipelines in Python, check them, measure them: python examples/compose.py.

Runs off line on the bundled mini collection; needs the extra `minilm`. The LLM is a script here, so
that the example needs no model: put `LLM("vllm:Qwen/Qwen3-8B", base_url=...)` in its place.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from limbeck import BM25, LLM, Dataset, Dense, Experiment, Fuse, HyDE, LameR, Spec
from limbeck.eval.report import table, write_report


def main() -> None:
    bm25, dense = BM25(), Dense(encoder="minilm")
    llm = LLM("scripted:example", replies=("Stemming maps the forms of a word to one term.",))
    pipelines = {
        "bm25": bm25,
        "dense": dense,
        "lamer": bm25.top(10) >> LameR(llm, n=1) >> bm25,
        "hybrid": Fuse([bm25, HyDE(llm, n=1) >> dense], method="linear", normalise="minmax"),
    }
    spec = Spec.of(pipelines)
    spec.check()
    print(spec.dump())
    out = Path("compose-report")
    report = Experiment(pipelines, [Dataset.mini()], out=out).run()
    write_report(report, out)
    Console().print(table(report))


if __name__ == "__main__":
    main()
