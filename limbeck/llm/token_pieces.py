"""Tokenizers that lie in a server: a text goes there, the pieces that are its tokens come back."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from limbeck.errors import LLMError
from limbeck.llm.tokenizer import Tokenizer

__all__ = ["TokenPieces", "pieces_from_vocabulary"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_KEPT = 4096

Form = Literal["NFC", "NFKC"]


class TokenPieces(Tokenizer):
    """A tokenizer by the bytes of a text's tokens; what was asked last is remembered."""

    def __init__(self, pieces: Callable[[str], Sequence[bytes]]) -> None:
        """Use a function from a text to the bytes of each of its tokens."""
        self._ends = functools.lru_cache(maxsize=_KEPT)(functools.partial(_ends, pieces))

    def ends(self, text: str) -> list[int]:
        """Return where each token ends; one that ends inside a character ends before it."""
        return list(self._ends(text))


def _ends(pieces: Callable[[str], Sequence[bytes]], text: str) -> tuple[int, ...]:
    """Return where each token ends, in characters; one that ends inside of one ends before it."""
    found = pieces(text) if text else ()
    shown, places = _spelt(text, b"".join(found))
    read = len(shown) - sum(map(len, found))  # SentencePiece puts a space before the text
    ends: list[int] = []
    for piece in found:
        read += len(piece)
        ends.append(places[len(shown[: max(read, 0)].decode("utf-8", "ignore"))])
    return tuple(ends)


def _spelt(text: str, written: bytes) -> tuple[bytes, Sequence[int]]:
    """Return the form of a text that bytes spell, and how much of the text its prefixes hold."""
    for form, shown in _forms(text):
        if _same(written, shown):
            return shown, _places(text, form)
    return text.encode(), range(len(text) + 1)


def _forms(text: str) -> Iterator[tuple[Form | None, bytes]]:
    """Yield a text as tokenizers may read it: some, as Qwen's, compose an e and its accent."""
    yield None, text.encode()
    yield "NFC", unicodedata.normalize("NFC", text).encode()
    yield "NFKC", unicodedata.normalize("NFKC", text).encode()


def _same(written: bytes, shown: bytes) -> bool:
    """Return whether tokens spell a text; some tokenizers put a space before it."""
    return written.removeprefix(b" ") == shown.removeprefix(b" ")


def _places(text: str, form: Form | None) -> Sequence[int]:
    """Return for each length of a normalised text how much of the text itself it holds.

    What is composed of several characters is held when all of them are.
    """
    if form is None or unicodedata.is_normalized(form, text):
        return range(len(text) + 1)
    places, begin = [0], 0
    for end in range(1, len(text) + 1):
        if end < len(text) and not _is_apart(form, text[begin:end], text[end]):
            continue
        length = len(unicodedata.normalize(form, text[begin:end]))
        places += [begin] * (length - 1) + [end] * bool(length)
        begin = end
    return places


def _is_apart(form: Form, before: str, character: str) -> bool:
    """Return whether a character changes nothing of what stands before it."""
    apart = unicodedata.normalize(form, before) + unicodedata.normalize(form, character)
    return unicodedata.normalize(form, before + character) == apart


@functools.cache
def _alphabet() -> dict[str, int]:
    """Return the byte of each character in which byte-level vocabularies (GPT-2's) are written.

    Bytes that print stand for themselves, the others follow from 256 on, in order.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    named = {chr(byte): byte for byte in printing}
    return named | {chr(256 + place): byte for place, byte in enumerate(others)}


def pieces_from_vocabulary(text: str, entries: Sequence[str]) -> list[bytes]:
    """Return the bytes of a text's tokens from how its vocabulary writes them.

    Args:
        text: what was tokenized.
        entries: its tokens as entries of a byte-level or a SentencePiece vocabulary.

    Raises:
        LLMError: they are neither, or not the tokens of this text.
    """
    for read in (_byte_level, _sentence_piece):
        pieces = [read(entry) for entry in entries]
        if any(_same(b"".join(pieces), shown) for _, shown in _forms(text)):
            return pieces
    raise LLMError(
        "the server's tokens must make up the text that they are of; they do not; give the path of "
        "the model's tokenizer.json by tokenizer_from"
    )


def _byte_level(entry: str) -> bytes:
    return bytes(_alphabet().get(character, 0) for character in entry)


def _sentence_piece(entry: str) -> bytes:
    byte = _BYTE.fullmatch(entry)
    return bytes([int(byte[1], 16)]) if byte else entry.replace("▁", " ").encode()
