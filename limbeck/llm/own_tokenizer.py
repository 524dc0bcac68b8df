"""A model's own tokenizer, wherever it can be had: its files on this machine, else its server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from limbeck.errors import LLMError, UsageError
from limbeck.llm.itself import listed
from limbeck.llm.llamacpp import llama_pieces
from limbeck.llm.request import Failed
from limbeck.llm.side_door import SideDoor
from limbeck.llm.token_pieces import TokenPieces, pieces_from_vocabulary
from limbeck.llm.tokenizer import Tokenizer, load_tokenizer

__all__ = ["served_tokenizer"]

_MEND = "give tokenizer_from: the path of the model's tokenizer.json, or 'pieces' for an estimate"


def served_tokenizer(model: str, name: str, revision: str, door: SideDoor | None) -> Tokenizer:
    """Return the tokenizer of a model that a server of vLLM or llama.cpp serves.

    All ways give the same tokens, so that what is asked does not depend on the machine. The hub is
    not asked: only its cache.

    Args:
        model: back-end and name, for messages.
        name: what requests call the model, which mostly is its name on the hub.
        revision: of the hub.
        door: to its server; None where the server must not be asked.

    Raises:
        UsageError: there is no such tokenizer on this machine, and no server to ask.
        LLMError: the server does not tell, or cannot be reached.
    """
    ask = _llama if model.startswith("llama-server:") else _vllm
    if ask is _vllm:
        for source in _sources(model, name, door):
            found = _on_this_machine(source, revision)
            if found is not None:
                return found
    pieces = None if door is None else ask(door, name)
    if door is None:
        raise UsageError(
            f"{model} needs its model's tokenizer to know how long a text is; it is not on this "
            f"machine, and its server must not be asked; {_MEND}"
        )
    pieces = _reached(model, ask(door, name))
    pieces("a")  # one that does not tell is found before a stage begins
    return TokenPieces(pieces)


_Pieces = Callable[[str], list[bytes]]


def _reached(model: str, ask: _Pieces) -> _Pieces:
    """Return a function that asks as the given one does, and says what is wrong if it cannot."""

    def pieces(text: str) -> list[bytes]:
        try:
            found = ask(text)
        except Failed as error:
            raise LLMError(
                f"{model} must be reachable to tell how long a text is; it is not: "
                f"{error.reason}; start its server again, or {_MEND}"
            ) from None
        if text and not found:
            raise LLMError(f"{model} must tell how it cuts text to tokens; it does not; {_MEND}")
        return found

    return pieces


def _sources(model: str, name: str, door: SideDoor | None) -> Iterator[str]:
    """Yield where the tokenizer may lie: where the server has the model from, then its name."""
    try:
        served = (
            {} if door is None else {m["id"]: m.get("root") for m in listed(door.get("models"))}
        )
    except Failed:
        served = {}
    if served and name not in served:
        raise LLMError(
            f"{model} must be a model that its server serves; that is {', '.join(served)}; give "
            "its name"
        )
    root = served.get(name)
    if isinstance(root, str):
        yield root
    yield name


def _on_this_machine(source: str, revision: str) -> Tokenizer | None:
    """Return the tokenizer of a folder or of the hub's cache.

    A name is never a path from where the program happens to run.
    """
    if source == "pieces" or (Path(source).exists() and not Path(source).is_absolute()):
        return None
    try:
        return load_tokenizer(source, revision=revision, download=False)
    except UsageError:
        return None


def _vllm(door: SideDoor, name: str) -> _Pieces:
    def pieces(text: str) -> list[bytes]:
        asked = {"model": name, "prompt": text, "add_special_tokens": False}
        answer: Any = door.post("/tokenize", asked | {"return_token_strs": True})
        told = answer.get("token_strs") if isinstance(answer, dict) else None
        return pieces_from_vocabulary(text, told) if isinstance(told, list) else []

    return pieces


def _llama(door: SideDoor, name: str) -> _Pieces:  # noqa: ARG001 - one model
    def pieces(text: str) -> list[bytes]:
        try:
            return llama_pieces(door.post, text)
        except (TypeError, KeyError):
            return []

    return pieces
