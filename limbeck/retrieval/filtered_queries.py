"""doc2query--: the queries of documents that a scorer holds to be answered by them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import cache_folder, locked
from limbeck.corpus import Corpus
from limbeck.errors import DataError, Problem, UsageError
from limbeck.fingerprint import digest, fingerprint
from limbeck.meter import Usage
from limbeck.pipeline import Given
from limbeck.progress import track
from limbeck.retrieval.expansion import Expander, Written
from limbeck.retrieval.scorer import Scorer
from limbeck.retrieval.store import Store
from limbeck.types import Query, Run

__all__ = ["FilteredQueries"]

_CHUNK = 64
"""Documents scored between two writes: what a kill can lose at most."""


@dataclass(frozen=True)
class FilteredQueries(Expander):
    """The best queries of another expander, by the score that a reranker gives to each.

    The threshold is one score for the whole corpus, so that some documents keep all their queries
    and others none. Equal pairs of text and query are scored once; scores are kept in the cache,
    and what a kill loses is a few documents.

    Paper: Gospodinov, MacAvaney, Macdonald, "Doc2Query--: When Less is More", ECIR 2023, who keep
    the 30 % with the best scores of a cross-encoder. Queries at the threshold itself are kept.

    Attributes:
        of: the expander whose queries are filtered.
        by: a reranker that scores each pair by itself, such as a cross-encoder.
        keep: the share of all queries that is kept, in (0, 1].
    """

    name: ClassVar[str] = "doc2query--"

    of: Expander
    by: Scorer
    keep: float = field(default=0.3, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.of, Expander) or not isinstance(self.by, Scorer):
            raise UsageError(
                f"{self.name} must have an expander as `of` and a reranker that scores each hit by "
                f"itself as `by`; got {type(self.of).__name__} and {type(self.by).__name__}"
            )
        if not 0.0 < self.keep <= 1.0:
            raise UsageError(f"keep of {self.name} must lie in (0, 1]; got {self.keep}")

    @property
    def origin(self) -> str:
        """Digest of what shapes the queries, of the models of both nodes too."""
        parts = [self.name, self.version, self.keep, self.of.origin, self.by.origin]
        return fingerprint(parts)

    @property
    def most(self) -> int | None:
        """As many as the expander writes."""
        return self.of.most

    def examine_inside(self, place: str, problems: list[Problem]) -> None:
        """Examine the expander and the scorer."""
        self.of.examine_inside(f"{place}.of", problems)
        self.by.examine(Given("bm25"), f"{place}.by", problems)

    def estimate_building(self, n_docs: int) -> Usage:
        """Return what the expander takes, and the scorer where it asks an LLM."""
        n_pairs = n_docs * (self.of.most or 0)
        scorer = dataclasses.replace(self.by, depth=1)
        return self.of.estimate_building(n_docs) + scorer.estimate(n_pairs)

    def write(self, corpus: Corpus) -> list[Written]:
        """Return the kept queries of each document with their scores, by row.

        Raises:
            DataError: the scorer gives one score to all.
        """
        written = self.of.write(corpus)
        if not any(each.texts for each in written):
            return list(written)
        scored = self._scored(corpus, written)
        every = np.concatenate(scored)
        self._require_spread(every, corpus, written)
        n_kept = math.ceil(self.keep * len(every))
        threshold = np.sort(every)[len(every) - n_kept]
        return [
            _above(each, scores, threshold) for each, scores in zip(written, scored, strict=True)
        ]

    def _require_spread(
        self, scores: NDArray[np.float32], corpus: Corpus, written: Sequence[Written]
    ) -> None:
        if scores.min() != scores.max():
            return
        n_pairs = len({(corpus.digest(r), t) for r, each in enumerate(written) for t in each.texts})
        if n_pairs > 1:
            raise DataError(
                f"{self.by.name} must tell queries apart to filter them; it gives {scores[0]:g} to "
                f"all {n_pairs:,} pairs of query and document; take another reranker"
            )

    def _scored(self, corpus: Corpus, written: Sequence[Written]) -> list[NDArray[np.float32]]:
        """Return the score of each query of each document, by row."""
        keys = [
            bytes.fromhex(digest(corpus.digest(row), *each.texts))
            for row, each in enumerate(written)
        ]
        store = Store(cache_folder("query-scores", self.by.origin), np.dtype("<f4"))
        with locked(store.folder):
            store.refresh()
            missing = store.missing(keys)
            rows = sorted({key: row for row, key in enumerate(keys) if key in missing}.values())
            chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
            for chunk in track(chunks, label=f"{self.name}: scores", total=len(chunks)):
                counts = [len(written[row].texts) for row in chunk]
                scores = self._scores(corpus, {row: written[row].texts for row in chunk})
                store.append([keys[row] for row in chunk], counts, scores)
        found = store.records(keys)
        return [
            np.array(found.rows[start:end])
            for start, end in zip(found.starts.tolist(), found.ends.tolist(), strict=True)
        ]

    def _scores(self, corpus: Corpus, texts: Mapping[int, Sequence[str]]) -> NDArray[np.float32]:
        """Return the score of each query with its own document, for some rows."""
        pairs = [(row, text) for row, of_row in texts.items() for text in of_row]
        numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        queries = [Query(str(number), text) for (_, text), number in numbers.items()]
        run = Run(
            tuple(query.query_id for query in queries),
            np.arange(len(queries) + 1),
            np.array([row for row, _ in numbers], dtype=np.int32),
            np.zeros(len(queries), dtype=np.float32),
            "given",
            corpus,
        )
        scores = self.by.scores(queries, run) if queries else np.zeros(0, dtype=np.float32)
        if not np.isfinite(scores).all():
            raise DataError(
                f"the scores of {self.by.name} must be finite; one of {len(queries)} is not; "
                "look at its model"
            )
        return np.array([scores[numbers[pair]] for pair in pairs], dtype=np.float32)


def _above(written: Written, scores: NDArray[np.float32], threshold: float) -> Written:
    pairs = zip(written.texts, scores.tolist(), strict=True)
    kept = [(text, score) for text, score in pairs if score >= threshold]
    return Written(tuple(text for text, _ in kept), tuple(score for _, score in kept))
