"""A run's folder: what lies where, and whose it is. One process trains there at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from limbeck.artifact import write_atomically, writing
from limbeck.errors import UsageError

__all__ = ["Folders", "alone", "claim", "require_model"]

_FILE = "run.json"
_LOCK = "run.lock"


@dataclass(frozen=True)
class Folders:
    """Where the parts of a run lie.

    Attributes:
        out: all that is written.
        data: the collection.
    """

    out: Path
    data: Path

    @property
    def model(self) -> Path:
        """What was trained."""
        return self.out / "model"

    @property
    def checkpoints(self) -> Path:
        """What a stopped run goes on from."""
        return self.out / "checkpoints"

    @property
    def best(self) -> Path:
        """The weights that had the best score on the dev split."""
        return self.out / "best"

    @property
    def candidates(self) -> Path:
        """The versions of the negatives."""
        return self.out / "candidates"

    @property
    def log(self) -> Path:
        """A line a step."""
        return self.out / "log.jsonl"


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from training into a folder.

    Raises:
        UsageError: one does.
        ArtifactError: the folder cannot be written.
    """
    import filelock

    was_there = out.is_dir()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / _LOCK)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise UsageError(
                f"{out} must be used by one process; another one trains there; wait for it, or "
                "give another folder"
            ) from None
    try:
        yield
    finally:
        if not was_there:
            _remove_unused(out)
        lock.release()


def _remove_unused(out: Path) -> None:
    """Remove a folder that was made for a run which did not even begin."""
    with suppress(OSError):  # another process began there, or somebody removed it
        if {held.name for held in out.iterdir()} == {_LOCK}:
            (out / _LOCK).unlink()
            out.rmdir()


def claim(folders: Folders, identity: str) -> None:
    """Let a folder be that of a run.

    What another run left there before its first checkpoint is removed: mined negatives, and a log.

    Raises:
        UsageError: it is that of another run that got further, or holds what no run has claimed.
        ArtifactError: it cannot be written.
    """
    out = folders.out
    file = out / _FILE
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    is_claimed = file.is_file()
    if is_claimed and json.loads(file.read_text(encoding="utf-8"))["identity"] == identity:
        return
    is_begun = folders.checkpoints.is_dir() and any(folders.checkpoints.iterdir())
    is_taken = is_begun if is_claimed else {held.name for held in out.iterdir()} - {_LOCK}
    if is_taken:
        raise UsageError(
            f"{out} must be free, or hold this run; it holds something else, or this run with "
            "another recipe, model or data; give another folder, or remove it"
        )
    for left in (folders.candidates, folders.best):
        shutil.rmtree(left, ignore_errors=True)
    folders.log.unlink(missing_ok=True)
    write_atomically(file, json.dumps({"identity": identity}) + "\n")


def require_model(folder: Path) -> None:
    """Raise UsageError where there is no folder of a model, and say what there is."""
    if not folder.is_dir():
        unfinished = (folder.parent / _FILE).is_file()
        came = (
            "the run there has not ended; train on" if unfinished else "there is none; look again"
        )
        raise UsageError(f"{folder} must be the folder of a model; {came}")
