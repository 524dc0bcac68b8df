"""A model of sentence-transformers as training uses it: tokens in, representations out.

Texts of a step are sorted by length and computed in parts of about as many tokens each, so that
hardly any padding is computed; packed, the parts have none: their texts lie one behind the other,
and attention keeps them apart. Both give the same vectors.
"""

from __future__ import annotations

from typing import Any

from limbeck.errors import UsageError
from limbeck.training.networks.adapter import AdapterNetwork
from limbeck.training.networks.dense import DenseNetwork, MultiVectorNetwork, SparseNetwork
from limbeck.training.networks.network import Computing, Network, Precision, Side
from limbeck.training.networks.pair import PairNetwork
from limbeck.training.networks.vectors import Vectors, joined

__all__ = [
    "AdapterNetwork",
    "Computing",
    "DenseNetwork",
    "MultiVectorNetwork",
    "Network",
    "PairNetwork",
    "Precision",
    "Side",
    "SparseNetwork",
    "Vectors",
    "joined",
    "network",
]


def network(model: Any, computing: Computing, *, frozen: bool = False) -> Network:
    """Return the network of a model of sentence-transformers, by its class.

    Raises:
        UsageError: it is of another class.
    """
    kinds: dict[str, type[Network]] = {
        "SentenceTransformer": DenseNetwork,
        "MultiVectorEncoder": MultiVectorNetwork,
        "SparseEncoder": SparseNetwork,
        "CrossEncoder": PairNetwork,
        "Adapter": AdapterNetwork,
    }
    for parent in type(model).__mro__:
        if parent.__name__ in kinds:
            return kinds[parent.__name__](model, computing, frozen=frozen)
    raise UsageError(f"a model must be one of {', '.join(kinds)}; got {type(model).__name__}")
