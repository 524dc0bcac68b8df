"""BM25: exact term-based retrieval over an inverted index of precomputed term values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import Artifact
from limbeck.corpus import Corpus
from limbeck.errors import Problem, UsageError
from limbeck.fingerprint import fingerprint_callable
from limbeck.pipeline import Given
from limbeck.progress import track
from limbeck.retrieval.analysis import Analyse, Analyzer
from limbeck.retrieval.expansion import (
    Expander,
    Expansions,
    StoredExpander,
    Written,
    lines_of,
)
from limbeck.retrieval.formulas import DELTAS, FORMULAS, Formula, Occurrences
from limbeck.retrieval.indexed import Built, IndexNode
from limbeck.retrieval.postings import Bags, Postings
from limbeck.types import Query, Run

__all__ = ["BM25", "BM25Index"]

Engine = Literal["limbeck", "rank-bm25"]
Lengths = Literal["expanded", "original"]


class BM25Index(NamedTuple):
    """What lies on disk: term values by term, to search; term counts by document, for feedback.

    Where documents were expanded, both hold the terms of the queries too, and they lie beside.
    """

    postings: Postings
    bags: Bags
    expansions: Expansions | None = None


@dataclass(frozen=True)
class BM25(IndexNode[BM25Index]):
    """Queries to the documents whose terms they share, by BM25.

    A query's weight of a term is the sum over its texts of text weight x count; it multiplies what
    the term adds to a score, as in Lucene: there is no saturation of the query (k3), and a term
    that stands twice counts twice. Only documents that hold a term of the query are hits, those
    with a score of 0 or less included.

    Attributes:
        k1: how slowly repeated terms saturate, 0 or more.
        b: how much long documents are held back, in [0, 1].
        formula: lucene, lucene-accurate, robertson, atire, bm25l or bm25+; lucene has the rounded
            document lengths of Lucene's index, the others exact ones: see
            `limbeck.retrieval.formulas`.
        delta: the constant of bm25l (.5 by default) and bm25+ (1 by default).
        language: how texts become terms; see `Analyzer`.
        stopwords: words left out; None: the language's own.
        stem: whether words are stemmed.
        analyzer: a function from a text to the list of its terms, in place of the three above.
        engine: "limbeck", or "rank-bm25" to score with the package of that name (extra
            `rank-bm25`): slow, as a reference. Its robertson sets negative idf to a floor, its
            bm25l multiplies by the count once more than the paper, and its bm25+ adds a constant
            for each query term that a document misses.
        expansion: writes queries for each document when the index is built; their terms count as
            the document's own do. An index that is built does not need it again.
        lengths: whether the length of a document, which `b` holds back, counts the terms of its
            queries: "expanded" (as where they are appended to the text) or "original".
    """

    name: ClassVar[str] = "bm25"
    version: ClassVar[int] = 1

    k1: float = 0.9
    b: float = 0.4
    formula: Formula = "lucene"
    delta: float | None = None
    language: str = "english"
    stopwords: tuple[str, ...] | None = None
    stem: bool = True
    analyzer: Analyse | None = None
    engine: Engine = "limbeck"
    expansion: Expander | None = None
    lengths: Lengths = "expanded"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_formula()
        self._check_analysis()
        if self.engine not in {"limbeck", "rank-bm25"}:
            raise UsageError(f"engine must be limbeck or rank-bm25; got {self.engine!r}")
        self._check_expansion()

    def _check_expansion(self) -> None:
        if self.expansion is not None and not isinstance(self.expansion, Expander):
            raise UsageError(
                "expansion must be a node such as doc2query; got "
                f"{type(self.expansion).__name__}; a node of a pipeline stands beside the index"
            )
        if self.lengths not in get_args(Lengths):
            raise UsageError(f"lengths must be expanded or original; got {self.lengths!r}")
        if self.lengths == "original" and (self.expansion is None or self.engine != "limbeck"):
            raise UsageError(
                "lengths 'original' is for an index with an expansion, and the engine limbeck; got "
                f"expansion {self.expansion!r} and engine {self.engine!r}; leave it out"
            )

    def _check_analysis(self) -> None:
        if self.analyzer is None:
            own = Analyzer(self.language, self.stopwords, self.stem)
            object.__setattr__(self, "stopwords", own.stopwords)
            return
        if not callable(self.analyzer):
            raise UsageError(
                "analyzer must be a function from a text to a list of terms; got "
                f"{self.analyzer!r}; give the one that the index was built with"
            )
        if (self.language, self.stopwords, self.stem) != ("english", None, True):
            raise UsageError(
                "an analyzer takes the place of language, stopwords and stem; got both; "
                "leave those three out"
            )

    def _check_formula(self) -> None:
        if self.formula not in FORMULAS:
            raise UsageError(
                f"formula must be one of {', '.join(sorted(FORMULAS))}; got {self.formula!r}"
            )
        if not 0.0 <= self.k1 < float("inf") or not 0.0 <= self.b <= 1.0:
            raise UsageError(
                f"k1 must be 0 or more and b in [0, 1]; got k1={self.k1} and b={self.b}"
            )
        if self.delta is None:
            return
        if self.formula not in DELTAS or not 0.0 <= self.delta < float("inf"):
            raise UsageError(
                f"delta must be 0 or more and belongs to {' and '.join(sorted(DELTAS))}; "
                f"got {self.delta} with {self.formula}; leave it out"
            )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        corpus: Corpus | None = None,
        k: int = 1000,
        analyzer: Analyse | None = None,
    ) -> Self:
        """Return the node of an index on disk, with the parameters that it was built with.

        Args:
            path: where the index lies.
            corpus: its documents. None: ids come from the index, and texts from where the corpus
                lay when the index was built.
            k: hits returned for each query.
            analyzer: the function that it was built with, where that was one of your own.

        Raises:
            ArtifactError: no whole index is there, or it is of another corpus or analyzer.
        """
        given = {} if analyzer is None else {"analyzer": analyzer}
        return cls.loaded(Path(path), corpus, k, **given)

    @classmethod
    def loaded(cls, path: Path, corpus: Corpus | None, k: int, **given: Any) -> Self:
        """Return the node that an index was built by; what wrote its queries need not be there."""
        stored = cls._artifact(path).parameters
        described = stored["node"].get("expansion")
        if described is not None:
            origin = stored["shaping"]["expansion"]
            given["expansion"] = StoredExpander(described["name"], described["fingerprint"], origin)
        return super().loaded(path, corpus, k, **given)

    def bind(self, corpus: Corpus) -> Self:
        """Return this node with its index open, built with the queries of its expansion."""
        if self.opened is not None or self.expansion is None:
            return super().bind(corpus)
        bound = self.expansion.bind(corpus if self.corpus is None else self.corpus)
        return IndexNode.bind(dataclasses.replace(self, expansion=bound), corpus)

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Return kind and corpus; the expansion is examined where an index is to be built."""
        built = self.opened is not None or (self.path is not None and self.path.exists())
        if self.expansion is not None and not built:
            self.expansion.examine_inside(f"{place}.expansion", problems)
        return super().examine(given, place, problems)

    @property
    def kind(self) -> str:
        """bm25."""
        return "bm25"

    @cached_property
    def analyse(self) -> Analyse:
        """The function from a text to its terms."""
        return self.analyzer or Analyzer(self.language, self.stopwords, self.stem)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as JSON data; an analyzer of the user's own by its fingerprint."""
        own = None if self.analyzer is None else fingerprint_callable(self.analyzer)
        parameters = {**super().parameters(), "analyzer": own}
        if self.expansion is None:  # its fingerprint is what it was before there were expansions
            del parameters["expansion"], parameters["lengths"]
            return parameters
        return {**parameters, "expansion": self.expansion.described()}

    def shaping(self) -> dict[str, Any]:
        """Return what shapes the index: all but the engine, defaults resolved."""
        shaping = {
            **self.parameters(),
            "delta": self._delta,
            "analysis": fingerprint_callable(self.analyse),
        }
        del shaping["engine"]
        if self.expansion is not None:
            shaping["expansion"] = self.expansion.origin
        return shaping

    @property
    def _delta(self) -> float:
        return DELTAS.get(self.formula, 0.0) if self.delta is None else self.delta

    def build(self, corpus: Corpus) -> Built:
        """Return the postings with their values, the bags of terms, and what was written."""
        written = None if self.expansion is None else self.expansion.write(corpus)
        own_lengths: list[int] = []
        bags = Bags.of(self._terms(corpus, written, own_lengths))
        lengths = bags.lengths()
        if self.lengths == "original":  # a document of queries alone is as long as one term
            lengths = np.clip(own_lengths, np.minimum(lengths, 1), None)
        values = self._values(bags, lengths)
        postings = Postings.invert(bags.vocabulary, bags.bounds, bags.terms, values)
        lines = {} if written is None else lines_of(corpus, written)
        return Built(arrays={**postings.arrays(), **bags.arrays()}, lines=lines)

    def _terms(
        self, corpus: Corpus, written: Sequence[Written] | None, own_lengths: list[int]
    ) -> Iterator[list[str]]:
        """Yield the terms of each document, its queries' behind its own; note how many are own."""
        documents = track(corpus.documents(), label=f"{self.name}: index", total=len(corpus))
        for row, document in enumerate(documents):
            terms = self.analyse(document.contents)
            own_lengths.append(len(terms))
            texts = () if written is None else written[row].texts
            yield [*terms, *chain.from_iterable(map(self.analyse, texts))] if texts else terms

    def open(self, artifact: Artifact) -> BM25Index:
        """Return the index in an artifact, memory-mapped."""
        bags = Bags.load(artifact)
        expansions = None if self.expansion is None else Expansions(artifact)
        return BM25Index(Postings.load(artifact, n_docs=len(bags)), bags, expansions)

    def expansions(self) -> Expansions:
        """Return the queries that the documents of the open index were expanded by.

        Raises:
            UsageError: the node was not bound, or its documents were not expanded.
        """
        found = self.searchable()[0].expansions
        if found is None:
            raise UsageError(
                "an index must have been built with an expansion to have queries of documents; "
                "this one was not; build it as BM25.index(corpus, expansion=...)"
            )
        return found

    def _values(self, bags: Bags, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what each term of each document adds to its score at query weight 1.

        As in Lucene, documents without a term are not counted, so that they change no score.
        """
        n_docs = int(np.count_nonzero(np.diff(bags.bounds)))
        frequencies = np.bincount(bags.terms, minlength=len(bags.vocabulary))
        occurrences = Occurrences(
            counts=bags.counts.astype(np.float64),
            lengths=np.repeat(lengths, np.diff(bags.bounds)),
            frequencies=frequencies[bags.terms].astype(np.float64),
            n_docs=n_docs,
            average=int(lengths.sum()) / max(n_docs, 1),
        )
        values = FORMULAS[self.formula](occurrences, self.k1, self.b, self._delta)
        return values.astype(np.float32)

    def retrieve(self, queries: Sequence[Query], k: int) -> Run:
        """Return the k best documents of each query, exactly."""
        index, documents = self.searchable()
        weighted = self.query_terms(queries)
        if self.engine == "rank-bm25":
            hits = self._reference.top(weighted, k)
        else:
            hits = index.postings.top(weighted, k)
        query_ids = tuple(query.query_id for query in queries)
        return Run(query_ids, hits.bounds, hits.rows, hits.scores, self.kind, documents)

    @cached_property
    def _reference(self) -> Any:
        from limbeck.retrieval._rank_bm25 import Reference

        bags = self.searchable()[0].bags
        return Reference(bags, self.formula, k1=self.k1, b=self.b, delta=self._delta)

    def query_terms(self, queries: Sequence[Query]) -> list[dict[str, float]]:
        """Return the weight of each term of each query, known to the index or not.

        The weights of a term are added text by text, so the order of words changes no bit.
        """
        return [self._query_terms(query) for query in queries]

    def _query_terms(self, query: Query) -> dict[str, float]:
        weights: dict[str, float] = {}
        for text, weight in query.weighted_texts():
            for term in self.analyse(text):
                weights[term] = weights.get(term, 0.0) + weight
        for term, weight in query.weighted_terms() if query.expansions else ():
            weights[term] = weights.get(term, 0.0) + weight
        return weights

    def term_vectors(self, rows: Sequence[int] | NDArray[np.integer]) -> Bags:
        """Return the terms of documents with their counts, in the order given."""
        return self.searchable()[0].bags.take(rows)

    def document_shares(self, terms: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the share of all documents that hold each term, in [0, 1]."""
        index, documents = self.searchable()
        return index.postings.document_frequencies(terms) / len(documents)
