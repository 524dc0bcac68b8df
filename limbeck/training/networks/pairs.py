"""Query and document as one input of a cross-encoder, joined from tokens that were made once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import UsageError
from limbeck.training.tokens import TokenTable

__all__ = ["PairLayout", "cut", "pair_layout"]


class PairLayout(NamedTuple):
    """What a tokenizer puts around and between the two texts of a pair.

    Attributes:
        before: ids in front of the first text.
        between: ids behind the first text.
        behind: ids behind the second text.
        segments: of each of the five parts, the two texts included.
        max_tokens: of the whole input; longer texts are cut.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    behind: tuple[int, ...]
    segments: tuple[int, int, int, int, int]
    max_tokens: int

    def joined(self, queries: TokenTable, documents: TokenTable) -> TokenTable:
        """Return each query with the document beside it; both tables hold bare texts."""
        room = self.max_tokens - sum(map(len, self[:3]))
        texts: list[NDArray[Any]] = []
        segments: list[NDArray[np.uint8]] = []
        for pair in range(len(queries)):
            query, document = (
                table.ids[table.bounds[pair] : table.bounds[pair + 1]]
                for table in (queries, documents)
            )
            n_query, n_document = cut(len(query), len(document), room)
            parts = (
                self.before, query[:n_query], self.between, document[:n_document], self.behind
            )  # fmt: skip
            texts.append(np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]))
            segments.append(np.repeat(np.array(self.segments, np.uint8), [len(p) for p in parts]))
        return TokenTable.of(texts, segments=segments)


def cut(n_first: int, n_second: int, room: int) -> tuple[int, int]:
    """Return how much of two texts is kept: the longer one is cut, both where both are too long.

    As the strategy "longest_first" of Hugging Face's tokenizers does it.
    """
    if n_first + n_second <= room:
        return n_first, n_second
    shorter = min(n_first, n_second)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    return (shorter, longer) if n_first <= n_second else (longer, shorter)


def pair_layout(tokenizer: Any, max_tokens: int) -> PairLayout:
    """Return the layout of a tokenizer of transformers, read off a pair of one-token texts.

    Raises:
        UsageError: texts have other tokens in a pair than alone.
    """
    made = tokenizer("a", "b", return_token_type_ids=True)
    ids, segments = made["input_ids"], made["token_type_ids"]
    first, second = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("a", "b")
    )  # fmt: skip
    at = _place(ids, first, 0)
    after = _place(ids, second, at + len(first))
    end = after + len(second)
    bounds = (0, at, at + len(first), after, end)
    return PairLayout(
        before=tuple(ids[:at]),
        between=tuple(ids[at + len(first) : after]),
        behind=tuple(ids[end:]),
        segments=tuple(segments[min(place, len(ids) - 1)] for place in bounds),
        max_tokens=max_tokens,
    )


def _place(ids: list[int], part: list[int], start: int) -> int:
    for place in range(start, len(ids)):
        if ids[place : place + len(part)] == part:
            return place
    raise UsageError(
        "texts of a cross-encoder must have the same tokens in a pair and alone; it makes "
        f"{part} of a text, and {ids} of a pair with it; give a model with another tokenizer"
    )
