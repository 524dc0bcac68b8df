"""The order in which a model's answer ranks passages, read from its text.

Four readings, from the most explicit to the least; the first that ranks anything counts:

1. a chain, "[2] > [1]"; of several the longest, and of equally long ones the last;
2. ranks that are named, in lines or a table, "Rank 1: Passage 3", whatever their order is;
3. passages that are named, "[2], [1]", "Passage 2, Passage 1";
4. bare numbers, "2, 1", without those that count the lines of a list.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

from limbeck.prompts.thinking import without_thinking

__all__ = ["permutation"]

_MARKUP = re.compile(r"[*`~\"'“”„«»\\$]")
_WORD = r"(?:passage|document|dokument|doc|text|candidate|item|id|p|d)"
_NAMED = rf"\b{_WORD}(?:[ -]?(?:id|no|nr|number))?[ .:#-]{{0,3}}"
_ID = rf"[(\[【]? ?(?:{_NAMED})?#?(?<![\d.])\d{{1,4}}(?!\d|\.\d) ?[)\]】]?"
_BETTER = r"(?:-{0,2}>=?|[=≥≻≽→»])"
_CHAIN = re.compile(rf"{_ID}(?: ?{_BETTER} ?{_ID})+", re.IGNORECASE)
_WORSE = re.compile(rf"{_ID} ?[<≺≤] ?{_ID}", re.IGNORECASE)
_DIGITS = re.compile(r"\d{1,4}")
_NAME = re.compile(
    rf"[\[【] ?(?:{_NAMED})?#?(\d{{1,4}}) ?[\]】]|{_NAMED}(\d{{1,4}})(?![\d/]|\.\d)", re.IGNORECASE
)
_NOTE = re.compile(rf"(?<=[\d\]】]) ?\((?! ?(?:{_NAMED}\d|[\[【]))[^()\n]{{0,60}}\)", re.IGNORECASE)
_RANK = re.compile(
    r"\b(?:rank|rang|platz|place|position) ?[:#]? ?(\d{1,4})(?!\d|\.\d)"
    r"|\b(\d{1,4})(?:st|nd|rd|th)\b",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"(?<![\w.])(\d{1,4})(?!\w|\.\d|[/%]| (?:passages|documents)\b)(?! ?/ ?\d)", re.IGNORECASE
)
_COUNT = re.compile(
    r"(?:^|, |; )[(#]?(\d{1,4}) ?(?:[.):]|-+>?|[=→–]) ?(?=[^\n,;]*\d)", re.MULTILINE
)
_ENTRY_END = re.compile(r"[\n}]")
_RULE = re.compile(r"[|:\s-]*")


def permutation(text: str, n: int) -> list[int]:
    """Return the places, from 0, of the passages that an answer ranks, best first.

    What was never shown is left out, and of what is named again the first place counts. What is not
    named is missing: an empty list says that the answer ranks nothing. A count of passages is no
    number of one, nor is a single number in prose ("I cannot rank these 3"), and an answer that
    ranks upward ("1 < 2") is not read.

    Args:
        text: the answer.
        n: how many passages were shown, numbered from 1.
    """
    text = _plain(text)
    chain = _chain(text)
    if not chain and _WORSE.search(text):
        return []
    text = _without_tables(text)
    for numbers in (chain, _by_rank(text), _names(text)):
        ranked = _shown(numbers, n)
        if ranked:
            return ranked
    bare = _shown(_BARE.findall(_without_counts(text)), n)
    return bare if len(bare) > 1 or not re.search(r"[^\W\d_]{3}", text) else []


def _shown(numbers: Iterable[str], n: int) -> list[int]:
    """Return the places of those numbers that were shown, each once."""
    places = (int(number) - 1 for number in numbers)
    return [place for place in dict.fromkeys(places) if 0 <= place < n]


def _plain(text: str) -> str:
    """Return an answer without markup and scores, with one space between words."""
    text = html.unescape(unicodedata.normalize("NFKC", without_thinking(text)))
    text = _MARKUP.sub("", text).replace("_", " ")
    lines = (" ".join(line.split()) for line in text.splitlines())
    return _NOTE.sub("", "\n".join(line for line in lines if line))


def _chain(text: str) -> list[str]:
    """Return the numbers of the longest chain; chains that are parted by a mark alone are one."""
    chains: list[list[str]] = []
    end = None
    for match in _CHAIN.finditer(text):
        numbers = _DIGITS.findall(match.group())
        parted = end is not None and not re.search(r"\w", text[end : match.start()])
        if parted and not set(numbers) & set(chains[-1]):
            chains[-1] += numbers
        else:
            chains.append(numbers)
        end = match.end()
    return max(reversed(chains), key=len, default=[])


def _by_rank(text: str) -> list[str]:
    """Return the passages of entries that name the ranks 1, 2, ..., in the order of these."""
    ranked: dict[int, str] = {}
    for entry in _ENTRY_END.split(text):
        ranks = _RANK.findall(entry)
        rest = _RANK.sub("", entry)
        passage = next(iter([*_names(rest), *_BARE.findall(rest)]), None)
        if len(ranks) == 1 and passage is not None:
            ranked.setdefault(int("".join(ranks[0])), passage)
    in_order = sorted(ranked)
    if len(ranked) < 2 or in_order != list(range(1, len(ranked) + 1)):
        return []
    return [ranked[rank] for rank in in_order]


def _names(text: str) -> list[str]:
    return ["".join(found) for found in _NAME.findall(text)]


def _without_counts(text: str) -> str:
    """Return a text without the numbers that count entries: those that begin them with 1, 2, ..."""
    counts = [int(number) for number in _COUNT.findall(text)]
    if not counts or counts != list(range(1, len(counts) + 1)):
        return text
    return _COUNT.sub("\n", text)


def _without_tables(text: str) -> str:
    """Return a text with each row of a table as "heading: cell" one after the other."""
    head: list[str] = []
    lines = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if "|" not in line:
            head = []
            lines.append(line)
        elif not head:
            head = cells
        elif not _RULE.fullmatch(line):
            lines.append("; ".join(f"{h}: {c}" for h, c in zip(head, cells, strict=False)))
    return "\n".join(lines)
