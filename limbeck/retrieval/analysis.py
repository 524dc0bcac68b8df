"""Analysis: text to the terms that term-based retrievers index.

English is analysed as Lucene's EnglishAnalyzer does it: word break by UAX #29, possessive, lower
case, 33 stop words, Porter. Every step that looks at one token alone is done once for each distinct
token, so that bulk analysis is a regular expression and a dictionary.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from threading import Lock
from typing import Protocol

from limbeck.errors import UsageError
from limbeck.fingerprint import fingerprint
from limbeck.types import require_several

__all__ = ["ENGLISH_STOPWORDS", "Analyse", "Analyzer", "words"]

Analyse = Callable[[str], list[str]]
"""Any function from a text to its terms."""

_VERSION = 1
"""Raised whenever the same parameters may give other terms."""

ENGLISH_STOPWORDS = (
    *(
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
    ),
    *("no", "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these"),
    *("they", "this", "to", "was", "will", "with"),
)
"""Lucene's 33 English stop words."""

_CJK = frozenset({"cjk", "chinese", "japanese", "korean", "zh", "ja", "ko"})
_NO_LANGUAGE = "none"

_MAX_TOKEN = 255
"""Characters after which Lucene's StandardTokenizer cuts a token."""

_MAX_CACHED = 1 << 20
"""Distinct tokens whose terms are remembered; a server's memory must not grow with its queries."""

_MARKS = r"[[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]--\p{Emoji_Modifier}]*+"
_EAST_ASIAN = r"\p{Script=Han}\p{Script=Hiragana}\p{WB=Katakana}\p{Script=Hangul}"

_ASCII_CORE = r"(?:[A-Za-z]++(?:[:.'][A-Za-z]++)*+|[0-9]++(?:[,;.'][0-9]++)*+)++"
_ASCII_PLAIN = r"[A-Za-z]++(?![0-9_:.'])"  # most words; found faster alone
_ASCII = re.compile(rf"{_ASCII_PLAIN}|(?<!_)_*+{_ASCII_CORE}(?:_++{_ASCII_CORE})*+_*+")


class _Pattern(Protocol):
    """What is used of a compiled pattern of `re` or `regex`."""

    def findall(self, string: str, pos: int = ..., endpos: int = ..., /) -> list[str]: ...

    def match(self, string: str, /) -> re.Match[str] | None: ...


def words(text: str) -> list[str]:
    """Return the tokens of a text, as Lucene's StandardTokenizer breaks it.

    Words and numbers by UAX #29, each Han and Hiragana character, runs of Katakana and of South
    East Asian scripts, and emoji sequences are tokens; all else is left out. The character
    properties are those of the Unicode version that the regex package knows; Lucene's are older.
    """
    if len(text) <= _MAX_TOKEN and text.isascii():
        return _ASCII.findall(text)
    return _tokens(text, _word_pattern())


def _tokens(text: str, pattern: _Pattern) -> list[str]:
    """Return the tokens of a text; stretches without other characters than ASCII go a fast way.

    No token holds a space, so a stretch between spaces may be broken alone.
    """
    found = _ASCII.findall(text) if text.isascii() else _mixed_tokens(text, pattern)
    if len(text) > _MAX_TOKEN and max(map(len, found), default=0) > _MAX_TOKEN:
        return [piece for token in found for piece in _pieces(token, pattern)]
    return found


_NON_ASCII = re.compile(r"[^\x00-\x7f]")


def _mixed_tokens(text: str, pattern: _Pattern) -> list[str]:
    found: list[str] = []
    done = 0
    while other := _NON_ASCII.search(text, done):
        start = text.rfind(" ", done, other.start()) + 1 or done
        end = text.find(" ", other.start())
        end = len(text) if end < 0 else end
        found += _ASCII.findall(text, done, start)
        found += pattern.findall(text, start, end)
        done = end
    return found + _ASCII.findall(text, done)


def _pieces(token: str, pattern: _Pattern) -> Iterator[str]:
    """Yield the pieces of a token, each as long as it can be in 255 characters.

    The rest of a longer one is broken as if it began there, which is what Lucene does.
    """
    position = 0
    while position < len(token):
        piece = pattern.match(token[position : position + _MAX_TOKEN])
        if piece:
            yield piece[0]
        position += len(piece[0]) if piece else 1


@cache
def _word_pattern() -> _Pattern:
    return _compiled(
        _word(r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}]", katakana=r"\p{WB=Katakana}"),
        rf"(?:\p{{Line_Break=Complex_Context}}{_MARKS})++",
        rf"\p{{Script=Han}}{_MARKS}",
        rf"\p{{Script=Hiragana}}{_MARKS}",
    )


@cache
def _cjk_pattern() -> _Pattern:
    """Return the pattern in which a whole run of East Asian characters is one token."""
    letter = rf"[[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]--[{_EAST_ASIAN}]]"
    return _compiled(
        rf"(?:[{_EAST_ASIAN}]{_MARKS})++",
        _word(letter, katakana=None),
        rf"(?:\p{{Line_Break=Complex_Context}}{_MARKS})++",
    )


def _compiled(*alternatives: str) -> _Pattern:
    import regex

    pattern: _Pattern = regex.compile("|".join((*alternatives, _emoji())), regex.V1)
    return pattern


def _word(letter: str, *, katakana: str | None) -> str:
    """Return the pattern of a word or number: the rules WB5 to WB13b of UAX #29.

    Paper: Unicode Standard Annex #29. As in Lucene, underscores alone are no word.
    """
    a_letter = f"{letter}{_MARKS}"
    hebrew = r"\p{WB=Hebrew_Letter}"
    single, double = rf"\p{{WB=Single_Quote}}{_MARKS}", rf"\p{{WB=Double_Quote}}{_MARKS}"
    mid_letter = rf"[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_MARKS}"
    mid_number = rf"[\p{{WB=MidNum}}\p{{WB=MidNumLet}}\p{{WB=Single_Quote}}]{_MARKS}"
    digit = rf"[\p{{WB=Numeric}}\uff10-\uff19]{_MARKS}"
    joiner = rf"\p{{WB=ExtendNumLet}}{_MARKS}"
    after_hebrew = rf"(?<={hebrew}{_MARKS})"
    letters = (
        rf"(?:{a_letter})++(?:(?:{mid_letter}|{after_hebrew}{double}(?={hebrew}))(?:{a_letter})++)*+"
        rf"(?:{after_hebrew}{single})?+"
    )
    digits = rf"(?:{digit})++(?:{mid_number}(?:{digit})++)*+"
    core = rf"(?:{letters}|{digits})++"
    if katakana is not None:
        core = rf"(?:(?:{katakana}{_MARKS})++|{core})"
    # A run of joiners without a word is passed over at once, not tried again from each of them.
    start = rf"(?<!\p{{WB=ExtendNumLet}})(?:{joiner})*+"
    return rf"{start}{core}(?:(?:{joiner})++{core})*+(?:{joiner})*+"


def _emoji() -> str:
    """Return the pattern of an emoji sequence: modifiers, joined emoji, keycaps, flags.

    Paper: Unicode Technical Standard #51, emoji_sequence.
    """
    kinds = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]"
    marks = rf"[{kinds}--[\p{{Emoji_Modifier}}\ufe0e\ufe0f]]*+"
    modifier = rf"\p{{Emoji_Modifier}}{marks}"
    modified = rf"\p{{Emoji_Modifier_Base}}{marks}{modifier}"
    pictograph = rf"\p{{Extended_Pictographic}}{marks}\ufe0f?+"
    unit = rf"(?:\u200d{{0,9}}+(?:{modified}|{pictograph})|{modifier})"
    joined = rf"{unit}(?:(?:\u200d++|(?<=\u200d)){unit})*+"
    keycap = rf"[#*][{kinds}--[\ufe0e\ufe0f\u20e3]]*+\ufe0f?+\u20e3{marks}"
    flag = rf"(?:\p{{WB=Regional_Indicator}}{_MARKS}){{2}}"
    return rf"{joined}|{keycap}|{flag}"


@dataclass(frozen=True)
class Analyzer:
    """Text to terms. Calling it with a text returns the list of its terms.

    Attributes:
        language: "english" is Lucene's EnglishAnalyzer; any other Snowball language (german,
            french, ...) is word break, lower case, Snowball; "cjk" (or chinese, japanese, korean,
            zh, ja, ko) is character bigrams; "none" is word break and lower case alone.
        stopwords: terms left out, compared after lower case and before stemming. None: the
            language's own, which only English has.
        stem: whether words are stemmed.

    "cjk" follows Lucene's CJKAnalyzer: full-width and half-width forms are folded, a run of Han,
    Hiragana, Katakana and Hangul gives its overlapping bigrams, a lone character itself, and other
    words are kept whole. It differs where Hangul or Han touch Latin letters: Lucene keeps such a
    word whole, here the run is split off; and at the iteration mark 々, which Lucene takes for a
    letter and here continues the run. It has no stop words of its own.
    """

    language: str = "english"
    stopwords: tuple[str, ...] | None = None
    stem: bool = True

    def __post_init__(self) -> None:
        if (
            self.language not in _CJK | {_NO_LANGUAGE}
            and self.language not in _snowball_languages()
        ):
            known = ", ".join(sorted({*_snowball_languages(), *_CJK, _NO_LANGUAGE}))
            raise UsageError(
                f"language must be one of {known}; got {self.language!r}; "
                "or give an analyzer of your own, a function from a text to its terms"
            )
        if self.stopwords is not None:
            require_several(self.stopwords, "stopwords")
            object.__setattr__(self, "stopwords", tuple(self.stopwords))

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that shapes the terms."""
        language = "cjk" if self.language in _CJK else self.language
        return fingerprint([_VERSION, language, self._stopwords, self.stem])

    def __call__(self, text: str) -> list[str]:
        """Return the terms of a text, in order, each as often as it stands there."""
        tokens = _cjk_tokens(text) if self.language in _CJK else words(text)
        return list(filter(None, map(self._terms.__getitem__, tokens)))

    @cached_property
    def _terms(self) -> _Terms:
        return _shared_terms(self)

    def term(self, token: str) -> str:
        """Return the term of a token, empty where it is left out."""
        if self.language == "english":
            token = _without_possessive(token)
        word = _lower_turkish(token) if self.language == "turkish" else _lower(token)
        return "" if word in self._stopwords else self._stemmed(word)

    @cached_property
    def _stopwords(self) -> frozenset[str]:
        own = ENGLISH_STOPWORDS if self.language == "english" else ()
        return frozenset(map(_lower, own if self.stopwords is None else self.stopwords))

    @cached_property
    def _stemmed(self) -> Callable[[str], str]:
        if not self.stem or self.language in _CJK | {_NO_LANGUAGE}:
            return str
        if self.language == "english":
            return _porter
        stemmed: Callable[[str], str] = _stemmer(self.language).stemWord
        return stemmed


class _Terms(dict[str, str]):
    """Terms by token, each made when it is first asked for."""

    def __init__(self, make: Callable[[str], str]) -> None:
        super().__init__()
        self._make = make
        self._lock = Lock()  # stemmers are not safe for threads

    def __missing__(self, token: str) -> str:
        with self._lock:
            if len(self) >= _MAX_CACHED:
                self.clear()
            term = self[token] = self._make(token)
        return term


@lru_cache(maxsize=16)
def _shared_terms(analyzer: Analyzer) -> _Terms:
    """Return one memory for all equal analyzers: copies of a node analyse alike."""
    return _Terms(analyzer.term)


def _without_possessive(token: str) -> str:
    return token[:-2] if token[-1:] in {"s", "S"} and token[-2:-1] in {"'", "’", "＇"} else token


def _lower(word: str) -> str:
    """Return lower case character by character, as Java has it: no final sigma, no dotted i."""
    return word.replace("Σ", "\N{GREEK SMALL LETTER SIGMA}").replace("İ", "i").lower()


def _lower_turkish(word: str) -> str:
    return _lower(word.replace("İ", "i").replace("I", "\N{LATIN SMALL LETTER DOTLESS I}"))


@cache
def _snowball_languages() -> frozenset[str]:
    import Stemmer

    return frozenset(Stemmer.algorithms())


class _Stemmer(Protocol):
    def stemWord(self, word: str, /) -> str: ...  # noqa: N802 - PyStemmer's name


def _stemmer(algorithm: str) -> _Stemmer:
    import Stemmer

    made: _Stemmer = Stemmer.Stemmer(algorithm, 0)  # 0: terms are remembered once, not twice
    return made


_DEPARTS = re.compile(r"(?:(?<!a)bl|log)(?:ies|[iy](?:ed|ing)?s?)$")
_VOWEL_THEN_CONSONANT = re.compile(r"[aeiou][^aeiou]|[^aeiou]y[^aeiouy]")


@cache
def _snowball_porter() -> _Stemmer:
    return _stemmer("porter")


def _porter(word: str) -> str:
    """Return the stem of an English word.

    Paper: Porter, "An algorithm for suffix stripping", 1980, with the three departures of Porter's
    own program, which Lucene has and Snowball's "porter" has not: words of one or two letters
    stay, and step 2 has bli -> ble in place of abli -> able, and logi -> log.
    """
    if len(word) <= 2:
        return word
    stem = _snowball_porter().stemWord(word)
    if not _DEPARTS.search(word):
        return stem
    if stem.endswith("logi"):
        return stem[:-1] if _has_measure(stem[:-4]) else stem
    return _snowball_porter().stemWord(stem[:-3] + "ble") if _has_measure(stem[:-3]) else stem


def _has_measure(stem: str) -> bool:
    """Return whether a stem's measure m is above 0: a vowel and then a consonant stand in it."""
    return _VOWEL_THEN_CONSONANT.search(stem) is not None


_OTHER_WIDTHS = re.compile(r"[\uff01-\uffdc]+")


def _cjk_tokens(text: str) -> list[str]:
    """Return bigrams of East Asian runs, and other words whole."""
    folded = _OTHER_WIDTHS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    found: list[str] = []
    for token in _tokens(folded, _cjk_pattern()):
        characters = _cjk_characters().findall(token)
        if len(characters) > 1:
            found += map("".join, pairwise(characters))
        else:
            found.append(token)
    return found


@cache
def _cjk_characters() -> _Pattern:
    import regex

    pattern: _Pattern = regex.compile(rf"[{_EAST_ASIAN}]{_MARKS}", regex.V1)
    return pattern
