"""What flows between nodes: documents, queries with their expansions, runs, and qrels.

Objects at the edges, arrays in the middle. A run holds rows (positions in its corpus) and scores in
three flat arrays; document ids and texts are looked up only where a person or a file needs them.

The tie rule, everywhere: score descending, then doc_id descending by code point, which is what
trec_eval does. A corpus keeps its rows in that order of doc_id, so that "lower row first" is the
same rule and no kernel ever compares strings.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, UsageError
from limbeck.fingerprint import digest, fingerprint

__all__ = [
    "UNIT_KINDS",
    "Document",
    "Documents",
    "Expansion",
    "Hit",
    "Input",
    "Message",
    "Qrels",
    "Query",
    "Run",
    "as_queries",
    "require_several",
]

UNIT_KINDS = frozenset({"probability", "normalised"})
"""Score kinds that lie in [0, 1] for every query, so that they may be added as they are."""


def require_several(given: object, name: str) -> None:
    """Raise UsageError for one thing where several are taken.

    A string would be read as its characters, and a mapping as its keys.
    """
    one = isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable)
    if one:
        came = reprlib.repr(given)
        raise UsageError(f"{name} must be a list, one alone too; got {came}; write [{came}]")


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus."""

    doc_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def contents(self) -> str:
        """Title and text in one string, as term-based and vector-based retrievers index them."""
        return self.joined(" ")

    def joined(self, separator: str) -> str:
        """Return title and text in one string with something between them."""
        return f"{self.title}{separator}{self.text}".strip() if self.title else self.text


class Message(NamedTuple):
    """One message of a prompt."""

    role: str
    content: str


class Documents(Protocol):
    """What a run needs of the corpus that its rows point into."""

    @property
    def fingerprint(self) -> str:
        """Digest of all ids and contents."""
        ...

    @property
    def doc_ids(self) -> Sequence[str]:
        """The id of each row, in the order of the tie rule."""
        ...

    def __len__(self) -> int: ...

    def document(self, row: int) -> Document:
        """Return the document at a row."""
        ...

    def row(self, doc_id: str) -> int | None:
        """Return the row of a document, None where the corpus does not hold it."""
        ...

    def digest(self, row: int) -> str:
        """Return the digest, 32 hexadecimal digits, of what the document at a row holds."""
        ...


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one rewriter adds to a query, and what it leaves of the query's own weight.

    Attributes:
        texts: generated or recorded texts.
        term_weight: how often the query's own terms count beside the texts, each of which counts
            once (query2doc 5, LameR the number of answers). 0 searches the texts alone.
        vector_weight: share of the query's own vector in [0, 1]; the mean of the vectors of the
            texts has the rest (HyDE 1/(N+1), LameR 1/2).
        joined: vector-based retrievers encode "query [SEP] text" as one input per text, instead of
            averaging vectors (query2doc).
        terms: already analysed terms with weights, from a term-based feedback model; they stand
            beside the query's own terms at `term_weight`.
        vector: a vector to search with, from a vector-based feedback model, shape (dim,). It stands
            for the whole expansion: it holds what it needs of the query, so that `vector_weight`
            does not apply, and `texts` are left to term-based retrievers.
    """

    texts: tuple[str, ...] = ()
    term_weight: float = 1.0
    vector_weight: float = 0.5
    joined: bool = False
    terms: tuple[tuple[str, float], ...] = ()
    vector: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_several(self.texts, "texts of an expansion")
        if not 0.0 <= self.vector_weight <= 1.0:
            raise DataError(
                f"vector_weight must lie in [0, 1]; got {self.vector_weight}; "
                "it is the query's own share of the vector"
            )
        if not self.term_weight >= 0.0:
            raise DataError(f"term_weight must be 0 or more; got {self.term_weight}")


class Input(NamedTuple):
    """A text that a vector-based retriever encodes: its weight, and the encoder's side for it."""

    text: str
    weight: float
    side: Literal["query", "document"]


@dataclass(frozen=True, slots=True)
class Query:
    """A user's query. The text is never overwritten: rewriters append expansions.

    Attributes:
        excluded: ids of documents that must not be returned for this query, at no stage of a
            pipeline (ArguAna's queries are documents of its own corpus).
    """

    query_id: str
    text: str
    expansions: tuple[Expansion, ...] = ()
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_several(self.excluded, "excluded of a query")

    def expanded(self, expansion: Expansion) -> Query:
        """Return this query with one more expansion."""
        return Query(self.query_id, self.text, (*self.expansions, expansion), self.excluded)

    def weighted_texts(self) -> list[tuple[str, float]]:
        """Return the texts a term-based retriever analyses, each with the weight of its terms.

        Several expansions stand beside each other, as if their strings were joined.
        """
        of_terms = [e for e in self.expansions if e.texts or e.terms]
        if not of_terms:
            return [(self.text, 1.0)]
        own = sum(e.term_weight for e in of_terms)
        texts = [(text, 1.0) for e in of_terms for text in e.texts]
        return [(self.text, own), *texts] if own else texts

    def weighted_terms(self) -> list[tuple[str, float]]:
        """Return the analysed terms that feedback models added, with their weights."""
        return [term for e in self.expansions for term in e.terms]

    def weighted_inputs(self, separator: str = "[SEP]") -> list[Input]:
        """Return the texts a vector-based retriever encodes, each with its weight and its side.

        The query's vector is the weighted mean of theirs and of `weighted_vectors`; all weights sum
        to 1. Expansions with texts or a vector have equal shares; those of terms alone have none.
        An expansion's texts are hypothetical documents, so they are encoded as documents are; the
        query's own text, alone or joined to a text, as queries are.
        """
        of_vectors = self._of_vectors()
        if not of_vectors:
            return [Input(self.text, 1.0, "query")]
        share = 1.0 / len(of_vectors)
        inputs: list[Input] = []
        own = 0.0
        for e in of_vectors:
            if e.vector:
                continue
            own += 0.0 if e.joined else share * e.vector_weight
            each = share * (1.0 if e.joined else 1.0 - e.vector_weight) / len(e.texts)
            if e.joined:
                joined = (f"{self.text} {separator} {text}" for text in e.texts)
                inputs.extend(Input(text, each, "query") for text in joined)
            elif each:
                inputs.extend(Input(text, each, "document") for text in e.texts)
        return [Input(self.text, own, "query"), *inputs] if own else inputs

    def weighted_vectors(self) -> list[tuple[tuple[float, ...], float]]:
        """Return the vectors of feedback models, each with the whole share of its expansion."""
        of_vectors = self._of_vectors()
        return [(e.vector, 1.0 / len(of_vectors)) for e in of_vectors if e.vector]

    def _of_vectors(self) -> list[Expansion]:
        return [e for e in self.expansions if e.texts or e.vector]


def as_queries(queries: str | Query | Iterable[str | Query]) -> tuple[Query, ...]:
    """Return queries from strings or queries; strings get the ids "1", "2", ...

    Raises:
        DataError: two queries have one id.
    """
    given = [queries] if isinstance(queries, (str, Query)) else list(queries)
    made = tuple(
        query if isinstance(query, Query) else Query(str(number), query)
        for number, query in enumerate(given, start=1)
    )
    if len({query.query_id for query in made}) != len(made):
        seen: set[str] = set()
        twice = next(q.query_id for q in made if q.query_id in seen or seen.add(q.query_id))  # type: ignore[func-returns-value]
        raise DataError(f"query ids must be unique in a batch; got {twice!r} twice; rename one")
    return made


class Hit(NamedTuple):
    """One document of a ranking, at the edge."""

    doc_id: str
    score: float


@dataclass(frozen=True, eq=False)
class Run:
    """Rankings of a batch of queries: flat arrays, best first, ties by the tie rule.

    Attributes:
        query_ids: one id a query, in the order of the batch.
        bounds: int64, shape (n_queries + 1,); the hits of query i are bounds[i]:bounds[i + 1].
        rows: int32, shape (n_hits,); positions in the corpus.
        scores: float32, shape (n_hits,).
        kind: score kind: bm25, dot, cosine, maxsim, logit, probability, rrf, normalised, ...
        corpus: the documents that the rows point into.
    """

    query_ids: tuple[str, ...]
    bounds: NDArray[np.int64]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    kind: str
    corpus: Documents

    def __post_init__(self) -> None:
        if self.bounds.shape != (len(self.query_ids) + 1,) or self.rows.shape != self.scores.shape:
            raise DataError(
                "a run must have n_queries + 1 bounds and one score a row; got "
                f"{len(self.query_ids)} queries, bounds {self.bounds.shape}, "
                f"rows {self.rows.shape}, scores {self.scores.shape}"
            )

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.query_ids)

    @staticmethod
    def ranked(
        query_ids: Sequence[str],
        bounds: NDArray[np.int64],
        rows: NDArray[np.int32],
        scores: NDArray[np.float32],
        *,
        kind: str,
        corpus: Documents,
    ) -> Run:
        """Return a run from hits in any order: each query's hits are sorted by the tie rule.

        Raises:
            DataError: a score is NaN.
        """
        scores = np.asarray(scores, dtype=np.float32)
        if np.isnan(scores).any():
            raise DataError("scores must be numbers; got NaN; look at the model that made them")
        rows = np.asarray(rows, dtype=np.int32)
        bounds = np.asarray(bounds, dtype=np.int64)
        segment = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        order = np.lexsort((rows, -scores, segment))
        return Run(tuple(query_ids), bounds, rows[order], scores[order], kind, corpus)

    @staticmethod
    def from_hits(
        hits: Mapping[str, Iterable[tuple[str, float]]], *, kind: str, corpus: Documents
    ) -> Run:
        """Return a run from doc_ids and scores by query_id, in any order.

        Raises:
            DataError: a document is not in the corpus, or stands twice in one ranking.
        """
        rows: list[int] = []
        scores: list[float] = []
        bounds = [0]
        for query_id, ranking in hits.items():
            for doc_id, score in ranking:
                row = corpus.row(doc_id)
                if row is None:
                    raise DataError(
                        f"hits must be documents of the corpus; query {query_id!r} has {doc_id!r}; "
                        "load the corpus that the run was made with"
                    )
                rows.append(row)
                scores.append(score)
            if len(set(rows[bounds[-1] :])) != len(rows) - bounds[-1]:
                raise DataError(f"a document may be ranked once; query {query_id!r} has one twice")
            bounds.append(len(rows))
        return Run.ranked(
            tuple(hits),
            np.array(bounds, dtype=np.int64),
            np.array(rows, dtype=np.int32),
            np.array(scores, dtype=np.float32),
            kind=kind,
            corpus=corpus,
        )

    def segment(self, position: int) -> slice:
        """Return where the hits of the query at a position of the batch lie."""
        return slice(int(self.bounds[position]), int(self.bounds[position + 1]))

    def hits(self, query: int | str) -> list[Hit]:
        """Return the ranking of a query, by its position or its id, with document ids.

        Raises:
            DataError: the run holds no such query.
        """
        position = self._position(query)
        where = self.segment(position)
        doc_ids = self.corpus.doc_ids
        pairs = zip(self.rows[where].tolist(), self.scores[where].tolist(), strict=True)
        return [Hit(doc_ids[row], score) for row, score in pairs]

    def _position(self, query: int | str) -> int:
        try:
            if isinstance(query, str):
                return self.query_ids.index(query)
            return range(len(self))[query]
        except (IndexError, ValueError):
            raise DataError(self._lacks(query)) from None

    def _lacks(self, query: int | str) -> str:
        """Return what to say of a query that the run does not hold."""
        if not self.query_ids:
            return f"a run must hold queries to be asked for {query!r}; this one holds none"
        if isinstance(query, str):
            return (
                f"a query must be named by its id; got {query!r}; this run holds "
                f"{reprlib.repr(list(self.query_ids))}; give one of them, or a position as a number"
            )
        return (
            f"the position of a query must be from 0 to {len(self) - 1} in a run of {len(self)}; "
            f"got {query}; positions count from 0, and ids are strings"
        )

    def items(self) -> Iterator[tuple[str, list[Hit]]]:
        """Yield each query id with its ranking."""
        for position, query_id in enumerate(self.query_ids):
            yield query_id, self.hits(position)

    def select(self, kept: NDArray[np.bool_]) -> Run:
        """Return the run with only the hits at which the mask, shape (n_hits,), is true."""
        running = np.concatenate(([0], np.cumsum(kept)))
        return Run(
            self.query_ids,
            running[self.bounds].astype(np.int64),
            self.rows[kept],
            self.scores[kept],
            self.kind,
            self.corpus,
        )

    def without_excluded(self, queries: Sequence[Query]) -> Run:
        """Return the run without the documents that its queries, in their order, exclude."""
        kept = np.ones(len(self.rows), dtype=bool)
        for position, query in enumerate(queries):
            rows = [row for row in map(self.corpus.row, query.excluded) if row is not None]
            if rows:
                where = self.segment(position)
                kept[where] = ~np.isin(self.rows[where], rows)
        return self if kept.all() else self.select(kept)

    def digest(self) -> str:
        """Return the digest of all that the run holds."""
        arrays = (self.bounds.tobytes(), self.rows.tobytes(), self.scores.tobytes())
        return digest(*arrays, self.kind, self.corpus.fingerprint, *self.query_ids)

    def top(self, k: int) -> Run:
        """Return the run cut to the first k hits of each query."""
        if not len(self.rows) or int(np.diff(self.bounds).max()) <= k:
            return self
        rank = np.arange(len(self.rows)) - np.repeat(self.bounds[:-1], np.diff(self.bounds))
        return self.select(rank < k)


@dataclass(frozen=True)
class Qrels:
    """Human relevance judgements: query_id to doc_id to grade."""

    judgements: Mapping[str, Mapping[str, int]]

    def __len__(self) -> int:
        """Return the number of judged queries."""
        return len(self.judgements)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all judgements."""
        return fingerprint(self.judgements)

    def restricted(self, query_ids: Iterable[str]) -> Qrels:
        """Return the judgements of some queries."""
        return Qrels({q: self.judgements[q] for q in query_ids if q in self.judgements})
