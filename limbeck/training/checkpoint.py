"""Checkpoints: all that a run needs to go on as if it had never stopped, whole or not there.

Tensors lie in safetensors, plain data in JSON; nothing is pickled, so that a checkpoint from
elsewhere runs no code.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.artifact import Artifact, replacing, write_meta
from limbeck.errors import ArtifactError

__all__ = ["Checkpoint", "keep", "load", "newest", "save", "saving", "steps"]

_KIND = "checkpoint"
_FORMAT = 1
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """What was saved of a run after so many steps."""

    step: int
    state: Mapping[str, Any]


def save(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint.

    Args:
        folder: of the run's checkpoints.
        step: steps that were done.
        state: tensors and plain data, in mappings and lists.

    Raises:
        ArtifactError: the disk is full; older checkpoints are as they were.
    """
    from safetensors.torch import save_file

    place = folder / f"step-{step:08d}"
    with saving(place) as beside:
        tensors: dict[str, Tensor] = {}
        plain = _apart(state, tensors)
        save_file(tensors, beside / "tensors.safetensors")
        (beside / "state.json").write_text(json.dumps(plain), encoding="utf-8")
        write_meta(beside, sorted(beside.iterdir()), _KIND, _FORMAT, {"step": step})
    return place


@contextmanager
def saving(folder: Path) -> Iterator[Path]:
    """Yield an empty folder for weights, which takes the place of another when all went well.

    Raises:
        ArtifactError: the disk is full, or the place cannot be written; it is as it was.
    """
    from safetensors import SafetensorError

    with replacing(folder) as beside:
        try:
            yield beside
        except SafetensorError as error:  # what the system said, in words of its own
            raise OSError(str(error)) from error
        readable = beside.stat().st_mode & 0o666
        for file in beside.rglob("*"):  # safetensors writes for its owner alone
            if file.is_file():
                file.chmod(readable)


def keep(folder: Path, kept: Collection[int]) -> None:
    """Remove the checkpoints of all other steps."""
    for step in set(steps(folder)).difference(kept):
        shutil.rmtree(folder / f"step-{step:08d}", ignore_errors=True)


def steps(folder: Path) -> list[int]:
    """Return the steps of all checkpoints, rising."""
    names = (_NAME.fullmatch(file.name) for file in (folder.iterdir() if folder.is_dir() else ()))
    return sorted(int(name[1]) for name in names if name)


def newest(folder: Path) -> int | None:
    """Return the steps of the newest checkpoint, None where there is none."""
    return max(steps(folder), default=None)


def load(folder: Path, step: int) -> Checkpoint:
    """Return a checkpoint.

    Raises:
        ArtifactError: there is none after so many steps, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    held = Artifact.load(folder / f"step-{step:08d}", kind=_KIND, version=_FORMAT)
    try:
        tensors = load_file(held.path / "tensors.safetensors")
        plain = json.loads((held.path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(
            f"{held.path} must be a readable checkpoint; got: {error}; remove it, and the run goes "
            "on from the one before"
        ) from error
    return Checkpoint(step, _together(plain, tensors))


_TENSOR = "tensor:"


def _apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state with a name in each tensor's place, and the tensors under these names."""
    if isinstance(value, Tensor):
        name = f"{_TENSOR}{len(tensors)}"
        tensors[name] = value.detach().contiguous().cpu().clone()
        return name
    if isinstance(value, Mapping):
        return {"map": [[_apart(k, tensors), _apart(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_apart(item, tensors) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        assert not (isinstance(value, str) and value.startswith(_TENSOR)), value
        return value
    raise TypeError(f"a state must be tensors and plain data; got {type(value).__name__}")


def _together(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value]
    if isinstance(value, dict):
        return {_together(k, tensors): _together(v, tensors) for k, v in value["map"]}
    if isinstance(value, list):
        return [_together(item, tensors) for item in value]
    return value
