"""Cross-encoders: hits scored by a model that reads query and document together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import Problem
from limbeck.pipeline import Given
from limbeck.retrieval.encoders.arithmetic import Arithmetic
from limbeck.retrieval.encoders.folders import examine_model
from limbeck.retrieval.encoders.pair_models import open_pair_model, require_pair_model
from limbeck.retrieval.encoders.pairs import Pair, PairModel, PairSettings
from limbeck.retrieval.scorer import Scorer
from limbeck.types import Query, Run

__all__ = ["CrossEncoder"]


@dataclass(frozen=True)
class CrossEncoder(Scorer):
    """The hits of a run by a model that reads query and document together.

    The score is the model's raw logit, whatever activation it states. The query's own text is read,
    not its expansions. Equal pairs of texts are scored once. A pair that is too long loses the end
    of its document; a query that alone leaves no room is cut too.

    Paper: Nogueira and Cho, "Passage Re-ranking with BERT", 2019. We differ: there a second label
    gave a probability; models of one label are what is trained since.

    Attributes:
        model: a folder, or a name on the Hugging Face hub, of a sentence-transformers CrossEncoder
            or another sequence classifier (extra `torch`); or a folder with model.onnx and
            tokenizer.json, which needs no torch and gives the same bits in every batch.
        label: the label whose logit is the score; needed where the model has several.
        max_tokens: pairs are cut to so many tokens; None: the model's own length.
        title: whether a document's title stands before its text.
        arithmetic: "fp32", or "bf16", which is faster and rounds, for a model in torch.
        depth: hits read of each query.
        opened: the model's files, found; set by `bind`.
    """

    name: ClassVar[str] = "cross-encoder"

    model: str
    label: int | None = None
    max_tokens: int | None = None
    title: bool = True
    arithmetic: Arithmetic = "fp32"
    opened: PairModel | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", os.fspath(self.model))
        self._settings  # noqa: B018 - a wrong parameter is refused here

    @property
    def kind(self) -> str:
        """The kind "logit"."""
        return "logit"

    @property
    def origin(self) -> str:
        """Digest of parameters and of the model's content."""
        return (self if self.opened else self.bind(None)).fingerprint

    @property
    def _settings(self) -> PairSettings:
        return PairSettings(self.model, self.label, self.max_tokens, self.arithmetic)

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine the model too, by the files that lie here; nothing is loaded or fetched."""
        examine_model(lambda: require_pair_model(self._settings), place, problems)
        return super().examine(given, place, problems)

    def bind(self, corpus: Any) -> Self:  # noqa: ARG002 - a node's form
        """Return this node with its model's files found; the model is loaded when it first scores.

        Raises:
            ArtifactError: no such model can be had, or it is no cross-encoder.
            MissingExtraError: the model needs the extra `torch`.
            UsageError: `max_tokens` is more than the model has.
        """
        return dataclasses.replace(self, opened=open_pair_model(self._settings))

    def content(self) -> object:
        """Return the digest of the model, once it is found: a check must not fetch one."""
        return None if self.opened is None else self.opened.fingerprint

    @cached_property
    def _model(self) -> PairModel:
        """The model, found once: to find it, all of its weights are read, or the hub is asked."""
        return self.opened or open_pair_model(self._settings)

    def scores(self, queries: Sequence[Query], run: Run) -> NDArray[np.float32]:
        """Return the logit of each hit with its query, shape (n_hits,)."""
        texts = {int(row): self._text(run, int(row)) for row in np.unique(run.rows)}
        pairs = [
            Pair(query.text, texts[row])
            for position, query in enumerate(queries)
            for row in run.rows[run.segment(position)].tolist()
        ]
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        distinct = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        logits = self._model.logits(list(distinct))
        return logits[[distinct[pair] for pair in pairs]]

    def _text(self, run: Run, row: int) -> str:
        document = run.corpus.document(row)
        return document.contents if self.title else document.text
