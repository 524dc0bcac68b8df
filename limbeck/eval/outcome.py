"""What one pipeline did on one dataset: its run and its account; kept on disk to resume from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import limbeck
from limbeck.artifact import Artifact, write_artifact
from limbeck.errors import LimbeckError, LLMError
from limbeck.eval.datasets import Dataset
from limbeck.eval.rehearsal import rehearse
from limbeck.execution import Execution, Memo, State, Step
from limbeck.fingerprint import digest
from limbeck.llm.model import CALL_FAILED
from limbeck.meter import Usage, metered
from limbeck.pipeline import Node
from limbeck.types import Run

__all__ = ["Outcome", "Shelf", "execute"]

_KIND = "eval-outcome"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Outcome:
    """A pipeline's run on a dataset, with an account of the work that it needed.

    Attributes:
        steps: each distinct piece of work once; work that other pipelines share is in it too.
        fingerprint: the pipeline's, bound to the corpus.
        reused: whether it comes from an earlier evaluation into the same folder.
    """

    run: Run
    steps: tuple[Step, ...]
    fingerprint: str
    reused: bool = False

    @property
    def seconds(self) -> float:
        """Return what the pipeline's steps take, one after the other and with nothing shared."""
        return sum(step.seconds for step in self.steps)

    @property
    def usage(self) -> Usage:
        """LLM calls, tokens and money of all steps."""
        return sum((step.usage for step in self.steps), Usage())

    @property
    def notes(self) -> dict[str, int]:
        """Degradations that the steps noted, with how often."""
        found: dict[str, int] = {}
        for step in self.steps:
            for message, times in step.notes:
                found[message] = found.get(message, 0) + times
        return found

    def require_answers(self) -> None:
        """Refuse an outcome that no LLM had a part in, though it was asked.

        Raises:
            LLMError: no prompt of the pipeline had an answer.
        """
        n_prompts = self.usage.prompts
        if n_prompts and not self.usage.answered:
            said = "; ".join(message for message in self.notes if CALL_FAILED in message)
            raise LLMError(
                f"an LLM must answer for a pipeline that asks one to be measured; none of "
                f"{n_prompts:,} prompts had an answer: {said}; mend that, and run again"
            )

    @property
    def whole(self) -> bool:
        """Whether no LLM call failed, so that another try would change nothing."""
        return not any(CALL_FAILED in message for message in self.notes)


def execute(pipeline: Node, started: State, memo: Memo) -> Outcome:
    """Return the outcome of a bound pipeline on a batch of queries, rehearsed before it is timed.

    Raises:
        LimbeckError: a step failed, or an LLM was asked and never answered.
    """
    execution = Execution(memo)
    with metered():  # the report tells the notes; the log need not
        rehearse(pipeline, started.queries)
        run = pipeline.advance(started, execution).run
    assert run is not None, "the static check lets no pipeline through that makes no run"
    outcome = Outcome(run, execution.steps, pipeline.fingerprint)
    outcome.require_answers()
    return outcome


class Shelf:
    """Finished outcomes in a folder, found again by what they were made of.

    The key is the fingerprint of the bound pipeline, that of the dataset, and Limbeck's version.
    """

    def __init__(self, folder: Path) -> None:
        """Keep outcomes in a folder, which is made when the first one is kept."""
        self._folder = folder

    def _place(self, pipeline: Node, dataset: Dataset) -> Path:
        key = digest(limbeck.__version__, dataset.fingerprint, pipeline.fingerprint)
        return self._folder / key

    def keep(self, outcome: Outcome, pipeline: Node, dataset: Dataset) -> None:
        """Write an outcome, whole or not at all.

        Raises:
            ArtifactError: the disk is full, or the folder cannot be written.
        """
        run = outcome.run
        write_artifact(
            self._place(pipeline, dataset),
            kind=_KIND,
            version=_VERSION,
            parameters={
                "query_ids": list(run.query_ids),
                "score_kind": run.kind,
                "steps": [asdict(step) for step in outcome.steps],
                "digest": _digest(run),
            },
            arrays={"bounds": run.bounds, "rows": run.rows, "scores": run.scores},
        )

    def find(self, pipeline: Node, dataset: Dataset) -> Outcome | None:
        """Return the outcome kept for a pipeline and a dataset; None if none, or a damaged one."""
        try:
            artifact = Artifact.load(self._place(pipeline, dataset), kind=_KIND, version=_VERSION)
            run = _run(artifact, dataset)
            steps = tuple(_step(value) for value in artifact.parameters["steps"])
            whole = artifact.parameters["digest"] == _digest(run)
        except (LimbeckError, KeyError, TypeError, ValueError):
            # Whatever is wrong with it, the mend is the same: do the work again, write it anew.
            return None
        return Outcome(run, steps, pipeline.fingerprint, reused=True) if whole else None


def _run(artifact: Artifact, dataset: Dataset) -> Run:
    said = artifact.parameters
    bounds, rows, scores = (np.array(artifact.array(name)) for name in ("bounds", "rows", "scores"))
    return Run(tuple(said["query_ids"]), bounds, rows, scores, said["score_kind"], dataset.corpus)


def _digest(run: Run) -> str:
    return digest(run.bounds.tobytes(), run.rows.tobytes(), run.scores.tobytes())


def _step(value: Mapping[str, Any]) -> Step:
    notes = tuple((str(message), int(times)) for message, times in value["notes"])
    return Step(value["node"], value["seconds"], Usage(**value["usage"]), notes)
