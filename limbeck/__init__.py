"""Limbeck: compose, measure, serve and distil LLM-augmented retrieval pipelines."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.corpus import Corpus
    from limbeck.errors import LimbeckError
    from limbeck.pipeline import Pipeline
    from limbeck.types import Document, Expansion, Qrels, Query, Run

__version__ = "0.1.0"

_HOMES = {
    "Corpus": "limbeck.corpus",
    "Document": "limbeck.types",
    "Expansion": "limbeck.types",
    "LimbeckError": "limbeck.errors",
    "Pipeline": "limbeck.pipeline",
    "Qrels": "limbeck.types",
    "Query": "limbeck.types",
    "Run": "limbeck.types",
}

__all__ = [
    "Corpus",
    "Document",
    "Expansion",
    "LimbeckError",
    "Pipeline",
    "Qrels",
    "Query",
    "Run",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import a public name's home on first use, so that `import limbeck` loads nothing heavy."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
