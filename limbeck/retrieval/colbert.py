"""ColBERT: queries to documents by late interaction between their tokens, over the whole corpus."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import numpy as np

from limbeck.artifact import Artifact, locked, move_into_place
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, UsageError
from limbeck.retrieval.centroid_search import CentroidSearch
from limbeck.retrieval.codes import Bits
from limbeck.retrieval.encoded import Encoded
from limbeck.retrieval.encoders.arithmetic import Arithmetic
from limbeck.retrieval.encoders.conventions import MINILM
from limbeck.retrieval.encoders.token_opening import open_token_encoder, require_token_encoder
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenSettings
from limbeck.retrieval.indexed import StoredDocuments, readable
from limbeck.retrieval.token_index import Coding, opened, table_lines, updated
from limbeck.types import Document, Query, Run

__all__ = ["ColBERT"]

_FEW = 10
_FEW_CELLS, _CELLS = 2, 4
"""Cells opened for k up to 10, and beyond."""

_LOCK = "update"
_EXACT, _EXACT_EACH = 200, 4
"""Documents scored exactly: so many, and so many for each hit."""


@dataclass(frozen=True)
class ColBERT(Encoded[CentroidSearch]):
    """Queries to the documents of the highest MaxSim, from an index of their token vectors.

    A document's score is the sum, over the query's tokens, of the largest cosine with one of its
    own. Tokens are kept as a centroid and a residual in few bits; candidates are found by
    centroids, and only the best of them are scored with their tokens. The query's own text is
    searched: expansions, whose texts would each cost as much as ten queries, are left to others.
    A blank query has no hits, and a blank document is never one.

    Paper: ColBERT (Khattab and Zaharia, SIGIR 2020), ColBERTv2 (Santhanam et al., NAACL 2022) for
    residuals, PLAID (Santhanam et al., CIKM 2022) for the search. How we differ stands in
    `limbeck.retrieval.codebook` and `limbeck.retrieval.centroid_search`.

    Attributes:
        encoder: "minilm" (the token states of all-MiniLM-L6-v2, without torch), a folder, or a name
            on the Hugging Face hub: a ColBERT checkpoint, a PyLate or MultiVectorEncoder folder, or
            any transformer (extra `torch`).
        bits: of each dimension of a residual: 1, 2, 4 or 8.
        pool: how many tokens of a document become one vector, on average; 1 keeps all.
        query_tokens: queries are cut to so many tokens (a ColBERT fills them up with [MASK]); None:
            the model's own length.
        document_tokens: documents are cut to so many tokens; None: the model's own length.
        arithmetic: "fp32", or "bf16", which is faster and rounds, for a model in torch.
        n_cells: centroids whose documents are candidates, for each token of the query. None: 2 for
            k up to 10, 4 beyond.
        n_exact: candidates scored with their tokens. None: 200 and 4 for each hit.
    """

    name: ClassVar[str] = "colbert"
    version: ClassVar[int] = 1

    encoder: str = MINILM
    bits: Bits = 4
    pool: int = 1
    query_tokens: int | None = None
    document_tokens: int | None = None
    arithmetic: Arithmetic = "fp32"
    n_cells: int | None = None
    n_exact: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in get_args(Bits):
            raise UsageError(f"bits must be 1, 2, 4 or 8; got {self.bits}")
        for name in ("pool", "n_cells", "n_exact"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be 1 or more; got {value}")
        self._settings  # noqa: B018 - a wrong parameter is refused here

    def update(self, corpus: Corpus) -> Self:
        """Return this node with its index brought to another corpus, in one operation.

        Documents that are new or have changed are encoded; those that are gone are no longer found;
        the others stay as they are. Until all is done, the index is the old one. Where the corpus
        has grown to more than four times what centroids were made for, all is encoded anew.

        Raises:
            UsageError: the index has no path of its own, or what is given is no corpus.
            ArtifactError: there is no whole index, or it was built with other parameters.
        """
        with self._updating() as path:
            return self._updated(path, readable(corpus))

    def add(self, documents: Iterable[Document | Mapping[str, Any]]) -> Self:
        """Return this node with more documents in its index, as `update` does.

        Where the corpus was read from disk, their texts are kept in the index, so that `load` finds
        them; those of a corpus in memory are not.

        Args:
            documents: one whose id is taken stands in the place of the old one.

        Raises:
            UsageError: one document is given, where several are taken.
            ArtifactError: another node has changed the index since this one opened it.
        """
        return self._changed(added=documents)

    def delete(self, doc_ids: Iterable[str]) -> Self:
        """Return this node with documents taken out of its index, as `update` does.

        Raises:
            UsageError: one id is given, where several are taken.
            DataError: an id is not there, or no document is left.
            ArtifactError: another node has changed the index since this one opened it.
        """
        return self._changed(deleted=doc_ids)

    def _changed(self, **change: Any) -> Self:
        held = self._held()
        with self._updating() as path:
            if self._artifact(path).parameters["corpus"]["fingerprint"] != held.fingerprint:
                raise ArtifactError(
                    f"{path} must hold what it held when this node opened it; the index has "
                    "changed since; load it again, and repeat the change"
                )
            return self._updated(path, held.changed(**change))

    @contextmanager
    def _updating(self) -> Iterator[Path]:
        """Give the path of the index, which no other process changes meanwhile."""
        if self.path is None:
            raise UsageError(
                "update needs an index with a path of its own; this one lies in the cache, where "
                "each corpus has its own; use ColBERT.index(corpus), or give the index a path"
            )
        self._require_own(self._artifact(self.path))
        with locked(self.path / _LOCK):
            yield self.path

    def _updated(self, path: Path, corpus: Corpus) -> Self:
        self._update(path, corpus, self.written_parameters(corpus))
        return dataclasses.replace(self, corpus=corpus, opened=None)._bound_at(path, corpus)

    def _held(self) -> Corpus:
        """Return the documents of the open index, with their texts."""
        _, documents = self.searchable()
        if isinstance(documents, StoredDocuments):
            return documents.corpus
        return readable(documents)

    @property
    def kind(self) -> str:
        """Maxsim."""
        return "maxsim"

    @property
    def _settings(self) -> TokenSettings:
        return TokenSettings(self.encoder, self.query_tokens, self.document_tokens, self.arithmetic)

    @cached_property
    def opened_encoder(self) -> TokenEncoder:
        """The encoder; its model is loaded when it first encodes."""
        return open_token_encoder(self._settings)

    def require_encoder(self) -> None:
        """Raise a LimbeckError where files that lie here hold no such encoder; load nothing."""
        require_token_encoder(self._settings)

    def shaping(self) -> dict[str, Any]:
        """Return what shapes the index: how documents are encoded and coded."""
        return {
            "encoder": self.opened_encoder.document_fingerprint,
            "bits": self.bits,
            "pool": self.pool,
        }

    def identity(self, artifact: Artifact) -> object:
        """Return what tells this index from others of its corpus: its centroids too."""
        return [artifact.parameters["shaping"], artifact.parameters["tokens"]["codes"]]

    def stored_ids(self, artifact: Artifact) -> Sequence[str]:
        """Return the document ids that an artifact holds, in the order of rows."""
        return table_lines(artifact, "doc_ids")

    def stored_additions(self, artifact: Artifact) -> Sequence[Mapping[str, Any]]:
        """Return the documents that were added to the corpus that the index was built on."""
        return table_lines(artifact, "added")

    def write(self, path: Path, corpus: Corpus, parameters: Mapping[str, Any]) -> None:
        """Write the index of a corpus beside its place, where a killed run is taken up again."""
        beside = path.with_name(f".{path.name}.building")
        with locked(beside / _LOCK):
            if self._stands(path, parameters):  # another process was first
                shutil.rmtree(beside, ignore_errors=True)
                return
            self._update(beside, corpus, parameters)
            move_into_place(beside, path)

    def _stands(self, path: Path, parameters: Mapping[str, Any]) -> bool:
        """Return whether the index that is to be written is there already."""
        try:
            found = self._artifact(path).parameters
        except ArtifactError:
            return False
        return all(found[key] == parameters[key] for key in ("shaping", "corpus"))

    def _update(self, folder: Path, corpus: Corpus, parameters: Mapping[str, Any]) -> None:
        coding = Coding(self.opened_encoder, self.bits, self.pool)
        updated(folder, corpus, coding, kind=self.name, version=self.version, parameters=parameters)

    def open(self, artifact: Artifact) -> CentroidSearch:
        """Return the index in an artifact, memory-mapped."""
        return CentroidSearch.of(opened(artifact))

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        """Return the k best documents of each query, or fewer where `k` leaves room for others.

        Room is what the query of the batch that excludes most documents needs beyond this node's
        own k. A query that excludes fewer gets no more than it needs itself.

        Raises:
            DataError: the encoder made a vector that is not finite.
        """
        index, documents = self.searchable()
        asked = [i for i, query in enumerate(queries) if query.text.strip()]
        encoded = self.opened_encoder.encode_queries([queries[i].text for i in asked])
        vectors = encoded.finite([f"query {queries[i].query_id!r}" for i in asked])
        needs = self._needs(queries, k)
        hits = [
            index.search(vectors.of_text(position), needs[i], **self._effort(needs[i]))
            for position, i in enumerate(asked)
        ]
        n_hits = np.zeros(len(queries) + 1, dtype=np.int64)
        n_hits[1:][asked] = [len(rows) for rows, _ in hits]
        rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in hits)])
        scores = np.concatenate([np.zeros(0, np.float32), *(scores for _, scores in hits)])
        query_ids = tuple(query.query_id for query in queries)
        bounds = np.cumsum(n_hits)
        run = Run(query_ids, bounds, rows.astype(np.int32), scores, self.kind, documents)
        return run.top(k)

    def _needs(self, queries: Sequence[Query], k: int) -> list[int]:
        """Return how many hits each query needs.

        `k` may be more than this node's, to leave room for what the greediest query of the batch
        excludes; each query's own need decides, so that no other query changes its hits.
        """
        n_excluded = [len(query.excluded) for query in queries]
        own = max(self.k, k - max(n_excluded, default=0))
        return [own + n for n in n_excluded]

    def _effort(self, k: int) -> dict[str, int]:
        """Return how many cells are opened, and documents scored exactly, for k hits."""
        n_cells = _FEW_CELLS if k <= _FEW else _CELLS
        n_exact = _EXACT + _EXACT_EACH * k
        return {"n_cells": self.n_cells or n_cells, "n_exact": self.n_exact or n_exact}
