"""The parts of a model of sentence-transformers."""

from __future__ import annotations

from typing import Any

__all__ = ["parts", "readers"]


def parts(kind: type, model: Any) -> list[Any]:
    """Return the modules of a kind, anywhere in a model."""
    return [module for module in model.modules() if isinstance(module, kind)]


def readers(model: Any) -> list[Any]:
    """Return the transformers of a model, with their tokenizers: one, or one a tower."""
    from sentence_transformers.base.modules import Transformer

    return parts(Transformer, model)
