"""What a server says of itself: enough to know it again, and how long its prompts may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from limbeck.llm.side_door import SideDoor

__all__ = ["Itself", "listed", "look"]

_VERSIONS = ("/version", "/props", "/api/version", "/info", "/get_server_info")
"""Where vLLM, llama.cpp, Ollama, TGI and SGLang tell which they are."""

_STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Itself:
    """What a server says of itself.

    Attributes:
        server: its name and version; empty where it does not say.
        models: what it serves.
        root: what the model is behind its name: a folder, a name on the hub.
        context_length: tokens of prompt and completion together, None where it does not say.
        started: when, as it writes it; empty where it does not say.
    """

    server: str
    models: tuple[str, ...]
    root: str
    context_length: int | None
    started: str


def look(door: SideDoor, name: str) -> Itself:
    """Return what a server says of itself and of a model; nothing is generated.

    Raises:
        Failed: it cannot be reached.
    """
    models = list(listed(door.get("models")))
    own = next((model for model in models if model["id"] == name), {})
    told = next((info for path in _VERSIONS if isinstance(info := door.get(path), dict)), {})
    metrics = _STARTED.search(door.text("/metrics") or "")
    return Itself(
        server=_server(models, told),
        models=tuple(sorted(model["id"] for model in models)),
        root=str(own.get("root") or ""),
        context_length=_context(own, told),
        started=metrics[1] if metrics else "",
    )


def listed(told: object) -> Iterator[dict[str, Any]]:
    """Yield the models of an answer of /v1/models."""
    data = told.get("data") if isinstance(told, dict) else None
    for model in data if isinstance(data, list) else ():
        if isinstance(model, dict) and isinstance(model.get("id"), str):
            yield model


def _server(models: list[dict[str, Any]], told: dict[str, Any]) -> str:
    owner = next((str(model["owned_by"]) for model in models if model.get("owned_by")), "")
    if told.get("build_info"):
        return f"llama.cpp {told['build_info']}"
    version = told.get("version")
    return f"{owner or 'server'} {version}" if isinstance(version, str) else owner


def _context(model: dict[str, Any], told: dict[str, Any]) -> int | None:
    settings = told.get("default_generation_settings")
    length = model.get(
        "max_model_len", settings.get("n_ctx") if isinstance(settings, dict) else None
    )
    return length if isinstance(length, int) and length > 0 else None
