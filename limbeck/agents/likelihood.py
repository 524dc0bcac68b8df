"""What log-probabilities say: how likely an answer is each of some labels, or a text as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

from limbeck.llm.request import Sample, Token
from limbeck.prompts.labels import folded

__all__ = ["FLOOR", "READ_TOKENS", "label_probabilities", "mean_logprob"]

FLOOR = -16.0
"""Log-probability, about 1e-7, of a label that is not among the alternatives that were told."""

READ_TOKENS = 4
"""Tokens that are generated where the label is the first of them that is not blank."""

_AROUND = " \t\r\n▁Ġ*\"'`.,:;()[]"


def label_probabilities(sample: Sample, labels: Sequence[str]) -> list[float] | None:
    """Return the share of each label among all labels, None where none of them was told.

    The first token that is not blank is read. What a label can be written as (" Yes", "yes", "YES",
    "▁yes") is added up, and so is what one label alone begins with ("ne" of "nein"); single letters
    are told apart by case. Where what several labels begin with is likelier than each label, the
    answer is not read. Servers tell the likeliest alternatives only: a label that is not among them
    counts as `FLOOR`, or as the least likely one that is, if that is less.
    """
    token = next((t for t in sample.logprobs or () if t.text.strip(_AROUND)), None)
    if token is None:
        return None
    told = _told(token)
    begun = [(_begun(text, labels), p) for text, p in told if p > -math.inf]
    found = [[p for places, p in begun if places == [place]] for place in range(len(labels))]
    likeliest = max((p for logprobs in found for p in logprobs), default=-math.inf)
    if likeliest <= max((p for places, p in begun if len(places) > 1), default=-math.inf):
        return None
    floor = min(FLOOR, *(p for _, p in told))
    masses = [sum(math.exp(p - likeliest) for p in logprobs or [floor]) for logprobs in found]
    return [mass / sum(masses) for mass in masses]


def _told(token: Token) -> list[tuple[str, float]]:
    """Return the alternatives at a token, itself included; several may have one text."""
    itself = [(token.text, token.logprob)]
    return [*token.top, *(itself if token.text not in dict(token.top) else ())]


def _begun(text: str, labels: Sequence[str]) -> list[int]:
    """Return the places of the labels that a token begins; those that go on with a word alone."""
    bare = text.strip(_AROUND)
    rests = {
        place: rest
        for place, label in enumerate(labels)
        if bare and (rest := _rest(bare, label)) is not None
    }
    whole = [place for place, rest in rests.items() if not rest or rest.startswith(" ")]
    return whole or list(rests)


def _rest(bare: str, label: str) -> str | None:
    """Return what a label has after its beginning, None where it begins otherwise."""
    if len(label) > 1:
        bare, label = folded(bare), folded(label)
    return label.removeprefix(bare) if label.startswith(bare) else None


def mean_logprob(sample: Sample) -> float | None:
    """Return the mean log-probability of a text's tokens, None where none were told."""
    if not sample.logprobs:
        return None
    mean = math.fsum(token.logprob for token in sample.logprobs) / len(sample.logprobs)
    return mean if math.isfinite(mean) else None
