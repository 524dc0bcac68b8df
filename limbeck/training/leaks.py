"""The leak guard: no query of a split that is measured on may be taught, nor one all but equal.

A student that was taught a test query, or its paraphrase, scores above what it can do. So every
query is compared with those of the splits that are kept apart before a teacher, a student or a
prompt sees it: training queries, written ones, and those that are shown as examples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from limbeck.errors import UsageError
from limbeck.retrieval.analysis import Analyzer
from limbeck.types import Query

__all__ = ["ALIKE", "Leak", "LeakGuard"]

ALIKE = 0.7
"""The similarity from which on two queries are too much alike, unless said otherwise: two claims of
six terms with another word in the place of one share five of seven."""

_WHOLE = 4
"""Terms of a query that is found whole in another one; fewer are a topic."""

_ASKING = {"what", "which", "who", "whom", "whose", "when", "where", "why", "how"}
_ASKING |= {"do", "does", "did", "can", "could", "should", "would", "may", "might"}
_ASKING |= {"please", "tell", "me", "question"}
"""Words that make a question of what it is about, besides stop words."""

_MARKS = "?!.,:;"


@dataclass(frozen=True)
class Leak:
    """A query that was to be taught, and the one that is measured on.

    Attributes:
        query: that was kept out.
        split: which is kept apart.
        like: the query of that split.
        similarity: of the two, in (0, 1]; 1 where their terms are the same, or one's are all among
            the other's.
    """

    query: Query
    split: str
    like: Query
    similarity: float

    def __str__(self) -> str:
        """Return this in a line."""
        return (
            f"{self.query.query_id!r} ({self.query.text!r}) is {self.similarity:.2f} like "
            f"{self.like.query_id!r} of {self.split} ({self.like.text!r})"
        )


class LeakGuard:
    """Knows the queries that are kept apart.

    Two queries are alike by the share of their terms that both have (Jaccard), of terms as BM25
    has them: stemmed, without stop words, each once, and without words that only ask. A query of
    such words alone is compared by its folded words. Where all terms of one, four at least, are
    among those of the other, one is a part of the other, and they are as alike as can be.
    """

    def __init__(self, apart: Mapping[str, Sequence[Query]], *, at_least: float = ALIKE) -> None:
        """Read the queries that are kept apart.

        Args:
            apart: by the name of their split.
            at_least: the similarity from which two queries are too much alike.

        Raises:
            UsageError: the similarity is out of range.
        """
        if not 0.0 < at_least <= 1.0:
            raise UsageError(f"at_least of the leak guard must lie in (0, 1]; got {at_least}")
        self.at_least = at_least
        self._analyse = Analyzer()
        self._known = [(split, query) for split, queries in apart.items() for query in queries]
        self._terms = [self._terms_of(query.text) for _, query in self._known]
        self._holding: dict[str, list[int]] = defaultdict(list)
        for place, terms in enumerate(self._terms):
            for term in terms:
                self._holding[term].append(place)

    def __len__(self) -> int:
        """Return how many queries are kept apart."""
        return len(self._known)

    def leak(self, query: Query) -> Leak | None:
        """Return the query kept apart that is most like a query, None where none is alike."""
        own = self._terms_of(query.text)
        shared: dict[int, int] = defaultdict(int)
        for term in own:
            for place in self._holding.get(term, ()):
                shared[place] += 1
        likeness = ((_likeness(own, self._terms[place], n), -place) for place, n in shared.items())
        similarity, negated = max(likeness, default=(0.0, 0))
        if similarity < self.at_least:
            return None
        split, like = self._known[-negated]
        return Leak(query, split, like, similarity)

    def leaks(self, queries: Iterable[Query]) -> Iterator[Leak]:
        """Yield what leaks."""
        for query in queries:
            if found := self.leak(query):
                yield found

    def _terms_of(self, text: str) -> frozenset[str]:
        words = text.casefold().split()
        telling = (word for word in words if word.strip(_MARKS) not in _ASKING)
        return frozenset(self._analyse(" ".join(telling))) or frozenset(words)


def _likeness(one: frozenset[str], other: frozenset[str], n_shared: int) -> float:
    """Return how much alike two sets of terms are that share so many."""
    is_part = n_shared >= _WHOLE and n_shared == min(len(one), len(other))
    return 1.0 if is_part else n_shared / len(one | other)
