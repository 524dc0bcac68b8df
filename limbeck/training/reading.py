"""Which texts a network reads, as tokens: the corpus, and the queries of both splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from limbeck.artifact import cache_folder
from limbeck.fingerprint import canonical_json, digest
from limbeck.training.networks import Network, Side
from limbeck.training.tokens import TokenTable, tokenised
from limbeck.types import Documents, Query

__all__ = ["read_texts"]


def read_texts(
    network: Network, corpus: Documents, queries: Sequence[Query], *, separator: str = " "
) -> None:
    """Give a network the tokens of documents and queries, from the cache where it has them.

    Args:
        network: whose `tables` are filled.
        corpus: the documents, by row.
        queries: by their place.
        separator: stands between a document's title and its text.
    """
    texts = [query.text for query in queries]
    network.tables["query"] = _table(network, "query", iter(texts), len(texts), digest(*texts))
    read = (corpus.document(row).joined(separator) for row in range(len(corpus)))
    of = digest(corpus.fingerprint, separator)
    network.tables["document"] = _table(network, "document", read, len(corpus), of)


def _table(network: Network, side: Side, texts: Iterator[str], n_texts: int, of: str) -> TokenTable:
    return tokenised(
        texts,
        n_texts,
        lambda chunk: network.preprocess(chunk, side),
        folder=_folder(network, side, of),
        pad=network.pad,
        vocabulary=network.vocabulary,
        label=f"tokens of {'queries' if side == 'query' else 'documents'}",
    )


def _folder(network: Network, side: Side, of: str) -> Path:
    return cache_folder("tokens", digest(canonical_json([side, network.reading, of])))
