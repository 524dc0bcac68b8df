"""Dense retrieval: queries to the documents whose vectors are nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import Artifact
from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.retrieval.embeddings import embed
from limbeck.retrieval.encoded import Encoded
from limbeck.retrieval.encoders.arithmetic import Arithmetic
from limbeck.retrieval.encoders.base import Encoder, unit
from limbeck.retrieval.encoders.conventions import MINILM, Pooling, Settings, Similarity
from limbeck.retrieval.encoders.opening import open_encoder, require_encoder
from limbeck.retrieval.indexed import Built, IndexNode
from limbeck.retrieval.inputs import encode_each, inputs_of
from limbeck.retrieval.vectors import Layout, VectorIndex
from limbeck.types import Input, Query, Run

__all__ = ["Dense"]


@dataclass(frozen=True)
class Dense(Encoded[VectorIndex], IndexNode[VectorIndex]):
    """Queries to the documents whose vectors are nearest, by cosine or inner product.

    A query's vector is the weighted mean of the vectors of its inputs, as the encoder gives them;
    where vectors are compared by cosine, the mean is brought to length 1. An expansion's texts are
    encoded as documents are, the query's own text and what is joined to it as queries are. Blank
    inputs take no part; a query with nothing else has no hits. Documents without title and text
    have no vector and are never hits.

    Paper: HyDE (Gao et al. 2022), equation 8, for the mean; the weights are each rewriter's.

    Attributes:
        encoder: "minilm" (all-MiniLM-L6-v2 without torch), a folder, or a name on the Hugging Face
            hub (extra `torch`). What is left None below follows the convention of that name.
        query_prefix: stands before each query.
        document_prefix: stands before each document.
        pooling: "mean" or "cls": the bare transformer, pooled so.
        normalise: whether the encoder's vectors are brought to length 1.
        similarity: "cosine" or "dot".
        max_tokens: texts are cut to this length.
        arithmetic: "fp32", or "bf16", which is faster and rounds, for a model in torch.
        layout: "flat" (exact), "hnsw" (a graph; approximate), or "auto": flat up to 100,000.
        ef_construction: candidates at each step of building a graph.
        ef_search: candidates held in searching a graph; at least as many as hits are asked for.
    """

    name: ClassVar[str] = "dense"
    version: ClassVar[int] = 1

    encoder: str = MINILM
    query_prefix: str | None = None
    document_prefix: str | None = None
    pooling: Pooling | None = None
    normalise: bool | None = None
    similarity: Similarity | None = None
    max_tokens: int | None = None
    arithmetic: Arithmetic = "fp32"
    layout: Layout = "auto"
    ef_construction: int = 200
    ef_search: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in get_args(Layout):
            allowed = ", ".join(get_args(Layout))
            raise UsageError(f"layout must be one of {allowed}; got {self.layout!r}")
        if min(self.ef_construction, self.ef_search) < 1:
            raise UsageError(
                "ef_construction and ef_search must be 1 or more; got "
                f"{self.ef_construction} and {self.ef_search}"
            )
        self._settings.convention  # noqa: B018 - a wrong parameter is refused here

    @property
    def kind(self) -> str:
        """Cosine or dot, known by the encoder's name."""
        return self._settings.convention.similarity

    @property
    def _settings(self) -> Settings:
        return Settings(
            self.encoder,
            self.query_prefix,
            self.document_prefix,
            self.pooling,
            self.normalise,
            self.similarity,
            self.max_tokens,
            self.arithmetic,
        )

    @cached_property
    def opened_encoder(self) -> Encoder:
        """The encoder; its model is loaded when it first encodes."""
        return open_encoder(self._settings)

    def require_encoder(self) -> None:
        """Raise a LimbeckError where files that lie here hold no such encoder; load nothing."""
        require_encoder(self._settings)

    def shaping(self) -> dict[str, Any]:
        """Return what shapes the index: how documents are encoded, compared and laid out."""
        return {
            "encoder": self.opened_encoder.document_fingerprint,
            "similarity": self.kind,
            "layout": self.layout,
            "ef_construction": self.ef_construction,
        }

    def build(self, corpus: Corpus) -> Built:
        """Return the vectors of all documents that are not blank, and the graph if there is one."""
        rows = [row for row, d in enumerate(corpus.documents()) if d.contents.strip()]
        vectors = embed(corpus, rows, self.opened_encoder, label=self.label)
        if self.kind == "cosine":
            vectors = unit(vectors)
        of_rows = np.array(rows, dtype=np.int32)
        return Built(VectorIndex.arrays(vectors, of_rows, self.layout, self.ef_construction))

    def open(self, artifact: Artifact) -> VectorIndex:
        """Return the index in an artifact, memory-mapped."""
        names = [Path(name).stem for name in artifact.meta["files"] if name.endswith(".npy")]
        return VectorIndex.from_arrays({name: artifact.array(name) for name in names})

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        """Return the k nearest documents of each query."""
        index, documents = self.searchable()
        asked = [
            i for i, query in enumerate(queries) if self._inputs(query) or query.weighted_vectors()
        ]
        beams = self._beams(queries, k)
        vectors = self.encode([queries[i] for i in asked])
        found = index.search(vectors, k, beams=[beams[i] for i in asked])
        n_hits = np.zeros(len(queries) + 1, dtype=np.int64)
        n_hits[1:][asked] = np.diff(found.bounds)
        query_ids = tuple(query.query_id for query in queries)
        return Run(query_ids, np.cumsum(n_hits), found.rows, found.scores, self.kind, documents)

    def _beams(self, queries: Sequence[Query], k: int) -> list[int]:
        """Return how many candidates each query holds in a graph search.

        `k` may be more than this node's, to leave room for what the greediest query of the batch
        excludes; each query's own need decides, so that no other query changes its hits.
        """
        n_excluded = [len(query.excluded) for query in queries]
        own = max(self.k, k - max(n_excluded, default=0))
        return [max(self.ef_search, own + n) for n in n_excluded]

    def vectors(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return the vectors of documents as they are searched, shape (len(rows), dim).

        They have length 1 where vectors are compared by cosine; a blank document's is 0.
        """
        return self.searchable()[0].take(rows)

    def encode(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Return the vectors of queries with their expansions, shape (n_queries, dim).

        They have length 1 where vectors are compared by cosine; a blank query's is 0. Each distinct
        text is encoded once.

        Raises:
            DataError: an expansion's vector has another dimension than the index, or a vector is
                not finite.
        """
        dim = self.searchable()[0].vectors.shape[1]
        inputs = [self._inputs(query) for query in queries]
        of_input = encode_each(
            [each for of_query in inputs for each in of_query],
            queries=self.opened_encoder.encode_queries,
            documents=self.opened_encoder.encode_documents,
        )
        vectors = np.zeros((len(queries), dim), dtype=np.float32)
        for i, (query, of_query) in enumerate(zip(queries, inputs, strict=True)):
            parts = [
                of_input[each.text, each.side].astype(np.float64) * each.weight for each in of_query
            ]
            given = [_fitting(v, dim, query) * weight for v, weight in query.weighted_vectors()]
            vectors[i] = np.sum([*parts, *given], axis=0) if parts or given else 0.0
            if not np.isfinite(vectors[i]).all():
                raise DataError(
                    f"vectors must be finite; that of query {query.query_id!r} is not; look at the "
                    "encoder, and at the vectors of expansions"
                )
        return unit(vectors) if self.kind == "cosine" else vectors

    def _inputs(self, query: Query) -> list[Input]:
        return inputs_of(query, self.opened_encoder.separator)


def _fitting(vector: tuple[float, ...], dim: int, query: Query) -> NDArray[np.float64]:
    if len(vector) != dim:
        raise DataError(
            f"an expansion's vector must have {dim} dimensions, as the index has; that of query "
            f"{query.query_id!r} has {len(vector)}; take both from one encoder"
        )
    return np.array(vector, dtype=np.float64)
