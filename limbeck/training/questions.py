"""Queries to teach with: of a split, of a log, or made from documents; and what answers each.

Of a log's nobody knows what answers them, until the teacher says so. A query that was made from a
document has that document as its positive. Made ones may be checked for consistency: only those
stay for which a pipeline finds their document again.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.corpus import Corpus
from limbeck.errors import DataError, Problem, UsageError
from limbeck.eval.datasets import Dataset, read_queries
from limbeck.files import resolved
from limbeck.meter import Usage
from limbeck.passages import sentences
from limbeck.pipeline import Given, Node
from limbeck.retrieval.expansion import Expander
from limbeck.training.examples import Examples
from limbeck.training.labels import FROM_SPLIT
from limbeck.types import Query, Run

__all__ = ["SOURCES", "Log", "Question", "Sentences", "Source", "Split", "Titles", "Written"]


class Question(NamedTuple):
    """A query to teach with.

    Attributes:
        query: what is asked.
        positives: int64 rows of the corpus that answer it; none where nobody knows any.
    """

    query: Query
    positives: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where queries come from.

    Attributes:
        name: in specs, and beside each label.
        costs: whether its queries are kept in the folder of the labels, for to make them again
            would cost, and give others.
        n: queries at most, drawn from all; None: all.
    """

    name: ClassVar[str]
    costs: ClassVar[bool] = False

    n: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise UsageError(f"n of {self.name} must be 1 or more; got {self.n}")

    def questions(self, folder: Path, corpus: Corpus, *, seed: int) -> list[Question]:
        """Return the queries with what answers them.

        Args:
            folder: the collection, in BEIR layout.
            corpus: its documents.
            seed: of all that is drawn.

        Raises:
            DataError: there is none.
        """
        rng = np.random.default_rng([seed, *self.name.encode()])
        found = list(self._questions(folder, corpus, rng))
        if self.n is not None and self.n < len(found):
            chosen = np.sort(rng.choice(len(found), self.n, replace=False))
            found = [found[place] for place in chosen]
        if not found:
            raise DataError(
                f"{self.name} must give queries to teach with; it gave none for {folder}; "
                "name another source, or weaken its check"
            )
        return found

    def numbered(self, question: Question, n_before: int) -> Question:  # noqa: ARG002 - few are
        """Return a question with an id that none of so many sources of this kind before gave it."""
        return question

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes among the parameters."""
        values = (getattr(self, f.name) for f in dataclasses.fields(self))
        return tuple(value for value in values if isinstance(value, Node))

    def with_nodes(self, change: Callable[[Node], Node]) -> Self:
        """Return this source with each node among its parameters changed."""
        changed: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            if isinstance(value := getattr(self, f.name), Node):
                changed[f.name] = change(value)
        return dataclasses.replace(self, **changed)

    def estimate(self, n_documents: int) -> Usage:  # noqa: ARG002 - few ask an LLM
        """Return an upper estimate of what the LLM calls for so many documents take."""
        return Usage()

    def examine(self, place: str, problems: list[Problem]) -> None:  # noqa: B027 - few do
        """Append what would keep this source from giving queries; load and spend nothing."""

    @abstractmethod
    def _questions(
        self, folder: Path, corpus: Corpus, rng: np.random.Generator
    ) -> Iterator[Question]: ...


@dataclass(frozen=True, kw_only=True)
class Split(Source):
    """The queries of a split that have a positive.

    Attributes:
        split: its name.
    """

    name: ClassVar[str] = FROM_SPLIT

    split: str = "train"

    def _questions(
        self,
        folder: Path,
        corpus: Corpus,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> Iterator[Question]:
        held = Examples.of(Dataset.load(folder, self.split, corpus=corpus))
        yield from map(Question, held.queries, held.positives)


@dataclass(frozen=True, kw_only=True)
class Log(Source):
    """Queries of a file, of which nobody knows what answers them.

    Attributes:
        path: a JSONL file with `_id` and `text` in each line, as BEIR's queries.jsonl.
    """

    name: ClassVar[str] = "log"

    path: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "path", resolved(self.path))

    def examine(self, place: str, problems: list[Problem]) -> None:
        """Examine whether the file is there."""
        if not self.path.is_file():
            message = f"{self.name} reads {self.path}, which is no file"
            problems.append(Problem(place, message, "give its path"))

    def _questions(
        self,
        folder: Path,  # noqa: ARG002 - a log is of no collection
        corpus: Corpus,  # noqa: ARG002 - it was written before
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> Iterator[Question]:
        unknown = np.zeros(0, dtype=np.int64)
        asked = (query for query in read_queries(self.path) if query.text.strip())
        return (Question(query, unknown) for query in asked)


@dataclass(frozen=True, kw_only=True)
class _Made(Source):
    """Queries made from documents.

    Attributes:
        found_by: a pipeline that must find the document again.
        within: its first so many hits.

    Paper: Dai et al., "Promptagator", arXiv 2209.11755, keep a query whose document is the first
    hit of a retriever that was trained on these very queries. We differ: any pipeline may check.
    """

    found_by: Node | None = None
    within: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.within < 1:
            raise UsageError(f"within of {self.name} must be 1 or more; got {self.within}")

    def numbered(self, question: Question, n_before: int) -> Question:
        """Return a question whose id tells which source of this kind made it."""
        if not n_before:
            return question
        query_id = f"{self.name}{n_before + 1}{question.query.query_id.removeprefix(self.name)}"
        return question._replace(query=dataclasses.replace(question.query, query_id=query_id))

    def examine(self, place: str, problems: list[Problem]) -> None:
        """Examine the pipeline that has to find documents again."""
        if self.found_by is not None:
            self.found_by.examine(Given(), f"{place}.found_by", problems)

    @property
    def _of_a_document(self) -> int:
        """Queries of a document at most."""
        return 1

    def estimate(self, n_documents: int) -> Usage:
        """Return an upper estimate of what checking the queries of so many documents takes."""
        if self.found_by is None:
            return Usage()
        return self.found_by.estimate(n_documents * self._of_a_document)

    def _questions(
        self, folder: Path, corpus: Corpus, rng: np.random.Generator
    ) -> Iterator[Question]:
        del folder
        made = [
            Question(Query(f"{self.name}-{corpus.doc_ids[row]}-{number}", text), _only(row))
            for row, texts in self._texts(corpus, rng)
            for number, text in enumerate(texts)
        ]
        if self.found_by is None:
            return iter(made)
        run: Run = self.found_by.bind(corpus).top(self.within)([each.query for each in made])
        return (
            each
            for place, each in enumerate(made)
            if each.positives[0] in run.rows[run.segment(place)]
        )

    @abstractmethod
    def _texts(
        self, corpus: Corpus, rng: np.random.Generator
    ) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield rows of documents with the queries that are made from them."""


@dataclass(frozen=True, kw_only=True)
class Titles(_Made):
    """The title of each document that has one and a text besides."""

    name: ClassVar[str] = "titles"

    def _texts(
        self,
        corpus: Corpus,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> Iterator[tuple[int, Sequence[str]]]:
        for row, document in enumerate(corpus.documents()):
            if document.title.strip() and document.text.strip():
                yield row, [document.title.strip()]


@dataclass(frozen=True, kw_only=True)
class Sentences(_Made):
    """Sentences of each document, drawn from those of a fitting length.

    Attributes:
        each: sentences of a document at most.
        words: the fewest and the most words of a sentence.
    """

    name: ClassVar[str] = "sentences"

    each: int = 1
    words: tuple[int, int] = (6, 40)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.each < 1 or not 1 <= self.words[0] <= self.words[1]:
            raise UsageError(
                "sentences must be 1 or more of a document, and of 1 <= fewest <= most words; got "
                f"each {self.each}, words {list(self.words)}"
            )

    @property
    def _of_a_document(self) -> int:
        return self.each

    def _texts(
        self, corpus: Corpus, rng: np.random.Generator
    ) -> Iterator[tuple[int, Sequence[str]]]:
        fewest, most = self.words
        for row, document in enumerate(corpus.documents()):
            split = sentences(document.text)
            fitting = [each for each in split if fewest <= len(each.split()) <= most]
            chosen = rng.permutation(len(fitting))[: self.each]
            yield row, [fitting[place] for place in np.sort(chosen)]


@dataclass(frozen=True, kw_only=True)
class Written(_Made):
    """Queries that a node writes for documents, as indexes are expanded by: an LLM, or a T5.

    Attributes:
        of: the node: doc2query, whose tasks inpars and promptagator show examples; doct5query for
            queries as GPL has them; doc2query-- for the best of them; recorded-queries.
        documents: that it writes for, drawn from all; None: all.
    """

    name: ClassVar[str] = "written"
    costs: ClassVar[bool] = True

    of: Expander
    documents: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.documents is not None and self.documents < 1:
            raise UsageError(f"documents of written must be 1 or more; got {self.documents}")

    def examine(self, place: str, problems: list[Problem]) -> None:
        """Examine also whether the node can write."""
        super().examine(place, problems)
        self.of.examine_inside(f"{place}.of", problems)

    @property
    def _of_a_document(self) -> int:
        return int(getattr(self.of, "n", 1))

    def estimate(self, n_documents: int) -> Usage:
        """Return also what writing for so many documents takes at most."""
        n = min(n_documents, self.documents or n_documents)
        return self.of.estimate_building(n) + super().estimate(n)

    def _texts(
        self, corpus: Corpus, rng: np.random.Generator
    ) -> Iterator[tuple[int, Sequence[str]]]:
        n = min(self.documents or len(corpus), len(corpus))
        rows = np.sort(rng.choice(len(corpus), n, replace=False)).tolist()
        asked = corpus if n == len(corpus) else Corpus.from_documents(map(corpus.document, rows))
        for row, written in zip(rows, self.of.write(asked), strict=True):
            yield row, list(dict.fromkeys(text for text in written.texts if text.strip()))


def _only(row: int) -> NDArray[np.int64]:
    return np.array([row], dtype=np.int64)


SOURCES: dict[str, type[Source]] = {
    source.name: source for source in (Split, Log, Titles, Sentences, Written)
}
"""By their names in specs."""
