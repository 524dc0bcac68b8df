"""What the settings of a language model open: a connection, a back-end, a tokenizer."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from limbeck.errors import UsageError
from limbeck.llm.backend import Backend
from limbeck.llm.deadline import Deadline
from limbeck.llm.llamacpp import LlamaCpp
from limbeck.llm.openai_compatible import OpenAICompatible
from limbeck.llm.own_tokenizer import served_tokenizer
from limbeck.llm.retry import Patience
from limbeck.llm.scripted import Scripted, replies_in_turn
from limbeck.llm.secrets import resolve
from limbeck.llm.serving.command import Served
from limbeck.llm.serving.managed import Managed
from limbeck.llm.settings import Settings
from limbeck.llm.side_door import SideDoor
from limbeck.llm.token_pieces import TokenPieces
from limbeck.llm.tokenizer import FALLBACK, Tokenizer, load_tokenizer
from limbeck.llm.vllm_offline import Loading, VLLMOffline

__all__ = ["client_of", "connection", "open_backend", "open_tokenizer", "side_door"]

_NO_KEY = "no-key"
"""What the SDK is given where there is none; it is taken out of messages, so no word of them."""


def open_backend(settings: Settings) -> Backend:
    """Return the back-end of settings; what it needs is opened with its first call."""
    if settings.backend is not None:
        return Deadline(settings.backend, timeout_s=settings.deadline_s)
    if settings.family.name == "scripted":
        return Scripted(replies_in_turn(settings.replies))
    if settings.family.name == "llamacpp":
        return _llamacpp(settings)
    if settings.family.name == "vllm-offline":
        return _vllm_offline(settings)
    if settings.engine is not None:
        return _managed(settings)
    client = client_of(settings)
    return Deadline(client, timeout_s=settings.deadline_s)  # headers and errors may trickle too


def client_of(settings: Settings) -> OpenAICompatible:
    """Return the back-end that asks the settings' server over HTTP."""
    return OpenAICompatible(
        settings.name,
        connect=partial(connection, settings),
        timeout_s=settings.deadline_s,
        max_tokens=_bound(settings),
        choices=settings.family.choices,
        key_from=settings.key_from,
    )


def _llamacpp(settings: Settings) -> Backend:
    assert settings.context_length is not None
    return LlamaCpp(
        settings.name,
        context_length=settings.context_length,
        concurrency=settings.at_once,
        timeout_s=settings.deadline_s,
    )


def _vllm_offline(settings: Settings) -> Backend:
    assert settings.loading is not None
    loading = Loading(
        settings.name,
        engine=settings.loading,
        context_length=settings.context_length,
        revision=_hub_revision(settings),
    )
    return VLLMOffline(loading, timeout_s=settings.timeout_s)  # unless given: vLLM's queue is long


def _managed(settings: Settings) -> Backend:
    assert settings.engine is not None

    def connected(base_url: str, key: str) -> Backend:
        client = OpenAICompatible(
            settings.served_name,
            connect=lambda: (base_url, key),
            timeout_s=settings.deadline_s,
            choices=settings.family.choices,
            trust_env=False,
        )
        return Deadline(client, timeout_s=settings.deadline_s)

    served = Served(
        family="vllm",
        model=settings.name,
        name=settings.served_name,
        revision=_hub_revision(settings),
        context_length=settings.context_length,
        engine=settings.engine,
    )
    return Managed(served, connected)


def _hub_revision(settings: Settings) -> str:
    """Return the revision on the hub; that of a folder is for cassettes alone."""
    return "" if Path(settings.name).is_dir() else settings.revision


def _bound(settings: Settings) -> str:
    """Return the parameter that bounds a completion: OpenAI's new name for OpenAI alone."""
    given = settings.base_url is not None and settings.family.name == "openai"
    return "max_tokens" if given else settings.family.max_tokens


def connection(settings: Settings) -> tuple[str, str]:
    """Return base URL and key, both resolved now and kept by nobody but the connection.

    Raises:
        UsageError: a variable of the environment is not set, or holds what cannot be a key.
    """
    key = _key(settings)
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"{settings.model} needs a key of printable ASCII characters; the one given has "
            "others; copy it again"
        )
    return resolve(settings.place, wanted_by=settings.model), key


def _key(settings: Settings) -> str:
    variable = settings.key_variable
    if settings.api_key is not None:
        return resolve(settings.api_key, wanted_by=settings.model).strip()
    if variable is None:
        return _NO_KEY
    if settings.family.key_required:
        return resolve(f"${{env:{variable}}}", wanted_by=settings.model).strip()
    return os.environ.get(variable, "").strip() or _NO_KEY


def side_door(settings: Settings, patience: Patience) -> SideDoor:
    """Return the way to what the settings' server tells beside completions."""
    return SideDoor(partial(connection, settings), patience=patience)


def open_tokenizer(
    settings: Settings, *, backend: Callable[[], Backend], door: Callable[[], SideDoor]
) -> Tokenizer:
    """Return the tokenizer of settings: the model's own where that is the same on all machines.

    Args:
        settings: of the model.
        backend: returns its back-end, opened.
        door: returns the way to what its server tells.

    Raises:
        UsageError: the tokenizer that is named, or must be had, cannot be.
    """
    if settings.tokenizer_from is not None:
        return load_tokenizer(settings.tokenizer_from, revision=settings.revision)
    if settings.family.name == "llamacpp":
        opened = backend()
        assert isinstance(opened, LlamaCpp)
        return TokenPieces(opened.pieces)
    if settings.loading is not None:
        return load_tokenizer(settings.name, revision=settings.revision)
    if settings.family.name in {"vllm", "llama-server"}:
        beside = None if settings.calls_nobody else door()
        return served_tokenizer(settings.model, settings.name, settings.revision, beside)
    return FALLBACK
