"""What log-probabilities say: how likely an answer is each of some labels, or a text as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

from limbeck.llm.request import Sample

__all__ = ["FLOOR", "READ_TOKENS", "label_probabilities", "mean_logprob"]

FLOOR = -16.0
"""Log-probability, about 1e-7, of a label that is not among the alternatives that were told."""

READ_TOKENS = 4
"""Tokens that are generated where the label is the first of them that is not blank."""

_AROUND = " \t\r\n▁Ġ*\"'`.,:;()[]"


def label_probabilities(sample: Sample, labels: Sequence[str]) -> list[float] | None:
    """Return the share of each label among all labels, None where none of them was told.

    The first token that is not blank is read. What a label can be written as (" Yes", "yes", "YES",
    "▁yes") is added up; single letters are told apart by case. Servers tell the likeliest
    alternatives only: a label that is not among them counts as `FLOOR`, or as the least likely one
    that is, if that is less.
    """
    token = next((t for t in sample.logprobs or () if t.text.strip(_AROUND)), None)
    if token is None:
        return None
    told = dict(token.top) | {token.text: token.logprob}
    found = [
        [logprob for text, logprob in told.items() if _is(text, label) and logprob > -math.inf]
        for label in labels
    ]
    if not any(found):
        return None
    floor = min(FLOOR, *told.values())
    likeliest = max(logprob for logprobs in found for logprob in logprobs)
    masses = [sum(math.exp(p - likeliest) for p in logprobs or [floor]) for logprobs in found]
    return [mass / sum(masses) for mass in masses]


def _is(text: str, label: str) -> bool:
    bare = text.strip(_AROUND)
    return bare == label if len(label) == 1 else bare.casefold() == label.casefold()


def mean_logprob(sample: Sample) -> float | None:
    """Return the mean log-probability of a text's tokens, None where none were told."""
    if not sample.logprobs:
        return None
    mean = math.fsum(token.logprob for token in sample.logprobs) / len(sample.logprobs)
    return mean if math.isfinite(mean) else None
