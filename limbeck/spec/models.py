"""Models in a spec file: built in, on the Hugging Face hub, or below the file's folder."""

from __future__ import annotations

from pathlib import Path

from limbeck.errors import UsageError
from limbeck.llm import llamacpp
from limbeck.retrieval.encoders.conventions import MINILM
from limbeck.retrieval.encoders.folders import is_path

__all__ = ["BUILT_IN", "MODEL_FIELDS", "below", "found", "found_anywhere"]

MODEL_FIELDS = frozenset({"align_to", "base", "encoder", "model", "teacher", "tokenizer_from"})
"""Parameters that hold the name of a model or its path."""

BUILT_IN = frozenset({MINILM, "pieces", *llamacpp.PACKAGED})
"""Names that mean a model of Limbeck's own; `./minilm` means the folder."""


def found(name: str, folder: Path) -> str:
    """Return the path of what a name means below a folder, else the name: built in, or of the hub.

    A link keeps its own name, from which an encoder's convention is known.

    Raises:
        UsageError: it leads out of the folder, or can only be a path and nothing is there.
    """
    if name in BUILT_IN:
        return name
    path = below(name, folder)
    if path.exists():
        return str(path)
    if (
        name.endswith(".json")
        or is_path(name)
        or (len(Path(name).parts) > 1 and (folder / Path(name).parts[0]).is_dir())
    ):
        raise UsageError(
            f"a model that is named by a path must be there; got {name!r}, and {path} does not "
            "exist; change the path, or fetch the model"
        )
    if Path(name).exists():
        raise UsageError(
            "a model must be a name, or a path in the spec's folder; "
            f"{name!r} is a path in the working directory alone; move the spec, or the model"
        )
    return name


def found_anywhere(name: str, _: Path) -> str:
    """Return the path of what a name means where its giver may name any, else the name.

    Raises:
        UsageError: it can only be a path, and nothing is there.
    """
    path = Path(name).expanduser()
    if name in BUILT_IN or not (path.exists() or is_path(name)):
        return name
    if not path.exists():
        raise UsageError(f"a model that is named by a path must be there; {path} does not exist")
    return str(path.resolve())


def below(name: str, folder: Path) -> Path:
    """Return the path of a name below a folder, whether or not something is there.

    Raises:
        UsageError: it leads out of the folder, or no system has such a path.
    """
    given = Path(name)
    path = folder / given
    try:
        inside = path.resolve().is_relative_to(folder)
        path.exists()
    except (OSError, ValueError, RuntimeError):
        raise UsageError(
            f"a model must be a name or a path; got {name[:80]!r}; change it"
        ) from None
    if given.is_absolute() or ".." in given.parts or name.startswith("~") or not inside:
        raise UsageError(
            f"a model must be a name, or a path in the spec's folder; got {name!r}; "
            "move the model, or compose the pipeline in Python"
        )
    return path
