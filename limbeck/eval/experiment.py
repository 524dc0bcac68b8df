"""An experiment: several pipelines on several datasets, shared work done once, finished work kept.

A pipeline that fails on a stated error does not take the others with it: the report names the error
(`Report.failures`), and the next run into the same folder does only what is missing.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import limbeck
from limbeck.errors import CheckError, LimbeckError, Problem, UsageError
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import DEFAULT_MEASURES, parse_measures
from limbeck.eval.outcome import Shelf, execute
from limbeck.eval.results import DatasetResult, PipelineResult, Report, compare, judge
from limbeck.eval.significance import N_FLIPS, N_RESAMPLES
from limbeck.execution import Memo, State
from limbeck.pipeline import Given, Node
from limbeck.progress import track
from limbeck.trec import require_carried

__all__ = ["RESUME_FOLDER", "TIE_RULE", "Experiment"]

RESUME_FOLDER = ".resume"
TIE_RULE = "score descending, then document id descending by code point, as in trec_eval"


@dataclass(frozen=True)
class Experiment:
    """Pipelines to be run and measured on datasets; the first pipeline is the one to beat.

    Attributes:
        measures: ir-measures names; the first one is what plots show.
        seed: of the bootstrap and of the randomisation test.
        out: folder of the report; finished pipelines are kept in `.resume` below it, and reused
            where pipeline, dataset and version are the same. None keeps nothing.
        resume: False does all work again, and keeps the new outcomes.
    """

    pipelines: Mapping[str, Node]
    datasets: Sequence[Dataset]
    measures: str | Sequence[str] = DEFAULT_MEASURES
    seed: int = 0
    out: Path | None = None
    resume: bool = True

    def __post_init__(self) -> None:
        if not self.pipelines or not self.datasets:
            raise UsageError(
                "an experiment must have a pipeline and a dataset; got "
                f"{len(self.pipelines)} pipelines and {len(self.datasets)} datasets; add one"
            )
        if self.seed < 0:
            raise UsageError(f"a seed must be 0 or more; got {self.seed}")
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) != len(names):
            raise UsageError(
                f"datasets must have names of their own; got {', '.join(names)}; rename a folder"
            )

    def run(self) -> Report:
        """Return the report of all pipelines on all datasets.

        Raises:
            UsageError: a measure is unknown, or `out` can be no folder.
            DataError: an id is one that the files of a report cannot carry; nothing was run.
            CheckError: the static check refuses a pipeline; nothing was run.
            ArtifactError: a finished outcome cannot be kept; those before it are.
        """
        measures = parse_measures(self.measures)
        self._check()
        self._require_out()
        results = tuple(self._on(dataset, measures) for dataset in self.datasets)
        return Report(results, measures, self._settings())

    def _check(self) -> None:
        """Refuse, before anything is loaded or spent, what cannot run on each of the datasets."""
        found = [
            problem
            for name, pipeline in self.pipelines.items()
            for dataset in self.datasets
            for problem in _problems(pipeline, name, dataset)
        ]
        if found:
            raise CheckError(tuple(dict.fromkeys(found)))

    def _require_out(self) -> None:
        """Refuse, before hours of work, a place and ids that no report can be written with."""
        if self.out is None:
            return
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"a report must have a folder that can be made; {self.out}: "
                f"{error.strerror or error}; give another"
            ) from None
        for dataset in self.datasets:
            where = f"the run of {dataset.name}"
            require_carried((query.query_id for query in dataset.queries), where)
            require_carried(dataset.corpus.doc_ids, where)

    def _on(self, dataset: Dataset, measures: Sequence[str]) -> DatasetResult:
        started = State.start(dataset.queries)
        memo = Memo()
        shelf = Shelf(self.out / RESUME_FOLDER) if self.out else None
        results: list[PipelineResult] = []
        failed: dict[str, str] = {}
        label = f"evaluate on {dataset.name}"
        for name in track(self.pipelines, label=label, total=len(self.pipelines)):
            try:
                pipeline = _bound(self.pipelines[name], name, dataset)
                kept = shelf.find(pipeline, dataset) if shelf and self.resume else None
                outcome = kept or execute(pipeline, started, memo)
                result = judge(name, outcome, dataset, measures=measures, seed=self.seed)
            except LimbeckError as error:
                failed[name] = str(error)
                continue
            results.append(result)
            if shelf and kept is None and outcome.whole:
                shelf.keep(outcome, pipeline, dataset)
        baseline = next(iter(self.pipelines))
        compared = compare(results, baseline, seed=self.seed)
        return DatasetResult(dataset, baseline, tuple(compared), failed)

    def _settings(self) -> dict[str, object]:
        return {
            "limbeck": limbeck.__version__,
            "python": platform.python_version(),
            "ir_measures": version("ir_measures"),
            "tie_rule": TIE_RULE,
            "interval": f"95 % percentile bootstrap of the mean, {N_RESAMPLES} resamples",
            "test": f"two-sided paired randomisation, {N_FLIPS} sign flips or all of them, "
            "Holm's correction over the pipelines compared with the first",
            "detectable": "smallest true difference found at level .05 with power .8, uncorrected",
            "seed": self.seed,
        }


def _bound(pipeline: Node, name: str, dataset: Dataset) -> Node:
    """Return the pipeline with its indexes opened on the corpus, checked once more with them."""
    bound = pipeline.bind(dataset.corpus)
    found = _problems(bound, name, dataset)
    if found:
        raise CheckError(found)
    return bound


def _problems(pipeline: Node, name: str, dataset: Dataset) -> list[Problem]:
    found: list[Problem] = []
    end = pipeline.examine(Given(), name, found)
    if end.kind is None and not found:
        found.append(Problem(name, "a pipeline must end in a run", "end it with a retriever"))
    if end.corpus not in {None, dataset.corpus.fingerprint}:
        found.append(
            Problem(
                name,
                f"it must search the documents of {dataset.name}, whose fingerprint is "
                f"{dataset.corpus.fingerprint}; its index was built on {end.corpus}",
                "build the index on this corpus, or name no corpus",
            )
        )
    return found
