"""Limbeck: compose, measure, serve and distil LLM-augmented retrieval pipelines."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.agents.doc2query import Doc2Query
    from limbeck.agents.hyde import HyDE
    from limbeck.agents.lamer import LameR
    from limbeck.agents.listwise import Listwise
    from limbeck.agents.mugi import MuGI
    from limbeck.agents.pairwise import Pairwise
    from limbeck.agents.pointwise import Pointwise
    from limbeck.agents.query2doc import Query2Doc
    from limbeck.agents.recorded import Recorded
    from limbeck.agents.setwise import Setwise
    from limbeck.corpus import Corpus
    from limbeck.errors import LimbeckError
    from limbeck.eval.datasets import Dataset
    from limbeck.eval.experiment import Experiment
    from limbeck.llm.model import LLM
    from limbeck.llm.serving.engine import Engine
    from limbeck.pipeline import Pass, Pipeline
    from limbeck.retrieval.bm25 import BM25
    from limbeck.retrieval.colbert import ColBERT
    from limbeck.retrieval.cross_encoder import CrossEncoder
    from limbeck.retrieval.cutoff import Cutoff
    from limbeck.retrieval.dedup import Dedup
    from limbeck.retrieval.dense import Dense
    from limbeck.retrieval.doct5query import DocT5Query
    from limbeck.retrieval.feedback import RM3, Rocchio
    from limbeck.retrieval.filtered_queries import FilteredQueries
    from limbeck.retrieval.fusion import Fuse
    from limbeck.retrieval.maxsim import MaxSim
    from limbeck.retrieval.mmr import MMR
    from limbeck.retrieval.recorded_queries import RecordedQueries
    from limbeck.retrieval.recorded_run import RecordedRun
    from limbeck.retrieval.splade import Splade
    from limbeck.spec.spec import Spec
    from limbeck.types import Document, Expansion, Qrels, Query, Run

__version__ = "0.1.0"

_HOMES = {
    "BM25": "limbeck.retrieval.bm25",
    "ColBERT": "limbeck.retrieval.colbert",
    "Corpus": "limbeck.corpus",
    "CrossEncoder": "limbeck.retrieval.cross_encoder",
    "Cutoff": "limbeck.retrieval.cutoff",
    "Dataset": "limbeck.eval.datasets",
    "Dedup": "limbeck.retrieval.dedup",
    "Dense": "limbeck.retrieval.dense",
    "Doc2Query": "limbeck.agents.doc2query",
    "DocT5Query": "limbeck.retrieval.doct5query",
    "Document": "limbeck.types",
    "Expansion": "limbeck.types",
    "Engine": "limbeck.llm.serving.engine",
    "Experiment": "limbeck.eval.experiment",
    "FilteredQueries": "limbeck.retrieval.filtered_queries",
    "Fuse": "limbeck.retrieval.fusion",
    "HyDE": "limbeck.agents.hyde",
    "LLM": "limbeck.llm.model",
    "LameR": "limbeck.agents.lamer",
    "LimbeckError": "limbeck.errors",
    "Listwise": "limbeck.agents.listwise",
    "MMR": "limbeck.retrieval.mmr",
    "MaxSim": "limbeck.retrieval.maxsim",
    "MuGI": "limbeck.agents.mugi",
    "Pairwise": "limbeck.agents.pairwise",
    "Pass": "limbeck.pipeline",
    "Pipeline": "limbeck.pipeline",
    "Pointwise": "limbeck.agents.pointwise",
    "Qrels": "limbeck.types",
    "Query": "limbeck.types",
    "Query2Doc": "limbeck.agents.query2doc",
    "RM3": "limbeck.retrieval.feedback",
    "Recorded": "limbeck.agents.recorded",
    "RecordedQueries": "limbeck.retrieval.recorded_queries",
    "RecordedRun": "limbeck.retrieval.recorded_run",
    "Rocchio": "limbeck.retrieval.feedback",
    "Run": "limbeck.types",
    "Setwise": "limbeck.agents.setwise",
    "Spec": "limbeck.spec.spec",
    "Splade": "limbeck.retrieval.splade",
}

__all__ = [
    "BM25",
    "LLM",
    "MMR",
    "RM3",
    "ColBERT",
    "Corpus",
    "CrossEncoder",
    "Cutoff",
    "Dataset",
    "Dedup",
    "Dense",
    "Doc2Query",
    "DocT5Query",
    "Document",
    "Engine",
    "Expansion",
    "Experiment",
    "FilteredQueries",
    "Fuse",
    "HyDE",
    "LameR",
    "LimbeckError",
    "Listwise",
    "MaxSim",
    "MuGI",
    "Pairwise",
    "Pass",
    "Pipeline",
    "Pointwise",
    "Qrels",
    "Query",
    "Query2Doc",
    "Recorded",
    "RecordedQueries",
    "RecordedRun",
    "Rocchio",
    "Run",
    "Setwise",
    "Spec",
    "Splade",
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
