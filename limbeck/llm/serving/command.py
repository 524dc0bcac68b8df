"""The commands that serve a model: vLLM's server, or llama.cpp's by xllamacpp."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

from limbeck.llm.serving.engine import Engine

__all__ = [
    "KEY_VARIABLES",
    "LLAMACPP_CONTEXT",
    "PYTHON_VARIABLE",
    "Command",
    "Served",
    "serving_command",
    "vllm_problem",
    "vllm_variables",
]

PYTHON_VARIABLE = "LIMBECK_VLLM_PYTHON"
"""The environment variable that names the Python of an environment with vLLM; unset, this one."""

KEY_VARIABLES = {"vllm": "VLLM_API_KEY", "llamacpp": "LLAMA_API_KEY"}
"""The variables that servers, and those who ask them, read their key from: on a command line all
users would see it.
"""

LLAMACPP_CONTEXT = 4096
"""Tokens, where no context length is given; the model's own may take more memory than there is."""

_DEFAULT_SLOTS = 4
"""Texts that llama.cpp generates together: each takes its own part of the context's memory."""


@dataclass(frozen=True)
class Served:
    """A model to serve.

    Attributes:
        family: "vllm" or "llamacpp".
        model: a folder, a name on the Hugging Face hub; of llama.cpp a GGUF file or "smollm2".
        name: what requests call it; empty is the model's own name.
        revision: of the hub.
        context_length: tokens of prompt and completion together; None is the model's own, of
            llama.cpp LLAMACPP_CONTEXT.
        arguments: what vLLM's server is told besides.
    """

    family: str
    model: str
    name: str = ""
    revision: str = ""
    context_length: int | None = None
    engine: Engine = field(default_factory=Engine)
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """What is run, with what is added to the environment, and where it then listens.

    Attributes:
        title: of messages.
        argv: the program and its arguments.
        environment: what is added to this process's.
        address: URL without a path.
        model: what requests call it.
    """

    title: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    address: str
    model: str = ""


def serving_command(served: Served, *, key: str) -> Command:
    """Return the command that serves a model, at a port that is free now unless one is given.

    Args:
        served: the model and how it is loaded.
        key: what a request must hold to be answered; empty: all are.
    """
    engine = served.engine
    port = _free_port(engine.host) if engine.port is None else engine.port
    make = {"vllm": _vllm, "llamacpp": _llamacpp}[served.family]
    argv, environment = make(served, port)
    told = {KEY_VARIABLES[served.family]: key} if key else {}
    host = "127.0.0.1" if engine.host in {"", "0.0.0.0"} else engine.host  # noqa: S104 - compared
    title = f"{served.family}:{served.model}"
    address = f"http://{_bracketed(host)}:{port}"
    name = served.name or served.model
    return Command(title, tuple(argv), environment | told, address, name)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])


def vllm_problem(*, elsewhere: bool) -> tuple[str, str] | None:
    """Return what keeps vLLM from being started and the mend, without starting it.

    Args:
        elsewhere: it may be in another environment than this one.
    """
    if not elsewhere and find_spec("vllm") is None:
        return "vLLM is not installed here", "run: pip install 'limbeck[vllm]'"
    named = os.environ.get(PYTHON_VARIABLE)
    if named and not os.access(named, os.X_OK):
        return (
            f"{PYTHON_VARIABLE} must name the Python of an environment with vLLM; got {named!r}",
            "give its path, such as /opt/vllm/bin/python",
        )
    if named and not _has_vllm(named):
        return (
            f"{PYTHON_VARIABLE} must name the Python of an environment with vLLM; {named} has none",
            f"run: {named} -m pip install vllm, or name another",
        )
    if not named and find_spec("vllm") is None:
        elsewhere_too = f"or export {PYTHON_VARIABLE}=PYTHON, that of an environment with it"
        return "vLLM is not installed here", f"run: pip install 'limbeck[vllm]', {elsewhere_too}"
    return None


@cache
def _has_vllm(python: str) -> bool:
    asked = "import sys, importlib.util as u; sys.exit(u.find_spec('vllm') is None)"
    return subprocess.run([python, "-c", asked], capture_output=True, check=False).returncode == 0  # noqa: S603


def _vllm(served: Served, port: int) -> tuple[list[str], dict[str, str]]:
    engine = served.engine
    given = {
        "model": served.model,
        "served-model-name": served.name or served.model,
        "host": engine.host,
        "port": port,
        "dtype": engine.dtype,
        "max-logprobs": engine.max_logprobs,
        "generation-config": "vllm",
        "revision": served.revision or None,
        "max-model-len": served.context_length,
        "quantization": engine.quantization,
        "tensor-parallel-size": _beyond_one(engine.tensor_parallel_size),
        "data-parallel-size": _beyond_one(engine.data_parallel_size),
        "gpu-memory-utilization": engine.gpu_memory_utilization,
        "max-num-seqs": engine.max_num_seqs,
    }
    switches = {
        "enable-prefix-caching": engine.prefix_caching,
        "no-enable-prefix-caching": not engine.prefix_caching,
        "enforce-eager": engine.enforce_eager,
        "disable-uvicorn-access-log": True,
    }
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    module = "vllm.entrypoints.openai.api_server"  # `vllm serve` needs a package named vllm
    return [python, "-m", module, *_flags(given, switches), *served.arguments], vllm_variables(
        engine
    )


def vllm_variables(engine: Engine) -> dict[str, str]:
    """Return what an engine puts into the environment of vLLM."""
    told = {"DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}
    if engine.batch_invariant:
        told["VLLM_BATCH_INVARIANT"] = "1"
    if engine.cpu_kv_cache_gib is not None:
        told["VLLM_CPU_KVCACHE_SPACE"] = str(engine.cpu_kv_cache_gib)
    return told


def _llamacpp(served: Served, port: int) -> tuple[list[str], dict[str, str]]:
    given = {
        "model": served.model,
        "name": served.name or None,
        "host": served.engine.host,
        "port": port,
        "context-length": served.context_length or LLAMACPP_CONTEXT,
        "slots": served.engine.max_num_seqs or _DEFAULT_SLOTS,
    }
    return [sys.executable, "-m", "limbeck.llm.serving.llamacpp_server", *_flags(given, {})], {}


def _beyond_one(size: int) -> int | None:
    return size if size > 1 else None


def _flags(given: Mapping[str, object], switches: Mapping[str, bool]) -> Iterator[str]:
    for name, value in given.items():
        if value is not None:
            yield from (f"--{name}", str(value))
    yield from (f"--{name}" for name, on in switches.items() if on)
