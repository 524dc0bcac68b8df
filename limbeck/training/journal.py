"""What a run tells of itself: a line a step in a file, and to a tracker where one is wanted."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from limbeck.artifact import write_atomically
from limbeck.errors import MissingExtraError

__all__ = ["Journal", "Tracker", "tracker_named"]


class Tracker(Protocol):
    """Where numbers are sent beside the log."""

    def go_on_from(self, step: int) -> None:
        """Forget what came after a step: it is done again."""
        ...

    def tell(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of a step."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class Journal:
    """Writes the log of a run, and knows what was in it."""

    def __init__(self, file: Path, tracker: Tracker | None = None) -> None:
        """Write to a file, which may hold lines already."""
        self._file = file
        self._tracker = tracker
        file.parent.mkdir(parents=True, exist_ok=True)

    def go_on_from(self, step: int) -> None:
        """Forget what came after a step: it is done again."""
        kept = [line for line in self.lines() if line["step"] <= step]
        write_atomically(self._file, "".join(json.dumps(line) + "\n" for line in kept))
        if self._tracker:
            self._tracker.go_on_from(step)

    def tell(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a step."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "at": round(time.time(), 3), **numbers}) + "\n")
        if self._tracker:
            self._tracker.tell(step, numbers)

    def lines(self) -> list[dict[str, Any]]:
        """Return what was written, the first first; a last line that was cut off is left out."""
        found: list[dict[str, Any]] = []
        if not self._file.is_file():
            return found
        for line in self._file.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def close(self) -> None:
        """Let the tracker write what it holds."""
        if self._tracker:
            self._tracker.close()


def tracker_named(
    name: Literal["none", "tensorboard", "wandb"], folder: Path, run: str
) -> Tracker | None:
    """Return the tracker of a name.

    Args:
        name: as in a recipe.
        folder: of the run.
        run: tells it from others; the same where it goes on.

    Raises:
        MissingExtraError: its package is not installed.
    """
    if name == "tensorboard":
        return _TensorBoard(folder)
    return _WandB(folder, run) if name == "wandb" else None


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError(
                "tensorboard", extra="tensorboard", wanted_by="tracker: tensorboard"
            ) from None
        self._open = partial(SummaryWriter, str(folder / "tensorboard"))
        self._writer = self._open()

    def go_on_from(self, step: int) -> None:
        self._writer.close()
        self._writer = self._open(purge_step=step + 1)

    def tell(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, folder: Path, run: str) -> None:
        try:
            import wandb  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise MissingExtraError("wandb", extra="wandb", wanted_by="tracker: wandb") from None
        self._run = wandb.init(dir=str(folder), name=folder.name, id=run, resume="allow")
        self._run.define_metric("*", step_metric="step")  # its own steps never go back

    def go_on_from(self, step: int) -> None:
        """What is told again is drawn at its step again."""

    def tell(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({**numbers, "step": step})

    def close(self) -> None:
        self._run.finish()
