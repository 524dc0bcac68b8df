"""Artifacts: folders on disk with a meta.json, arrays as .npy, text as JSONL.

A folder is written beside its place and renamed, so that a reader sees all of it or nothing. Arrays
are memory-mapped on load. Nothing is pickled.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError

__all__ = [
    "Artifact",
    "cache_folder",
    "locked",
    "move_into_place",
    "replacing",
    "settled",
    "write_artifact",
    "write_atomically",
    "write_meta",
    "writing",
]

_T = TypeVar("_T")

_META = "meta.json"
_META_PARTS = (
    ("format", int),
    ("kind", str),
    ("version", int),
    ("parameters", dict),
    ("files", dict),
)
_FORMAT = 1
_STALE_S = 24 * 3600.0


def cache_folder(*parts: str) -> Path:
    """Return a folder of Limbeck's cache: $LIMBECK_CACHE, else the user's cache folder."""
    import platformdirs

    root = os.environ.get("LIMBECK_CACHE") or platformdirs.user_cache_dir("limbeck")
    return Path(root).joinpath(*parts)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file beside `path`, so that two processes do not build one thing at once.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    import filelock

    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what kept a path from being written.

    Raises:
        ArtifactError: the disk is full, or the path cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ArtifactError(
                f"{path} must be written whole; the disk is full; nothing was kept of it, "
                "make room and run again"
            ) from error
        raise ArtifactError(f"{path} must be writable; got: {error.strerror or error}") from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill, meets the old or the new one whole."""
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(path)
        try:
            # Made as the umask says, which a file of `tempfile` is not.
            with open(beside, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _keep_mode(path, beside)
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _beside(path: Path, suffix: str = "") -> Path:
    """Return a free hidden name in the folder of a path."""
    return path.with_name(f".{path.name}{suffix}.{secrets.token_hex(4)}")


def _sweep(folder: Path) -> None:
    """Remove what killed writers of a folder left beside it; a living one needs no day."""
    left = re.compile(rf"\.{re.escape(folder.name)}(\.old)?\.[0-9a-f]{{8}}")
    for file in folder.parent.iterdir():
        with suppress(FileNotFoundError):  # another writer sweeps too
            if left.fullmatch(file.name) and time.time() - file.stat().st_mtime > _STALE_S:
                shutil.rmtree(file, ignore_errors=True)


def _keep_mode(old: Path, new: Path) -> None:
    """Give a file or a folder the permissions of what it replaces."""
    with suppress(FileNotFoundError):
        new.chmod(stat.S_IMODE(old.stat().st_mode))


def settled(folder: Path, read: Callable[[], _T]) -> _T:
    """Return what is read of an artifact; it is read again where it was changed meanwhile.

    An update removes what only the artifact before it used, while others may be reading that.
    """
    while True:
        before = _meta_of(folder)
        try:
            return read()
        except ArtifactError:
            if _meta_of(folder) == before:
                raise


def _meta_of(folder: Path) -> bytes | None:
    try:
        return (folder / _META).read_bytes()
    except OSError:
        return None


@dataclass(frozen=True)
class Artifact:
    """An artifact folder that was found whole: every file there and as long as meta.json says."""

    path: Path
    meta: Mapping[str, Any]

    @staticmethod
    def load(path: str | os.PathLike[str], *, kind: str, version: int) -> Artifact:
        """Return the artifact at a path.

        Args:
            path: the folder.
            kind: what the folder must hold, such as "bm25".
            version: the format number of that kind that the caller reads.

        Raises:
            ArtifactError: no artifact is there, or it is another kind or version, or truncated.
        """
        folder = Path(path)
        return settled(folder, lambda: Artifact._loaded(folder, kind, version))

    @staticmethod
    def _loaded(folder: Path, kind: str, version: int) -> Artifact:
        meta = _read_meta(folder)
        if meta["kind"] != kind:
            raise ArtifactError(
                f"{folder} must hold a {kind!r} artifact; it holds {meta['kind']!r}; "
                "give the right folder"
            )
        if meta["version"] != version:
            raise ArtifactError(
                f"{folder} must have format {version} of {kind!r}; it has {meta['version']}; "
                "build it again"
            )
        for name, size in meta["files"].items():
            file = folder / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                came = "is missing" if found is None else f"has {found} bytes"
                raise ArtifactError(
                    f"{file} must have {size} bytes; it {came}; the artifact is truncated, remove "
                    "it and build it again"
                )
        return Artifact(folder, meta)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the artifact was built with."""
        parameters: Mapping[str, Any] = self.meta["parameters"]
        return parameters

    def array(self, name: str) -> NDArray[Any]:
        """Return an array, memory-mapped and read-only."""
        try:
            loaded: NDArray[Any] = np.load(
                self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False
            )
        except Exception as error:  # a damaged header is parsed as Python, and fails as such
            raise ArtifactError(
                f"{self.path / name}.npy must be a readable array; got: {error}; build it again"
            ) from error
        return loaded

    def lines(self, name: str) -> list[Any]:
        """Return the JSON values of a JSONL file."""
        try:
            with open(self.path / f"{name}.jsonl", encoding="utf-8", newline="\n") as file:
                return [json.loads(line) for line in file]
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{self.path / name}.jsonl must be readable; got: {error}; build it again"
            ) from error


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} must be an artifact folder with a {_META}; there is none; "
            "build it, or give the right folder"
        ) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / _META} must be readable; got: {error}") from error
    found = meta if isinstance(meta, dict) else {}
    whole = all(isinstance(found.get(name), kind) for name, kind in _META_PARTS)
    if not whole or found["format"] != _FORMAT:
        raise ArtifactError(
            f"{folder} must be a Limbeck artifact of format {_FORMAT}; it is not; build it again"
        )
    return found


def write_artifact(
    path: str | os.PathLike[str],
    *,
    kind: str,
    version: int,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]] | None = None,
    lines: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """Write an artifact folder beside its place, then rename it into place.

    An artifact that stands there already is replaced; anything else there is left alone.

    Raises:
        ArtifactError: the place is taken by something else, or the disk is full.
    """
    folder = Path(path)
    _require_free(folder)
    with replacing(folder) as beside:
        for name, array in (arrays or {}).items():
            np.save(beside / f"{name}.npy", array, allow_pickle=False)
        for name, values in (lines or {}).items():
            text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
            # What UTF-8 cannot hold, half a character, is escaped as JSON escapes it.
            (beside / f"{name}.jsonl").write_bytes(text.encode(errors="backslashreplace"))
        write_meta(beside, sorted(beside.iterdir()), kind, version, parameters)
    return folder


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of another when the block ends well.

    Raises:
        ArtifactError: the disk is full, or the place cannot be written; it is as it was.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        beside = _beside(folder)
        beside.mkdir()
        try:
            yield beside
            _keep_mode(folder, beside)
            move_into_place(beside, folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def write_meta(
    folder: Path, files: Iterable[Path], kind: str, version: int, parameters: Mapping[str, Any]
) -> None:
    """Write the meta.json that makes a folder an artifact, whole or not at all.

    Args:
        folder: where the artifact lies.
        files: what it holds, each somewhere below the folder; their sizes are kept.
        kind: as `Artifact.load` asks for it.
        version: the format number of that kind.
        parameters: what the artifact was built with.
    """
    import limbeck

    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    meta = {
        "format": _FORMAT,
        "kind": kind,
        "version": version,
        "limbeck": limbeck.__version__,
        "parameters": dict(parameters),
        "files": sizes,
    }
    write_atomically(folder / _META, json.dumps(meta, indent=1, ensure_ascii=False) + "\n")


def _require_free(folder: Path) -> None:
    try:
        # One look: another writer may replace the folder at any time.
        names = [file.name for file in folder.iterdir()]
    except FileNotFoundError:
        return
    except NotADirectoryError:
        names = [folder.name]
    if names and _META not in names:
        raise ArtifactError(f"{folder} must be free or an artifact; it is neither; give another")


def move_into_place(beside: Path, folder: Path) -> None:
    """Rename a new folder into place; what stood there is moved away first, then removed.

    Another writer may come between: the last one to rename stays.
    """
    taken = True
    while taken:
        old = _beside(folder, ".old")
        old.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            os.replace(folder, old)
        try:
            os.replace(beside, folder)
            taken = False
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        shutil.rmtree(old, ignore_errors=True)
