"""How a model is loaded and served here: the options of `limbeck llm serve`, and of a spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from limbeck.errors import UsageError

__all__ = ["FAMILIES_WITH_ENGINE", "Engine"]

FAMILIES_WITH_ENGINE = ("vllm", "vllm-offline")
"""Whose models a spec can have loaded; llama.cpp's always are."""


def _option(default: Any, what: str, *families: str) -> Any:
    """Return a field; without families it is of all that start a server."""
    return field(default=default, metadata={"help": what, "families": families or _SERVERS})


_SERVERS = ("vllm", "llamacpp")
_VLLM = ("vllm", "vllm-offline")
_ON, _OFF = True, False


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The names are vLLM's own, and mean what its documentation says.

    Prefixes of prompts are cached, log-probabilities are those of the model before temperature, and
    sampling parameters that a request does not name are neutral: what a model's makers recommend in
    its generation_config.json is not mixed in.

    Raises:
        UsageError: a number is out of range.
    """

    host: str = _option("127.0.0.1", "Address to listen on.")
    port: int | None = _option(None, "Port to listen on; unless given, a free one.")
    dtype: str = _option("auto", "Type of weights and activations.", *_VLLM)
    quantization: str | None = _option(None, "How weights are quantised, such as fp8.", *_VLLM)
    tensor_parallel_size: int = _option(1, "GPUs that one copy of the model is cut over.", *_VLLM)
    data_parallel_size: int = _option(1, "Copies of the model.", "vllm")
    gpu_memory_utilization: float | None = _option(
        None, "Share of each GPU's memory to use, such as 0.9.", *_VLLM
    )
    max_num_seqs: int | None = _option(
        None, "Texts generated together at most.", *_VLLM, "llamacpp"
    )
    max_logprobs: int = _option(20, "Alternatives a request may ask for.", *_VLLM)
    prefix_caching: bool = _option(_ON, "Keep what prompts begin with in common.", *_VLLM)
    batch_invariant: bool = _option(
        _OFF, "The same text whatever is generated beside it; slower, not on all GPUs.", *_VLLM
    )
    enforce_eager: bool = _option(_OFF, "Start sooner, generate slower.", *_VLLM)
    cpu_kv_cache_gib: int | None = _option(
        None, "Without a GPU: memory for keys and values.", *_VLLM
    )
    start_timeout_s: float = _option(1800.0, "How long loading the model may take.", *_SERVERS)
    restarts: int = _option(3, "Starts anew within ten minutes, if it dies or hangs.", *_SERVERS)

    def __post_init__(self) -> None:
        for complaint in self._complaints():
            raise UsageError(complaint)

    def _complaints(self) -> Iterator[str]:
        for name in ("tensor_parallel_size", "data_parallel_size", "max_num_seqs"):
            yield from self._below(name, 1)
        for name in ("max_logprobs", "restarts", "cpu_kv_cache_gib"):
            yield from self._below(name, 0)
        if self.port is not None and not 0 < self.port < 1 << 16:
            yield f"port must lie in [1, 65535]; got {self.port}; leave it out for a free one"
        share = self.gpu_memory_utilization
        if share is not None and not 0 < share <= 1:
            yield f"gpu_memory_utilization must lie in (0, 1]; got {share}; it is a share"
        if not self.start_timeout_s > 0:
            yield f"start_timeout_s must be above 0; got {self.start_timeout_s}"

    def _below(self, name: str, least: int) -> Iterator[str]:
        value = getattr(self, name)
        if value is not None and value < least:
            yield f"{name} must be {least} or more; got {value}"

    def foreign_to(self, family: str) -> list[str]:
        """Return the options that are set and that a family does not have."""
        return [
            f.name
            for f in dataclasses.fields(self)
            if family not in f.metadata["families"] and getattr(self, f.name) != f.default
        ]

    @property
    def revision(self) -> str:
        """What of this may change a text, for cassettes and fingerprints; empty by default."""
        told = {
            name: getattr(self, name)
            for name in ("dtype", "quantization", "batch_invariant")
            if getattr(self, name) != type(self).__dataclass_fields__[name].default
        }
        return " ".join(f"{name}={value}" for name, value in told.items())
