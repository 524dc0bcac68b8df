"""A student with a weight a term of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from limbeck.retrieval.encoders.folders import require_head
from limbeck.retrieval.encoders.splade import is_sparse_folder
from limbeck.training.students.text import TextStudent, cut

__all__ = ["SpladeStudent"]


@dataclass(frozen=True, kw_only=True)
class SpladeStudent(TextStudent):
    """A weight a term: the highest log(1 + relu(logit)) over the tokens of a text.

    Paper: Formal et al., "SPLADE v2", arXiv 2109.10086, equation 6.

    Attributes:
        query_tokens: queries are cut to so many tokens.
        document_tokens: documents are cut to so many.
    """

    name: ClassVar[str] = "splade"

    query_tokens: int | None = None
    document_tokens: int | None = None

    def _made(self, folder: Path) -> Any:
        from sentence_transformers import SparseEncoder

        if is_sparse_folder(folder):
            model = SparseEncoder(str(folder), device="cpu", **self._reading(folder))
        else:
            model = SparseEncoder(modules=self._modules(folder), device="cpu")
        cut(model, self.query_tokens, self.document_tokens)
        return model

    def _modules(self, folder: Path) -> list[Any]:
        from sentence_transformers.sparse_encoder.modules import SpladePooling

        require_head(folder, "ForMaskedLM", "a SparseEncoder or a masked language model")
        transformer = self._transformer(folder, transformer_task="fill-mask")
        return [transformer, SpladePooling("max")]
