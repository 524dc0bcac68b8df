"""Model folders: by path or from the Hugging Face hub, and the digest of what is in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.errors import (
    ArtifactError,
    LimbeckError,
    MissingExtraError,
    Problem,
    UsageError,
)
from limbeck.files import NOT_FOR_TORCH, content_digest, folder_digest
from limbeck.fingerprint import digest

__all__ = [
    "WEIGHTS",
    "ModelFiles",
    "ModelFolder",
    "examine_model",
    "input_length",
    "is_path",
    "local_folder",
    "model_folder",
    "onnx_alone",
    "onnx_files",
    "onnx_pair",
    "read_json",
    "require_head",
    "require_length",
    "require_states",
    "require_torch",
    "without_bars",
]

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_ONNX_NAMES = ("model.onnx", "onnx/model.onnx")

_LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff]\x01)")
"""An entry of TensorProto.external_data: the key, then the name behind its length."""

_COMMON_LENGTH = 512
"""Positions of a BERT: the length of a model whose folder states none."""


_COUNTED_FROM_PADDING = frozenset({"camembert", "longformer", "mpnet", "roberta", "xlm-roberta"})
"""Models whose first position is the one behind the padding token's: 512 of 514 are of use."""


_INSTEAD = "look at the name, or fetch the model while online and give its folder"

_HUB_NAME = re.compile(r"(\b[\w.-]+\b/)?\b[\w.-]+\b", re.ASCII)
"""What `huggingface_hub` takes for a name, but for doubled dots and dashes."""


class ModelFolder(NamedTuple):
    """A folder with a model, and the digest of its weights, configuration and vocabulary."""

    path: Path
    digest: str


class ModelFiles(NamedTuple):
    """A model in ONNX with its tokenizer; `digest` is that of all files that it is read from."""

    model: Path
    tokenizer: Path
    digest: str


def onnx_pair(folder: Path) -> tuple[Path, Path] | None:
    """Return model.onnx (or onnx/model.onnx) and tokenizer.json; None where one is missing."""
    tokenizer = folder / "tokenizer.json"
    models = [folder / name for name in _ONNX_NAMES if (folder / name).is_file()]
    return (models[0], tokenizer) if models and tokenizer.is_file() else None


def onnx_alone(folder: Path) -> tuple[Path, Path] | None:
    """Return what `onnx_pair` does; None where weights for torch lie beside it.

    So a folder means the same model whether torch is installed or not, and the same as its name on
    the hub does.
    """
    pair = onnx_pair(folder)
    if pair is None or any(file for weights in WEIGHTS for file in folder.glob(weights)):
        return None
    return pair


def onnx_files(folder: Path) -> ModelFiles | None:
    """Return the ONNX model of a folder; None where it has none, or weights for torch beside it."""
    pair = onnx_alone(folder)
    if pair is None:
        return None
    beside = [folder / name for name in ("config.json", "tokenizer_config.json")]
    read = [*pair, *(file for file in (*beside, *_external(pair[0])) if file.is_file())]
    return ModelFiles(*pair, digest(*(content_digest(file) for file in read)))


def _external(model: Path) -> list[Path]:
    """Return the files of weights that an ONNX model names, wherever it keeps them."""
    found = model.stat()
    return [model.parent / name for name in _named_in(model, found.st_size, found.st_mtime_ns)]


@lru_cache(maxsize=1024)
def _named_in(model: Path, size_bytes: int, changed_ns: int) -> tuple[str, ...]:  # noqa: ARG001 - a key
    """Return the places that the tensors of a model give for their data, each once."""
    content = model.read_bytes()
    places = set()
    for at in _LOCATION.finditer(content):
        length = at[1][0] % 128 + 128 * (len(at[1]) - 1)  # a varint of one byte or two
        places.add(content[at.end() : at.end() + length].decode("utf-8", "replace"))
    return tuple(sorted(places))


def input_length(folder: Path, stated: int | None, name: str = "max_tokens") -> int:
    """Return the tokens that inputs of a model are cut to: as stated, else the model's own length.

    The own length is what the tokenizer's settings say, such as that of an earlier training; more
    may be asked for, up to the positions that the model has.

    Args:
        folder: the model's folder.
        stated: the length that is asked for.
        name: of the parameter that states it.

    Raises:
        UsageError: the model has fewer positions than are asked for.
    """
    config = read_json(folder / "config.json")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _COUNTED_FROM_PADDING:
        pad = config.get("pad_token_id")
        positions -= (1 if pad is None else pad) + 1  # null, as left out, is RoBERTa's own: 1
    told = read_json(folder / "tokenizer_config.json").get("model_max_length")
    found = [int(n) for n in (positions, told) if isinstance(n, (int, float))]
    most = found[0] if found else _COMMON_LENGTH
    if stated is not None and stated > most:
        raise UsageError(
            f"{name} must be {most} or less for {folder}; got {stated}; give {name}={most}"
        )
    return stated or min(found, default=_COMMON_LENGTH)


def require_length(folder: Path, stated: int | None) -> None:
    """Raise UsageError unless the transformers among a folder's modules can read so many tokens."""
    for config in sorted(folder.rglob("config.json")):
        if "max_position_embeddings" in read_json(config):
            input_length(config.parent, stated)


def read_json(file: Path) -> dict[str, Any]:
    """Return what a model's JSON file states; nothing where there is no such file.

    Raises:
        ArtifactError: it is there, and no JSON object.
    """
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} must be JSON; got: {error}; fetch the model again") from error
    return read if isinstance(read, dict) else {}


def require_head(folder: Path, head: str, wanted: str) -> None:
    """Raise ArtifactError for what transformers would load with a head of random weights.

    Args:
        folder: the model's folder.
        head: how the architecture's name must end.
        wanted: names the kind of model to give.
    """
    stated = read_json(folder / "config.json").get("architectures") or []
    if not any(str(name).endswith(head) for name in stated):
        raise ArtifactError(
            f"{folder} must hold {wanted}, a model such as Bert{head}; its config.json names "
            f"{', '.join(map(str, stated)) or 'none'}; give another"
        )


def require_states(folder: Path, wanted: str) -> None:
    """Raise ArtifactError for a cross-encoder: its states are trained to judge pairs.

    Args:
        folder: the model's folder.
        wanted: names the kind of model to give.
    """
    stated = read_json(folder / "config.json").get("architectures") or []
    if any(str(name).endswith("ForSequenceClassification") for name in stated):
        raise ArtifactError(
            f"{folder} must hold {wanted}; its config.json names {', '.join(map(str, stated))}, "
            "which reads pairs; give another, or rerank by it with cross-encoder"
        )


def examine_model(require: Callable[[], object], place: str, problems: list[Problem]) -> None:
    """Append what is wrong with a node's model, as far as files that lie here tell.

    Args:
        require: raises a LimbeckError where something is; it loads and fetches nothing.
        place: of the node.
        problems: the findings.
    """
    try:
        require()
    except LimbeckError as error:
        problems.append(Problem(place, str(error), ""))


def require_torch(wanted_by: str, *, extra: str = "torch") -> None:
    """Raise MissingExtraError unless the packages of the extra `torch` are installed.

    Args:
        wanted_by: what needs them.
        extra: the one to install, where it is another that holds them too.
    """
    from importlib.util import find_spec

    for package in ("torch", "transformers", "sentence_transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(package, extra=extra, wanted_by=wanted_by)


def is_path(name: str) -> bool:
    """Return whether a model's name can only be a path: the hub has no name of that form."""
    return not _HUB_NAME.fullmatch(name) or "--" in name or ".." in name


def local_folder(name: str) -> Path | None:
    """Return the folder that a model's name means here; None where it is a name of the hub.

    Raises:
        ArtifactError: the folder holds no model, or the name is that of a file, or can only be a
            path and nothing is there.
    """
    folder = Path(name)
    if folder.is_dir():
        if not any((folder / file).is_file() for file in ("config.json", "modules.json")):
            raise ArtifactError(
                f"{folder} must hold a model with a config.json or a modules.json; it has neither; "
                "give the folder of the model"
            )
        return folder
    if folder.exists():
        raise ArtifactError(
            f"a model must be a folder; {name} is a file; give the folder that it lies in"
        )
    if is_path(name):
        raise ArtifactError(
            f"a model that is named by a path must be there; got {name!r}, and {folder.absolute()} "
            "does not exist; change the path, or fetch the model"
        )
    return None


def model_folder(name: str, *, built_in: str | None = None, instead: str = _INSTEAD) -> ModelFolder:
    """Return the folder of a model: the path itself, else a snapshot of the hub.

    Args:
        name: of the model.
        built_in: a name that needs neither, where there is one, for messages.
        instead: what to do where the hub does not give it, for messages.

    Raises:
        ArtifactError: the folder holds no model, or the hub does not give it.
    """
    folder = local_folder(name) or _from_hub(name, built_in, instead)
    return ModelFolder(folder, folder_digest(folder))


def _from_hub(name: str, built_in: str | None, instead: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, ignore_patterns=list(NOT_FOR_TORCH)))
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:  # type: ignore[attr-defined]
        known = "" if built_in is None else f", or {built_in!r}"
        raise ArtifactError(
            f"a model must be a folder, or a name on the Hugging Face hub{known}; {name!r} is no "
            f"folder here, and {_why(error)}; {instead}"
        ) from error


def _why(error: Exception) -> str:
    """Return why the hub gave no model."""
    from huggingface_hub import errors

    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no model of that name that you may read"
    if not isinstance(error, errors.LocalEntryNotFoundError):
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return f"the hub gave: {first}"
    if isinstance(error.__cause__, errors.OfflineModeIsEnabled):
        return "the hub's cache does not hold it, and HF_HUB_OFFLINE forbids to ask the hub"
    return f"the hub's cache does not hold it, and the hub cannot be reached ({error.__cause__})"


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
