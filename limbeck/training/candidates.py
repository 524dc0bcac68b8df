"""Candidates: which passages a query is trained with, in versions that are whole or not there.

Miners and ANCE's refresh write versions; the loop reads one at a time. A version is a run
in an artifact folder of its own, which is renamed into place: a reader sees all of it or nothing,
and no batch mixes two.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from limbeck.artifact import Artifact, locked, write_artifact
from limbeck.errors import ArtifactError
from limbeck.types import Documents, Run

__all__ = ["FIRST", "Candidates"]

FIRST = 1
"""The number of the first version: the order of training follows from it."""

_KIND = "candidates"
_FORMAT = 1
_NAME = re.compile(r"v(\d{8})")


class Candidates:
    """The versions of one store, for one corpus. Several processes may write and read it."""

    def __init__(self, folder: Path, corpus: Documents) -> None:
        """Use a folder, which is made by the first version.

        Args:
            folder: one subfolder a version.
            corpus: whose positions the versions hold.
        """
        self.folder = folder
        self._corpus = corpus

    def publish(
        self, run: Run, *, made_by: str, step: int = 0, notes: Mapping[str, int] | None = None
    ) -> int:
        """Write a version and return its number, one above the newest.

        Args:
            run: the candidates of each query with their scores, best first.
            made_by: what made it, in words of the caller.
            step: of training, whose weights found them; 0 for what was there before.
            notes: what there is to say of them, and how many times; who reads them says it.

        Raises:
            ArtifactError: the folder cannot be written.
        """
        with locked(self.folder / "versions"):
            newest = self.newest()
            number = FIRST if newest is None else newest + 1
            write_artifact(
                self._place(number),
                kind=_KIND,
                version=_FORMAT,
                parameters={
                    "corpus": run.corpus.fingerprint,
                    "scores": run.kind,
                    "made_by": made_by,
                    "step": step,
                    "notes": dict(notes or {}),
                },
                arrays={"bounds": run.bounds, "rows": run.rows, "scores": run.scores},
                lines={"queries": run.query_ids},
            )
        return number

    def newest(self) -> int | None:
        """Return the number of the newest version, None where there is none."""
        return max(self._numbers(), default=None)

    def load(self, number: int) -> Run:
        """Return a version, its arrays memory-mapped.

        Raises:
            ArtifactError: there is no such version, or it is of another corpus.
        """
        held = Artifact.load(self._place(number), kind=_KIND, version=_FORMAT)
        if held.parameters["corpus"] != self._corpus.fingerprint:
            raise ArtifactError(
                f"{held.path} must hold candidates of the corpus that is trained on; it is of "
                "another; mine again"
            )
        return Run(
            tuple(held.lines("queries")),
            held.array("bounds"),
            held.array("rows"),
            held.array("scores"),
            str(held.parameters["scores"]),
            self._corpus,
        )

    def told(self, number: int) -> dict[str, Any]:
        """Return what stands beside a version: who made it, from which step."""
        return dict(Artifact.load(self._place(number), kind=_KIND, version=_FORMAT).parameters)

    def keep(self, numbers: Collection[int]) -> None:
        """Remove all versions but these, the first and the newest one."""
        held = self._numbers()
        for number in set(held).difference({*numbers, FIRST, max(held, default=FIRST)}):
            self._remove(number)

    def forget_from(self, step: int) -> None:
        """Remove the versions that weights of this step of training, or of a later one, found."""
        for number in self._numbers():
            if self.told(number)["step"] >= max(1, step):
                self._remove(number)

    def _remove(self, number: int) -> None:
        shutil.rmtree(self._place(number), ignore_errors=True)

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(file.name) for file in self.folder.iterdir())
        return [int(name[1]) for name in found if name]

    def _place(self, number: int) -> Path:
        return self.folder / f"v{number:08d}"
