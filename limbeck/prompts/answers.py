"""What models answer when they are asked to choose, to grade or to rank, read from their text.

The parsers are tolerant: chat around the answer, other brackets, markdown, thinking aloud. They do
not guess: an answer that names several labels and none as its choice has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from limbeck.prompts.thinking import without_thinking

__all__ = ["VERSION", "choice", "permutation"]

VERSION = 1
"""Raised whenever the same answer may be read otherwise: it is part of fingerprints."""

_ID = r"\**[\[(【]?\s*(?:passage\s+)?\d{1,4}\s*[\])】]?\**"
_CHAIN = re.compile(rf"{_ID}(?:\s*(?:[>=\u2265]|\uff1e|&gt;)\s*{_ID})+", re.IGNORECASE)
_DIGITS = re.compile(r"\d{1,4}")
_BRACKETED = re.compile(r"[\[【]\s*(\d{1,4})\s*[\]】]")
_BARE = re.compile(r"(?<![\w.])(\d{1,4})(?!\w|\.\d|\s+(?:passages|documents)\b)", re.IGNORECASE)
_LIST_NUMBER = re.compile(r"^\s*\d{1,4}[.)]\s+(?=.*\d)", re.MULTILINE)

_CUE = (
    r"\b(?:answers?|choices?|choose|chosen|prefer(?:red)?|verdict|output|better|best|relevant|"
    r"scores?|grades?|labels?|ratings?|relevance)\b"
)
_BETWEEN = r"\W{0,4}(?:(?:passage|document|is|would|be|the|one|option|of)\b\W{0,4})*"
_PRAISED = (
    r"\s+(?i:(?:is|would be|seems)\s+(?:the\s+)?"
    r"(?:(?:more|most)\s+(?:relevant|useful)|better|best)\b)"
)
_ARTICLE = re.compile(
    r"(\A|[.!?]\s+|\n\s*)A(?= [a-z])(?! (?:is|would|has|gives|answers|better|because)\b)"
)


def permutation(text: str, n: int) -> list[int]:
    """Return the places, from 0, of the passages that an answer ranks, best first.

    The longest chain such as "[2] > [1]" is read, the last of equally long ones; without a chain
    all numbers in brackets; without those all whole numbers, but for a count of passages, and for a
    single number in prose, which ranks nothing ("I cannot rank these 3"). What was never shown is
    left out, and of what is named again the first place counts. What is not named is missing: an
    empty list says that the answer ranks nothing.

    Args:
        text: the answer.
        n: how many passages were shown, numbered from 1.
    """
    text = without_thinking(text)
    chains = [_DIGITS.findall(chain.group()) for chain in _CHAIN.finditer(text)]
    chain: list[str] = max(reversed(chains), key=len, default=[])
    for numbers in (chain, _BRACKETED.findall(text)):
        named = _shown(numbers, n)
        if named:
            return named
    bare = _shown(_BARE.findall(_LIST_NUMBER.sub("", text)), n)
    return bare if len(bare) > 1 or not re.search(r"[^\W\d_]{3}", text) else []


def _shown(numbers: Iterable[str], n: int) -> list[int]:
    """Return the places of those numbers that were shown, each once."""
    places = (int(number) - 1 for number in numbers)
    return [place for place in dict.fromkeys(places) if 0 <= place < n]


def choice(text: str, labels: Sequence[str]) -> int | None:
    """Return the place of the label that an answer chooses, None where it chooses none.

    The label may be the whole answer; follow a word such as "answer" or "score", or come before "is
    more relevant", the last of which counts; be the only one that is named; or open the answer, set
    off by a mark. Words are compared
    without case, single letters with it, and the article "A" is no label.

    Args:
        text: the answer.
        labels: such as ("A", "B"), ("yes", "no") or ("0", "1", "2", "3").
    """
    text = _ARTICLE.sub(r"\1", without_thinking(text).strip())
    label = _pattern(labels)
    whole = re.sub(r"\A\W+|\W+\Z", "", text)
    cued = re.findall(rf"(?i:{_CUE}{_BETWEEN}){label}", text)
    praised = re.findall(rf"{label}{_PRAISED}", text)
    named = list(dict.fromkeys(_place(found, labels) for found in re.findall(label, text)))
    opening = re.match(rf"\W*(?i:passage\s+)?{label}\W*?(?:[.,:;)\]*\n]|\Z)", text)
    if whole.casefold() in map(str.casefold, labels):
        return _place(whole, labels)
    if cued or praised:
        return _place((cued or praised)[-1], labels)
    if len(named) == 1:
        return named[0]
    return None if opening is None else _place(opening.group(1), labels)


def _pattern(labels: Sequence[str]) -> str:
    """Return a pattern whose one group is a label that stands by itself."""
    written = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    words = any(len(label) > 1 for label in labels)
    return rf"(?<![\w.])({f'(?i:{written})' if words else written})(?!\w|[.,]\d)"


def _place(named: str, labels: Sequence[str]) -> int:
    return [label.casefold() for label in labels].index(named.casefold())
