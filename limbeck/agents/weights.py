"""How each expansion method weighs the query beside the texts that were generated for it.

The generic form: for term-based retrievers q' = q x n_q, g_1 .. g_N; for vector-based ones
v = w_q f(q) + (1 - w_q) mean f(g). Written once, for texts that are generated now and for recorded
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from limbeck.types import Expansion

__all__ = ["METHODS", "hyde", "lamer", "mugi", "query2doc", "verbatim"]


def hyde(query: str, texts: Sequence[str]) -> Expansion:  # noqa: ARG001 - the common form
    """Return HyDE's expansion: the query's vector is one of N + 1 equal ones.

    Paper: Gao et al., ACL 2023, arXiv 2212.10496. It is a vector method; that the query's terms
    count once beside the texts is our choice.
    """
    return Expansion(tuple(texts), term_weight=1.0, vector_weight=1.0 / (len(texts) + 1))


def lamer(query: str, texts: Sequence[str]) -> Expansion:  # noqa: ARG001 - the common form
    """Return LameR's expansion: the query stands once before each answer; half of the vector.

    Paper: Shen et al., Findings of ACL 2024, arXiv 2304.14233.
    """
    return Expansion(tuple(texts), term_weight=float(len(texts)), vector_weight=0.5)


def query2doc(query: str, texts: Sequence[str]) -> Expansion:  # noqa: ARG001 - the common form
    """Return query2doc's expansion: the query five times; one vector of "query [SEP] passage".

    Paper: Wang, Yang, Wei, EMNLP 2023, arXiv 2303.07678, with one passage. For more of them the
    ratio is kept and the vectors are averaged: our choice.
    """
    return Expansion(tuple(texts), term_weight=5.0 * len(texts), joined=True)


def mugi(query: str, texts: Sequence[str], *, beta: float = 6.0) -> Expansion:
    """Return MuGI's expansion: the query so often that texts are about `beta` times as long.

    t = floor(floor(len(R) / len(q)) / beta), lengths in characters, R the texts joined by a space.

    Args:
        query: the query's text.
        texts: the generated texts.
        beta: 6 in the authors' code, 5 in their description.

    Paper: Zhang et al., arXiv 2401.06311. We differ: t is at least 1, so that a long query does
    not vanish; the vector is half the query's, half the mean of the texts'.
    """
    joined = len(" ".join(texts))
    repeats = int(joined // max(len(query), 1) // beta)
    return Expansion(tuple(texts), term_weight=float(max(1, repeats)), vector_weight=0.5)


def verbatim(query: str, texts: Sequence[str]) -> Expansion:  # noqa: ARG001 - the common form
    """Return an expansion that searches the texts as they stand, the query not added."""
    return Expansion(tuple(texts), term_weight=0.0, vector_weight=0.0)


METHODS: dict[str, Callable[[str, Sequence[str]], Expansion]] = {
    "hyde": hyde,
    "lamer": lamer,
    "mugi": mugi,
    "query2doc": query2doc,
    "verbatim": verbatim,
}
