"""Dark examples: texts of moderate relevance, made from a positive and from hard negatives.

Paper: Tao et al., "ADAM: Dense Retrieval Distillation with Adaptive Dark Examples", arXiv
2212.10192. Of the paper only the abstracts could be read. They state that a teacher tells a
positive from hard negatives too easily for its soft labels to teach much, and that passages of
moderate relevance are made in discrete space, by strengthening negatives with the positive (mixing
up) and by masking positives. All else is our reading: the shares, where spans come from and go to,
the units, and the check of moderate relevance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from limbeck.errors import UsageError
from limbeck.passages import sentences
from limbeck.types import Document

__all__ = ["Dark", "noisy", "reinforced"]

Unit = Literal["word", "sentence"]
Masking = Literal["mask", "delete"]

MASK = "[MASK]"
"""As encoders of the BERT family write it; to others it is a word that says nothing."""

_WORDS = re.compile(r"\S+")
_LONGEST_SPAN = 8
"""Words of the positive that go into a negative side by side."""


@dataclass(frozen=True, kw_only=True)
class Dark:
    """Which dark examples each query gets.

    Attributes:
        reinforced: negatives with parts of the positive in them.
        noisy: positives with parts taken out.
        unit: words, or sentences.
        replaced: the share of a negative that parts of the positive take the place of, drawn
            between the two for each example.
        masked: the share of a positive that is taken out, likewise.
        masking: what is taken out becomes [MASK], or goes.
        overlap_first: words of the positive that are words of the query are taken out first.
        between: an example is dropped that the teacher does not score below the best positive and
            above the best negative.
    """

    reinforced: int = 2
    noisy: int = 2
    unit: Unit = "word"
    replaced: tuple[float, float] = (0.2, 0.5)
    masked: tuple[float, float] = (0.3, 0.7)
    masking: Masking = "mask"
    overlap_first: bool = False
    between: bool = False

    def __post_init__(self) -> None:
        if min(self.reinforced, self.noisy) < 0 or not self.reinforced + self.noisy:
            raise UsageError(
                "dark must have reinforced or noisy examples, 1 or more; got "
                f"{self.reinforced} and {self.noisy}; leave dark out to have none"
            )
        for name in ("replaced", "masked"):
            low, high = getattr(self, name)
            if not 0 < low <= high < 1:
                raise UsageError(
                    f"{name} must be two shares, 0 < low <= high < 1; got {low} and {high}"
                )
        for name, allowed in (("unit", get_args(Unit)), ("masking", get_args(Masking))):
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )

    def of(
        self,
        query_id: str,
        query: str,
        positives: Sequence[Document],
        negatives: Sequence[Document],
        rng: np.random.Generator,
    ) -> list[Document]:
        """Return the dark examples of a query; fewer where texts are too short, or none are there.

        Their metadata say how each was made: kind, of which documents, and the share.

        Args:
            query_id: goes into their ids.
            query: its text.
            positives: of which each example takes one.
            negatives: hard ones, likewise.
            rng: decides everything.
        """
        made: list[Document] = []
        for number in range(self.reinforced if negatives else 0):
            negative = negatives[int(rng.integers(len(negatives)))]
            positive = positives[int(rng.integers(len(positives)))]
            share = float(rng.uniform(*self.replaced))
            text = reinforced(negative.text, positive.text, share, self.unit, rng)
            name = f"dark-{query_id}-r{number}"
            told = self._told("reinforced", [negative, positive], share)
            if text != negative.text:
                made.append(Document(name, text, negative.title, told))
        first = frozenset(_folded(query)) if self.overlap_first else frozenset()
        for number in range(self.noisy):
            positive = positives[int(rng.integers(len(positives)))]
            share = float(rng.uniform(*self.masked))
            text = noisy(positive.text, share, self.unit, rng, masking=self.masking, first=first)
            name = f"dark-{query_id}-n{number}"
            told = self._told("noisy", [positive], share)
            if text != positive.text:
                made.append(Document(name, text, positive.title, told))
        return made

    def _told(self, kind: str, of: Sequence[Document], share: float) -> dict[str, object]:
        """Return what an example was made of, and the share of its first text that was changed."""
        n = len(_units(of[0].text, self.unit))
        changed = round(_n_changed(share, n) / max(1, n), 4)
        return {"kind": kind, "of": [document.doc_id for document in of], "share": changed}


def _n_changed(share: float, n: int) -> int:
    """Return how many of n units a share is: one at least, and not all of them."""
    return min(max(1, round(share * n)), n - 1)


def reinforced(
    negative: str, positive: str, share: float, unit: Unit, rng: np.random.Generator
) -> str:
    """Return a negative, a share of whose units has given place to spans of the positive.

    It has as many units as before, one of its own at least; a negative of a single one stays as it
    is. Where each span begins in either text is drawn; spans are of eight words at most, or of one
    sentence.
    """
    own, other = _units(negative, unit), _units(positive, unit)
    if len(own) < 2 or not other:
        return negative
    left = _n_changed(share, len(own))
    longest = _LONGEST_SPAN if unit == "word" else 1
    free = np.ones(len(own), dtype=bool)
    while left:
        length = min(left, longest, len(other))
        place = _free_place(free, length, rng)
        while place is None:
            length -= 1
            place = _free_place(free, length, rng)
        start = int(rng.integers(len(other) - length + 1))
        own[place : place + length] = other[start : start + length]
        free[place : place + length] = False
        left -= length
    return " ".join(own)


def _free_place(free: np.ndarray, length: int, rng: np.random.Generator) -> int | None:
    """Return where so many units in a row are free, drawn from all such places."""
    if length > len(free):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(free, length).all(axis=1)
    places = np.flatnonzero(windows)
    return int(rng.choice(places)) if len(places) else None


def noisy(
    positive: str,
    share: float,
    unit: Unit,
    rng: np.random.Generator,
    *,
    masking: Masking = "mask",
    first: frozenset[str] = frozenset(),
) -> str:
    """Return a positive, a share of whose units is masked or gone; one unit at least is left.

    Args:
        positive: its text.
        share: of its units.
        unit: words or sentences.
        rng: which of them.
        masking: what becomes of them.
        first: folded words that go before all others.
    """
    own = _units(positive, unit)
    if len(own) < 2:
        return positive
    n = _n_changed(share, len(own))
    order = rng.permutation(len(own))
    is_first = np.array([not first.isdisjoint(_folded(own[place])) for place in order])
    taken = set(order[np.argsort(~is_first, kind="stable")][:n].tolist())
    if masking == "delete":
        return " ".join(each for place, each in enumerate(own) if place not in taken)
    return " ".join(MASK if place in taken else each for place, each in enumerate(own))


def _units(text: str, unit: Unit) -> list[str]:
    return _WORDS.findall(text) if unit == "word" else sentences(text)


def _folded(text: str) -> list[str]:
    """Return the words of a text without marks at their ends, in one case."""
    return [word.strip(".,;:!?()[]\"'").casefold() for word in _WORDS.findall(text)]
