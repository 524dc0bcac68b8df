"""SPLADE: contrastive or distilled, with what keeps the vectors sparse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from limbeck.errors import UsageError
from limbeck.training.batches import Batch
from limbeck.training.losses import flops
from limbeck.training.networks import Vectors
from limbeck.training.objectives.contrastive import Contrastive
from limbeck.training.objectives.distil import Distil
from limbeck.training.objectives.progress import Progress

__all__ = ["DistilSplade", "Splade"]


@dataclass(kw_only=True)
class _Sparse(Progress):
    """What is added to the loss of another method, so that few terms have a weight.

    Paper: Formal et al., "SPLADE", arXiv 2107.05720, section 3.2: the FLOPS regulariser of queries
    and of documents, whose weights grow with the square of the steps.

    Attributes:
        query_weight: of the queries' regulariser.
        document_weight: of the documents'.
        growing: the share of the run over which the weights grow.
    """

    students: ClassVar[tuple[str, ...]] = ("splade",)

    query_weight: float = 3e-4
    document_weight: float = 1e-4
    growing: float = 0.33

    def __post_init__(self) -> None:
        if min(self.query_weight, self.document_weight) < 0 or not 0.0 < self.growing <= 1.0:
            raise UsageError(
                "query_weight and document_weight must be 0 or more and growing lie in (0, 1]; got "
                f"{self.query_weight}, {self.document_weight} and {self.growing}"
            )
        super().__post_init__()

    def loss(self, batch: Batch, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the method's loss and, weighted, how many terms are used."""
        share = min(1.0, self.done / self.growing) ** 2
        used = self.query_weight * flops(vectors["queries"].values)
        used = used + self.document_weight * flops(vectors["passages"].values)
        return super().loss(batch, vectors) + share * used  # type: ignore[safe-super]


@dataclass(kw_only=True)
class Splade(_Sparse, Contrastive):
    """InfoNCE over all passages of the batch, and few terms with a weight.

    Paper: Formal et al., "SPLADE", arXiv 2107.05720, equation 3.
    """

    name: ClassVar[str] = "splade"


@dataclass(kw_only=True)
class DistilSplade(_Sparse, Distil):
    """A teacher's labels, and few terms with a weight.

    Paper: Formal et al., "SPLADE v2", arXiv 2109.10086, section 3.3, with margin-mse.
    """

    name: ClassVar[str] = "distil-splade"
