"""Model folders: by path or from the Hugging Face hub, and the digest of what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.errors import ArtifactError, MissingExtraError
from limbeck.fingerprint import digest

__all__ = ["ModelFolder", "model_folder", "require_torch", "without_bars"]

_READ = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")
_NOT_READ = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "training*")


class ModelFolder(NamedTuple):
    """A folder with a model, and the digest of its weights, configuration and vocabulary."""

    path: Path
    digest: str


def require_torch(wanted_by: str) -> None:
    """Raise MissingExtraError unless the packages of the extra `torch` are installed."""
    from importlib.util import find_spec

    for package in ("torch", "transformers", "sentence_transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(package, extra="torch", wanted_by=wanted_by)


def model_folder(name: str) -> ModelFolder:
    """Return the folder of a model: the path itself, else a snapshot of the hub.

    Raises:
        ArtifactError: the folder holds no model, or the hub does not give it.
    """
    folder = Path(name)
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "modules.json")):
            raise ArtifactError(
                f"{folder} must hold a model with a config.json or a modules.json; it has neither; "
                "give the folder of the model"
            )
    else:
        folder = _from_hub(name)
    return ModelFolder(folder, _digest(folder))


def _from_hub(name: str) -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, ignore_patterns=list(_NOT_READ)))
    except (HfHubHTTPError, HFValidationError, httpx.HTTPError, OSError) as error:
        raise ArtifactError(
            "the encoder must be 'minilm', a folder, or a model of the Hugging Face hub; "
            f"{name!r} is no folder here, and the hub gave: {_first_line(error)}; look at the "
            "name, or fetch the model while online and give its folder"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing bars of its own while a model is loaded."""
    from transformers.utils import logging

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _digest(folder: Path) -> str:
    files = sorted({file for pattern in _READ for file in folder.rglob(pattern) if file.is_file()})
    read = [file for file in files if _is_read(file.relative_to(folder))]
    parts: list[str] = []
    for file in read:
        found = file.stat()
        content = _content_digest(file, found.st_size, found.st_mtime_ns)
        parts += [file.relative_to(folder).as_posix(), content]
    return digest(*parts)


@lru_cache(maxsize=1024)
def _content_digest(file: Path, size_bytes: int, changed_ns: int) -> str:  # noqa: ARG001 - a key
    """Return the digest of a file, read once as long as its size and its time stay."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _is_read(file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.parts)
    return not hidden and not any(file.match(pattern) for pattern in _NOT_READ)
