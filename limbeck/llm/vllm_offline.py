"""vLLM in this process: the whole of a stage in one batch, without a server.

Every call that waits is in vLLM's queue at once, and vLLM's own scheduler composes the batches: a
stage of 300 queries with five samples each is one `LLM.generate` of 1,500 texts to it. Unlike that
call, each answer is handed over, and recorded, when it is complete, so that a kill in the middle of
a stage loses nothing but what was under way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children
from threading import Lock
from typing import Any

from limbeck.errors import LLMError, MissingExtraError, told_by
from limbeck.llm.backend import Completions
from limbeck.llm.orphans import guard
from limbeck.llm.request import Failed, Request
from limbeck.llm.serving.command import vllm_variables
from limbeck.llm.serving.engine import Engine
from limbeck.llm.shared import Shared
from limbeck.llm.vllm_engine import CLOSED, Asked, VLLMEngine
from limbeck.llm.vllm_job import VLLMJob

__all__ = ["Loading", "VLLMOffline"]

_OWN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
"""vLLM's core has a process of its own: there alone are the variables of its loading its own, and
a step that hangs can be ended. In ours vLLM would read them once, for all engines to come.
"""

_LOGGED = {"VLLM_LOGGING_STREAM": "ext://sys.stderr"}
"""Standard output is the program's own: `limbeck eval --json` writes there."""


@dataclass(frozen=True)
class Loading:
    """A model to load, and how; LLMs that say the same share one.

    Attributes:
        model: a folder, or a name on the Hugging Face hub.
        engine: how it is loaded.
        context_length: tokens of prompt and completion together; None is the model's own.
        revision: of the hub.
    """

    model: str
    engine: Engine
    context_length: int | None = None
    revision: str = ""

    def parameters(self) -> dict[str, Any]:
        """Return what `vllm.LLM` is given."""
        engine = self.engine
        given = {
            "model": self.model,
            "dtype": engine.dtype,
            "max_logprobs": engine.max_logprobs,
            "tensor_parallel_size": engine.tensor_parallel_size,
            "enable_prefix_caching": engine.prefix_caching,
            "enforce_eager": engine.enforce_eager,
            "generation_config": "vllm",
            "revision": self.revision or None,
            "max_model_len": self.context_length,
            "quantization": engine.quantization,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "max_num_seqs": engine.max_num_seqs,
        }
        return {name: value for name, value in given.items() if value is not None}


class VLLMOffline:
    """A model in this process, loaded with the first call. Calls come from many threads."""

    def __init__(self, loading: Loading, *, timeout_s: float | None) -> None:
        """Keep what is to be loaded.

        Args:
            loading: the model.
            timeout_s: seconds a call may take once the model is loaded; most of it is waiting in
                vLLM's queue. None: as long as the engine answers others.
        """
        self._engine = _engines.lease(loading)
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._asked: set[Asked] = set()

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return the completions of a request; a listener is told the text once it is complete.

        Raises:
            Failed: "timeout", "prompt too long", or "closed" meanwhile.
            LLMError: the model cannot be loaded, vLLM died or hangs, or refuses the request.
        """
        asked = Asked(VLLMJob(request, first, n))
        with self._lock:
            self._asked.add(asked)
        try:
            made = self._answered(asked)
        finally:
            with self._lock:
                self._asked.discard(asked)
        if listen is not None:
            listen(made.completions[0].text)
        return made

    def close(self) -> None:
        """Give back the model's memory unless another LLM uses it; calls under way are told so."""
        with self._lock:
            asked = list(self._asked)
        for one in asked:
            one.failed(Failed(CLOSED, retry=False))
        self._engine.release()

    def _answered(self, asked: Asked) -> Completions:
        """Return the answer of an engine that is open: the one that is held may just be closed."""
        while not asked.answer.done():
            made = self._engine.held().ask(asked, timeout_s=self._timeout_s)
            if made is not None:
                return made
        return asked.answer.result()


def _engine(loading: Loading) -> VLLMEngine:
    return VLLMEngine(partial(_loaded, loading))


_engines: Shared[Loading, VLLMEngine] = Shared(_engine, VLLMEngine.close)
_environment = Lock()


def _loaded(loading: Loading) -> Any:
    """Return vLLM's engine with the model.

    Raises:
        MissingExtraError: vLLM is not installed.
        LLMError: the model cannot be loaded.
    """
    with _variables(vllm_variables(loading.engine) | _OWN_PROCESS | _LOGGED):
        try:
            import vllm
        except ImportError:
            raise MissingExtraError(
                "vllm", extra="vllm", wanted_by=f"vllm-offline:{loading.model}"
            ) from None
        others = active_children()
        try:
            llm = vllm.LLM(**loading.parameters())
        except Exception as error:  # noqa: BLE001 - vLLM raises whatever it meets
            raise LLMError(
                f"{loading.model} must be a model that vLLM can load; got: {told_by(error)}; look "
                "at what it wrote above, or lower context_length if memory ran out"
            ) from None
        cores = [child for child in active_children() if child.name.startswith("EngineCore")]
        guard(core.pid for core in cores if core not in others and core.pid)
        return llm


@contextmanager
def _variables(told: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment while one engine is loaded.

    vLLM reads them then, and its core, a process that is started then, inherits them.
    """
    with _environment:
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
