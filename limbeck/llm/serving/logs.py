"""The logs of servers, in the cache: one for each server, and a few of those that ended."""

from __future__ import annotations

import itertools
import os
import re
from contextlib import suppress
from pathlib import Path

from limbeck.artifact import cache_folder

__all__ = ["new_log"]

_KEPT = 20
_OWNER = re.compile(r"\.(\d+)\.\d+\.log$")
_numbers = itertools.count(1)


def new_log(model: str) -> Path:
    """Return where a server of this process is to write.

    Old logs are removed, but no living process's: one that says nothing for days may yet say why
    it died.
    """
    folder = cache_folder("servers")
    _prune(folder)
    name = re.sub(r"[^\w.-]+", "-", model).strip("-")[-80:]
    return folder / f"{name}.{os.getpid()}.{next(_numbers)}.log"


def _prune(folder: Path) -> None:
    ended = sorted((log for log in folder.glob("*.log") if not _is_held(log)), key=_age)
    for log in ended[_KEPT:]:
        with suppress(OSError):
            log.unlink()


def _age(log: Path) -> float:
    """Return a number that is the greater the older the log is; another process may remove it."""
    try:
        return -log.stat().st_mtime
    except OSError:
        return 0.0


def _is_held(log: Path) -> bool:
    """Return whether the process that the log's name tells is there."""
    owner = _OWNER.search(log.name)
    if owner is None:
        return False
    try:
        os.kill(int(owner[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
