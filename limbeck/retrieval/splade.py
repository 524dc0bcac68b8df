"""Learned sparse retrieval: queries to the documents with which they share weighted tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from limbeck.artifact import Artifact
from limbeck.corpus import Corpus
from limbeck.errors import DataError, UsageError
from limbeck.retrieval.encoded import Encoded
from limbeck.retrieval.encoders.sparse import Entries, SparseEncoder, SparseSettings, SparseVectors
from limbeck.retrieval.encoders.splade import open_sparse_encoder, require_sparse_encoder
from limbeck.retrieval.indexed import Built, IndexNode
from limbeck.retrieval.inputs import encode_each, inputs_of
from limbeck.retrieval.postings import Postings, Vocabulary
from limbeck.retrieval.term_weights import term_weights
from limbeck.types import Input, Query, Run

__all__ = ["Splade"]


@dataclass(frozen=True)
class Splade(Encoded[Postings], IndexNode[Postings]):
    """Queries to the documents that share tokens with them, weighted by a masked language model.

    A score is the inner product of the weights of query and document, exact, over the same
    inverted index as that of BM25. Only documents that share a token with the query are hits.

    A query's weights are the weighted mean of those of its inputs, as its vector is in `Dense`: an
    expansion's texts are encoded as documents are, the query's own text and what is joined to it as
    queries are; `vector_weight` is the query's own share. Blank inputs take no part, nor do the
    terms and vectors of feedback models, which are of other spaces. A blank query has no hits, a
    blank document is none.

    Paper: SPLADE v2 (Formal et al. 2021); the mean over inputs is our choice.

    Attributes:
        encoder: a folder, or a name on the Hugging Face hub, of a sentence-transformers
            SparseEncoder or a masked language model (extra `torch`); or a folder with such a model
            as model.onnx and tokenizer.json, which needs no torch.
        max_tokens: texts are cut to so many tokens; None: the model's own length.
        document_terms: terms kept of each document, the heaviest; None: all.
        query_terms: terms kept of each query, the heaviest of its mean; None: all.
    """

    name: ClassVar[str] = "splade"
    version: ClassVar[int] = 1

    encoder: str
    max_tokens: int | None = None
    document_terms: int | None = None
    query_terms: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for side, n in (("document", self.document_terms), ("query", self.query_terms)):
            if n is not None and n < 1:
                raise UsageError(f"{side}_terms must be 1 or more, or None for all; got {n}")
        self._settings  # noqa: B018 - a wrong parameter is refused here

    @property
    def kind(self) -> str:
        """The kind "dot"."""
        return "dot"

    @property
    def _settings(self) -> SparseSettings:
        return SparseSettings(self.encoder, self.max_tokens)

    @cached_property
    def opened_encoder(self) -> SparseEncoder:
        """The encoder; its model is loaded when it first encodes."""
        return open_sparse_encoder(self._settings)

    def require_encoder(self) -> None:
        """Raise a LimbeckError where files that lie here hold no such encoder; load nothing."""
        require_sparse_encoder(self._settings)

    def shaping(self) -> dict[str, Any]:
        """Return what shapes the index: how documents are encoded, and what is kept of them."""
        return {
            "encoder": self.opened_encoder.document_fingerprint,
            "document_terms": self.document_terms,
        }

    def written_parameters(self, corpus: Corpus) -> dict[str, Any]:
        """Return what an index says of how, and of what corpus, it was built."""
        return {**super().written_parameters(corpus), "n_docs": len(corpus)}

    def build(self, corpus: Corpus) -> Built:
        """Return the postings of all documents that are not blank."""
        rows = [row for row, d in enumerate(corpus.documents()) if d.contents.strip()]
        found = term_weights(corpus, rows, self.opened_encoder, label=self.label)
        found = found.top(self.document_terms)
        n_terms = np.zeros(len(corpus) + 1, dtype=np.int64)
        n_terms[1:][rows] = np.diff(found.bounds)
        terms = self.opened_encoder.terms if rows else ()
        order = sorted(range(len(terms)), key=terms.__getitem__)
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        vocabulary = Vocabulary.of([terms[number] for number in order])
        bounds = np.cumsum(n_terms)
        postings = Postings.invert(vocabulary, bounds, ranks[found.terms], found.weights)
        return Built(postings.arrays())

    def open(self, artifact: Artifact) -> Postings:
        """Return the index in an artifact, memory-mapped."""
        return Postings.load(artifact, n_docs=artifact.parameters["n_docs"])

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        """Return the k best documents of each query, exactly."""
        index, documents = self.searchable()
        hits = index.top(self.weights(queries), k)
        query_ids = tuple(query.query_id for query in queries)
        return Run(query_ids, hits.bounds, hits.rows, hits.scores, self.kind, documents)

    def weights(self, queries: Sequence[Query]) -> list[dict[str, float]]:
        """Return the weight of each term of each query; each distinct text is encoded once.

        Raises:
            DataError: the encoder made a weight that is not finite.
        """
        encoder = self.opened_encoder
        inputs = [self._inputs(query) for query in queries]
        of_input = encode_each(
            [each for of_query in inputs for each in of_query],
            queries=lambda texts: _each(encoder.encode_queries(texts)),
            documents=lambda texts: _each(encoder.encode_documents(texts)),
        )
        means = [self._mean(of_query, of_input) for of_query in inputs]
        for query, mean in zip(queries, means, strict=True):
            if not np.isfinite(list(mean.values())).all():
                raise DataError(
                    f"weights must be finite; one of query {query.query_id!r} is not; "
                    "look at the encoder"
                )
        return means

    def _inputs(self, query: Query) -> list[Input]:
        """Return the inputs that are texts."""
        without = (dataclasses.replace(e, vector=()) for e in query.expansions)
        own = dataclasses.replace(query, expansions=tuple(without))
        return inputs_of(own, self.opened_encoder.separator)

    def _mean(
        self, inputs: Sequence[Input], of_input: Mapping[tuple[str, str], Entries]
    ) -> dict[str, float]:
        """Return the weighted mean, cut to the heaviest terms; of equal ones, the lower number."""
        mean: dict[int, float] = {}
        for each in inputs:
            terms, weights = of_input[each.text, each.side]
            for term, weight in zip(terms.tolist(), weights.tolist(), strict=True):
                mean[term] = mean.get(term, 0.0) + each.weight * weight
        kept = sorted(mean, key=lambda term: (-mean[term], term))[: self.query_terms]
        return {self.opened_encoder.terms[term]: mean[term] for term in kept}


def _each(vectors: SparseVectors) -> list[Entries]:
    return [vectors.of_text(number) for number in range(len(vectors.bounds) - 1)]
