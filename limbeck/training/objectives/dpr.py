"""DPR: in-batch negatives and hard ones, all passages of the batch for every query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from limbeck.training.objectives.contrastive import Contrastive

__all__ = ["DPR"]


@dataclass(kw_only=True)
class DPR(Contrastive):
    """-log of the softmax, over all passages of the batch, at each query's positive.

    Paper: Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", arXiv
    2004.04906. There scores are plain inner products, and tau is 1. A hard negative of one query is
    a negative of all others, also where it happens to answer them: there is no filter. We differ
    where a batch holds a passage twice, or two positives of a query (`Contrastive`).
    """

    name: ClassVar[str] = "dpr"
    students: ClassVar[tuple[str, ...]] = ("dense", "adapter", "colbert")
