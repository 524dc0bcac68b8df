"""The texts that are encoded for a query: its own, and those of its expansions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from limbeck.types import Input, Query

__all__ = ["encode_each", "inputs_of"]

_T = TypeVar("_T")

Encode = Callable[[list[str]], Iterable[_T]]


def inputs_of(query: Query, separator: str) -> list[Input]:
    """Return the inputs that are not blank, with their weights brought to the same sum."""
    inputs = query.weighted_inputs(separator)
    kept = [each for each in inputs if each.text.strip()]
    if len(kept) == len(inputs):
        return inputs
    scale = sum(each.weight for each in inputs) / (sum(each.weight for each in kept) or 1.0)
    return [each._replace(weight=each.weight * scale) for each in kept]


def encode_each(
    inputs: Sequence[Input], *, queries: Encode[_T], documents: Encode[_T]
) -> dict[tuple[str, str], _T]:
    """Return what each distinct text is encoded to, by text and side.

    Args:
        inputs: the texts, each with its side.
        queries: encodes texts as queries are.
        documents: encodes texts as documents are.
    """
    of_input: dict[tuple[str, str], _T] = {}
    for side, encode in (("query", queries), ("document", documents)):
        texts = list(dict.fromkeys(each.text for each in inputs if each.side == side))
        for text, encoded in zip(texts, encode(texts) if texts else (), strict=True):
            of_input[text, side] = encoded
    return of_input
