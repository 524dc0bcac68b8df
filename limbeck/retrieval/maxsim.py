"""MaxSim: late interaction between the tokens of a query and those of each hit."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import cache_folder
from limbeck.errors import Problem, UsageError
from limbeck.fingerprint import digest
from limbeck.pipeline import Given
from limbeck.retrieval.codes import quantise, width_of
from limbeck.retrieval.encoders.arithmetic import Arithmetic
from limbeck.retrieval.encoders.conventions import MINILM
from limbeck.retrieval.encoders.folders import examine_model
from limbeck.retrieval.encoders.token_opening import open_token_encoder, require_token_encoder
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenSettings
from limbeck.retrieval.interaction import CodedTokens, FloatTokens, Tokens
from limbeck.retrieval.scorer import Scorer
from limbeck.retrieval.store import Store, remembered
from limbeck.types import Document, Query, Run

__all__ = ["MaxSim", "Precision"]

Precision = Literal["float32", "float16", "int8", "int4", "int2", "int1"]


@dataclass(frozen=True)
class MaxSim(Scorer):
    """The hits of a run by late interaction: each token of the query with its nearest token.

    The score is the sum over the query's tokens of the largest cosine with a token of the document.
    The query's own text is compared, not its expansions. Token vectors of documents are kept in the
    cache by content, so that each document is encoded once. A blank query has the score 0 with all.

    Paper: Khattab and Zaharia, "ColBERT", SIGIR 2020, equation 3. We differ: any encoder's token
    states can be compared, not only those trained for it.

    Attributes:
        encoder: "minilm" (the token states of all-MiniLM-L6-v2, without torch), a folder, or a name
            on the Hugging Face hub: a ColBERT checkpoint, a PyLate or MultiVectorEncoder folder, or
            any transformer (extra `torch`).
        precision: how the vectors of documents are kept: float32, float16, or integers of 8, 4, 2
            or 1 bits a dimension.
        query_tokens: queries are cut to so many tokens (a ColBERT fills them up with [MASK]); None:
            the model's own length.
        document_tokens: documents are cut to so many tokens; None: the model's own length.
        arithmetic: "fp32", or "bf16", which is faster and rounds, for a model in torch.
        depth: hits read of each query.
        opened: the encoder, its files found; set by `bind`.
    """

    name: ClassVar[str] = "maxsim"

    encoder: str = MINILM
    precision: Precision = "float16"
    query_tokens: int | None = None
    document_tokens: int | None = None
    arithmetic: Arithmetic = "fp32"
    opened: TokenEncoder | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "encoder", os.fspath(self.encoder))
        if self.precision not in get_args(Precision):
            allowed = ", ".join(get_args(Precision))
            raise UsageError(f"precision must be one of {allowed}; got {self.precision!r}")
        self._settings  # noqa: B018 - a wrong parameter is refused here

    @property
    def kind(self) -> str:
        """The kind "maxsim"."""
        return "maxsim"

    @property
    def _settings(self) -> TokenSettings:
        return TokenSettings(self.encoder, self.query_tokens, self.document_tokens, self.arithmetic)

    @property
    def origin(self) -> str:
        """Digest of parameters and of the encoder's content."""
        return (self if self.opened else self.bind(None)).fingerprint

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine the encoder too, by the files that lie here; nothing is loaded or fetched."""
        examine_model(lambda: require_token_encoder(self._settings), place, problems)
        return super().examine(given, place, problems)

    def bind(self, corpus: Any) -> Self:  # noqa: ARG002 - a node's form
        """Return this node with its encoder's files found; the model is loaded when it encodes.

        Raises:
            ArtifactError: no such model can be had.
            MissingExtraError: the model needs the extra `torch`.
        """
        return dataclasses.replace(self, opened=open_token_encoder(self._settings))

    def content(self) -> object:
        """Return the digest of the encoder, once it is found: a check must not fetch one."""
        return None if self.opened is None else self.opened.fingerprint

    @cached_property
    def _encoder(self) -> TokenEncoder:
        """The encoder, found once: to find it, all of its weights are read."""
        return self.opened or open_token_encoder(self._settings)

    def scores(self, queries: Sequence[Query], run: Run) -> NDArray[np.float32]:
        """Return the MaxSim of each hit with its query.

        Raises:
            DataError: the encoder made a vector that is not finite.
        """
        made = np.zeros(len(run.rows), dtype=np.float32)
        asked = [i for i, query in enumerate(queries) if query.text.strip()]
        hits = [run.segment(i) for i in asked]
        rows = np.unique(np.concatenate([run.rows[:0], *(run.rows[where] for where in hits)]))
        if not len(rows):
            return made
        found = remembered(
            self._store, run.corpus, rows.tolist(), self._encoded, label="encoding tokens"
        )
        tokens = self._tokens(found.rows)
        made_of = self._encoder.encode_queries([queries[i].text for i in asked])
        vectors = made_of.finite([f"query {queries[i].query_id!r}" for i in asked])
        for position, where in enumerate(hits):
            at = np.searchsorted(rows, run.rows[where])
            query = vectors.of_text(position)
            made[where] = tokens.scores(query, found.starts[at], found.ends[at])
        return made

    @property
    def _bits(self) -> int | None:
        """Bits of a code; None where vectors are kept as numbers."""
        return int(self.precision[3:]) if self.precision.startswith("int") else None

    @cached_property
    def _store(self) -> Store:
        encoder, bits = self._encoder, self._bits
        folder = cache_folder("tokens", digest(encoder.document_fingerprint, self.precision))
        if bits is None:
            number = "<f4" if self.precision == "float32" else "<f2"
            return Store(folder, np.dtype((number, (encoder.dim,))))
        return Store(folder, np.dtype(("<u4", (width_of(encoder.dim, bits),))))

    def _encoded(self, documents: Sequence[Document]) -> tuple[list[int], NDArray[Any]]:
        """Return the number of tokens of each document, and the tokens of all as they are kept."""
        bits = self._bits
        made = self._encoder.encode_documents(documents)
        bounds, vectors = made.finite([f"document {d.doc_id!r}" for d in documents])
        kept = vectors if bits is None else quantise(vectors, bits, unit=True)
        return np.diff(bounds).tolist(), kept

    def _tokens(self, rows: NDArray[Any]) -> Tokens:
        bits = self._bits
        return FloatTokens(rows) if bits is None else CodedTokens(rows, bits)
