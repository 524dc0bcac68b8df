"""Tokenizers for counting and cutting text by the tokens that a model reads."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.errors import UsageError
from limbeck.llm.request import encodable
from limbeck.types import Message

if TYPE_CHECKING:
    import tokenizers

__all__ = ["FALLBACK", "HuggingFace", "Pieces", "Tokenizer", "count_prompt", "load_tokenizer"]

_TOKENS_A_MESSAGE = 4
_TOKENS_A_REPLY = 3


class Tokenizer(ABC):
    """Counts the tokens of a text, and cuts a text to so many. Implement `ends`."""

    @abstractmethod
    def ends(self, text: str) -> list[int]:
        """Return for each token the position in the text, in characters, at which it ends.

        The text holds no lone surrogates.

        A token that ends inside a character ends before it: cutting there leaves whole characters.
        """

    def count(self, text: str) -> int:
        """Return the number of tokens, without any that a chat format adds."""
        return len(self.ends(encodable(text)))

    def cut(self, text: str, n_tokens: int) -> str:
        """Return the longest prefix found that has at most n_tokens tokens, of whole characters."""
        if n_tokens < 1:
            return ""
        text = encodable(text)
        ends = self.ends(text)
        if len(ends) <= n_tokens:
            return text
        prefix = text[: ends[n_tokens - 1]]
        while self.count(prefix) > n_tokens:  # the same text may be split otherwise at its end
            n_tokens -= 1
            prefix = text[: ends[n_tokens - 1]] if n_tokens else ""
        return prefix


class Pieces(Tokenizer):
    """The fallback where a model's own tokenizer is not at hand: it rather counts too many.

    A token is up to four ASCII letters, up to two letters of another alphabet, up to two digits, or
    any other single character that is not white space. Byte-pair vocabularies have about 4.5
    letters to a token of English, so that this counts about a third more than they do, and a text
    cut by it fits.
    """

    _PIECE = re.compile(r"[A-Za-z]{1,4}|[0-9]{1,2}|[\u00c0-\u1fff]{1,2}|\S")

    def ends(self, text: str) -> list[int]:
        """Return where each piece ends."""
        return [piece.end() for piece in self._PIECE.finditer(text)]


FALLBACK = Pieces()


class HuggingFace(Tokenizer):
    """A tokenizer.json, read by the package `tokenizers`."""

    def __init__(self, loaded: tokenizers.Tokenizer) -> None:
        """Use a loaded tokenizer, with any truncation and padding of its file switched off."""
        loaded.no_truncation()
        loaded.no_padding()
        self._loaded = loaded

    def ends(self, text: str) -> list[int]:
        """Return where each token ends; one that ends inside a character ends before it."""
        offsets = self._loaded.encode(text, add_special_tokens=False).offsets
        following = [*(start for start, _ in offsets[1:]), len(text)]
        return [min(end, start) for (_, end), start in zip(offsets, following, strict=False)]


def load_tokenizer(source: str, *, revision: str = "", download: bool = True) -> Tokenizer:
    """Return the tokenizer that a source names.

    Args:
        source: "pieces" for the fallback, the path of a tokenizer.json or of a folder that holds
            one, or a model's name on the Hugging Face hub, which is read from the hub's cache where
            the hub cannot be reached.
        revision: the model's revision on the hub.
        download: whether the hub is asked for what its cache lacks.

    Raises:
        UsageError: there is no such tokenizer.
    """
    if source == "pieces":
        return FALLBACK
    path = Path(source) / "tokenizer.json" if Path(source).is_dir() else Path(source)
    try:
        import tokenizers

        file = path if path.is_file() else _from_hub(source, revision or "main", download)
        return HuggingFace(tokenizers.Tokenizer.from_file(str(file)))
    except Exception as error:  # noqa: BLE001 - both packages raise whatever they meet
        told = str(error).splitlines() or [type(error).__name__]
        raise UsageError(
            "a tokenizer must be 'pieces', a tokenizer.json or a model of the hub; "
            f"got {source!r}: {told[0]}; "
            "give the path of the model's tokenizer.json"
        ) from None


def _from_hub(name: str, revision: str, download: bool) -> str:  # noqa: FBT001
    """Return the path of a model's tokenizer.json: from the hub's cache, else from the hub."""
    if name.endswith(".json"):
        raise FileNotFoundError("there is no such file")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return hf_hub_download(name, "tokenizer.json", revision=revision, local_files_only=True)
    except LocalEntryNotFoundError:
        if not download:
            raise
        return hf_hub_download(name, "tokenizer.json", revision=revision)


def count_prompt(tokenizer: Tokenizer, messages: Iterable[Message]) -> int:
    """Return about how many tokens the messages take with what a chat format adds.

    Four tokens a message and three for the reply's opening, as in OpenAI's formats; others differ
    by a few.
    """
    counts = [tokenizer.count(message.content) + _TOKENS_A_MESSAGE for message in messages]
    return sum(counts) + _TOKENS_A_REPLY
