"""Limbeck: compose, measure, serve and distil LLM-augmented retrieval pipelines."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.agents.hyde import HyDE
    from limbeck.agents.lamer import LameR
    from limbeck.agents.mugi import MuGI
    from limbeck.agents.query2doc import Query2Doc
    from limbeck.agents.recorded import Recorded
    from limbeck.corpus import Corpus
    from limbeck.errors import LimbeckError
    from limbeck.eval.datasets import Dataset
    from limbeck.eval.experiment import Experiment
    from limbeck.llm.model import LLM
    from limbeck.pipeline import Pipeline
    from limbeck.retrieval.bm25 import BM25
    from limbeck.retrieval.dense import Dense
    from limbeck.retrieval.feedback import RM3, Rocchio
    from limbeck.retrieval.fusion import Fuse
    from limbeck.retrieval.maxsim import MaxSim
    from limbeck.spec.spec import Spec
    from limbeck.types import Document, Expansion, Qrels, Query, Run

__version__ = "0.1.0"

_HOMES = {
    "BM25": "limbeck.retrieval.bm25",
    "Corpus": "limbeck.corpus",
    "Dataset": "limbeck.eval.datasets",
    "Dense": "limbeck.retrieval.dense",
    "Document": "limbeck.types",
    "Expansion": "limbeck.types",
    "Experiment": "limbeck.eval.experiment",
    "Fuse": "limbeck.retrieval.fusion",
    "HyDE": "limbeck.agents.hyde",
    "LLM": "limbeck.llm.model",
    "LameR": "limbeck.agents.lamer",
    "LimbeckError": "limbeck.errors",
    "MaxSim": "limbeck.retrieval.maxsim",
    "MuGI": "limbeck.agents.mugi",
    "Pipeline": "limbeck.pipeline",
    "Qrels": "limbeck.types",
    "Query": "limbeck.types",
    "Query2Doc": "limbeck.agents.query2doc",
    "RM3": "limbeck.retrieval.feedback",
    "Recorded": "limbeck.agents.recorded",
    "Rocchio": "limbeck.retrieval.feedback",
    "Run": "limbeck.types",
    "Spec": "limbeck.spec.spec",
}

__all__ = [
    "BM25",
    "LLM",
    "RM3",
    "Corpus",
    "Dataset",
    "Dense",
    "Document",
    "Expansion",
    "Experiment",
    "Fuse",
    "HyDE",
    "LameR",
    "LimbeckError",
    "MaxSim",
    "MuGI",
    "Pipeline",
    "Qrels",
    "Query",
    "Query2Doc",
    "Recorded",
    "Rocchio",
    "Run",
    "Spec",
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
