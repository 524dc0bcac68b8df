"""ColBERT: pairs, scored by the best token of the passage for each token of the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from limbeck.training.objectives.pairwise import Pairwise

__all__ = ["ColBERT"]


@dataclass(kw_only=True)
class ColBERT(Pairwise):
    """The pairwise loss on MaxSim scores.

    Paper: Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized
    Late Interaction over BERT", arXiv 2004.12832, section 3.3. `in_batch` adds what ColBERTv2
    (arXiv 2112.01488) has beside its distillation; there a query's own negatives do not compete in
    it, here they do.
    """

    name: ClassVar[str] = "colbert"
    students: ClassVar[tuple[str, ...]] = ("colbert",)
