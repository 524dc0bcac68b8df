"""What an evaluation leaves behind: report.json, report.html, runs and scores, and a table.

`datasets.NAME.pipelines.PIPELINE` of report.json is a contract that others script against: a number
under each measure's name, `seconds`, `queries` and `llm`. Everything else stands beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.artifact import write_atomically
from limbeck.eval.charts import ALPHA, amount
from limbeck.eval.page import render_page
from limbeck.eval.results import DatasetResult, PipelineResult, Report
from limbeck.fingerprint import digest
from limbeck.meter import Usage
from limbeck.trec import write_run

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["table", "to_json", "write_report"]

_UNSAFE = re.compile(r"[^\w.+-]+")


def write_report(report: Report, out: Path, *, command: str = "", spec: str = "") -> Path:
    """Write all files of a report below a folder, and return the path of its report.json.

    runs/DATASET.PIPELINE.trec has the run, scores/DATASET.PIPELINE.tsv the measures of each query.
    report.json is written last: where it is there, the rest is.

    Args:
        report: the evaluation.
        out: the folder.
        command: the command line that made the report, to be shown in it.
        spec: the text of the spec file, to be shown; it must hold no secrets.

    Raises:
        ArtifactError: a file cannot be written.
    """
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    for result in report.datasets:
        for pipeline in result.pipelines:
            write_run(pipeline.outcome.run, out / _run_file(result, pipeline))
            write_atomically(out / _scores_file(result, pipeline), _scores(pipeline))
    page = render_page(report, command=command, spec=spec, created=created)
    write_atomically(out / "report.html", page)
    reproduce = {"created": created, "command": command, "spec": spec}
    content = to_json(report) | {"reproduce": reproduce}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(out / "report.json", text + "\n")
    return out / "report.json"


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as plain data, in the shape of report.json."""
    return {
        "datasets": {result.dataset.name: _dataset(result) for result in report.datasets},
        "measures": list(report.measures),
        "settings": dict(report.settings),
    }


def _dataset(result: DatasetResult) -> dict[str, Any]:
    dataset = result.dataset
    return {
        "pipelines": {p.name: _numbers(p) for p in result.pipelines},
        "failed": dict(result.failed),
        "details": {p.name: _details(result, p) for p in result.pipelines},
        "baseline": result.baseline,
        "split": dataset.split,
        "documents": len(dataset.corpus),
        "queries": len(dataset.queries),
        "exclude_same_id": dataset.exclude_same_id,
        "notes": list(dataset.notes),
        "fingerprint": dataset.fingerprint,
    }


def _numbers(pipeline: PipelineResult) -> dict[str, Any]:
    means = {measure: score.mean for measure, score in pipeline.scores.items()}
    return means | {
        "seconds": pipeline.outcome.seconds,
        "queries": len(pipeline.per_query.query_ids),
        "llm": _usage(pipeline.outcome.usage),
    }


def _usage(usage: Usage) -> dict[str, float]:
    # The seconds of LLM calls overlap; those of the steps that made them are what a user waits.
    left_out = {"seconds", "prompts", "answered"}
    return {name: value for name, value in asdict(usage).items() if name not in left_out}


def _details(result: DatasetResult, pipeline: PipelineResult) -> dict[str, Any]:
    outcome = pipeline.outcome
    return {
        "fingerprint": outcome.fingerprint,
        "reused": outcome.reused,
        "score_kind": outcome.run.kind,
        "run": _run_file(result, pipeline),
        "scores": _scores_file(result, pipeline),
        "ms_per_query": pipeline.ms_per_query,
        "intervals": {m: [score.low, score.high] for m, score in pipeline.scores.items()},
        "versus": {m: asdict(versus) for m, versus in pipeline.versus.items()},
        "notes": outcome.notes,
        "steps": [
            {
                "node": step.node,
                "seconds": step.seconds,
                "llm": _usage(step.usage),
                "notes": dict(step.notes),
            }
            for step in outcome.steps
        ],
    }


def _run_file(result: DatasetResult, pipeline: PipelineResult) -> str:
    return f"runs/{_slug(result, pipeline)}.trec"


def _scores_file(result: DatasetResult, pipeline: PipelineResult) -> str:
    return f"scores/{_slug(result, pipeline)}.tsv"


def _slug(result: DatasetResult, pipeline: PipelineResult) -> str:
    name = f"{result.dataset.name}.{pipeline.name}"
    safe = _UNSAFE.sub("_", name)
    # Two names may differ only in what no file name should hold.
    return safe if safe == name else f"{safe}-{digest(name)[:8]}"


def _scores(pipeline: PipelineResult) -> str:
    per_query = pipeline.per_query
    lines = ["\t".join(("query_id", *per_query.measures))]
    for query_id, values in zip(per_query.query_ids, per_query.values.tolist(), strict=True):
        lines.append("\t".join((query_id, *map(str, values))))
    return "\n".join(lines) + "\n"


def table(report: Report) -> RenderableType:
    """Return the report for a terminal: a rich table a dataset, with notes and failures below."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for result in report.datasets:
        parts.append(_dataset_table(report, result))
        parts.extend(Text(f"  {remark}", style="dim") for remark in result.remarks)
        failed = result.failed.items()
        parts.extend(Text(f"  {name} failed: {error}", style="red") for name, error in failed)
    if any(p.versus for result in report.datasets for p in result.pipelines):
        legend = f"  +/- differs from the first pipeline (p < {ALPHA:g}, Holm); 95 % intervals"
        parts.append(Text(legend, style="dim"))
    return Group(*parts)


def _dataset_table(report: Report, result: DatasetResult) -> Table:
    from rich.table import Table
    from rich.text import Text

    dataset = result.dataset
    title = f"{dataset.name} ({dataset.split}): {len(dataset.queries)} queries"
    made = Table(title=Text(f"{title}, {len(dataset.corpus)} documents"), title_justify="left")
    made.add_column("pipeline", overflow="fold")
    for heading in (*report.measures, "ms/query", "LLM calls", "tokens", "USD"):
        made.add_column(heading, justify="right")
    best = {measure: result.best(measure) for measure in report.measures}
    for pipeline in result.pipelines:
        cells = [_cell(pipeline, measure, best=best) for measure in report.measures]
        made.add_row(Text(pipeline.name), *cells, *_costs(pipeline))
    return made


def _cell(pipeline: PipelineResult, measure: str, *, best: Mapping[str, float]) -> str:
    score = pipeline.scores[measure]
    mean = f"{score.mean:.4f}"
    bold = f"[bold]{mean}[/bold]" if score.mean == best[measure] else mean
    return f"{bold}{_sign(pipeline, measure)} [dim]{score.low:.3f}-{score.high:.3f}[/dim]"


def _sign(pipeline: PipelineResult, measure: str) -> str:
    versus = pipeline.versus.get(measure)
    if versus is None or versus.p_holm >= ALPHA:
        return " "
    return "+" if versus.difference > 0 else "-"


def _costs(pipeline: PipelineResult) -> tuple[str, ...]:
    usage = pipeline.outcome.usage
    calls = f"{usage.calls}" + (f" ({usage.saved_calls} saved)" if usage.saved_calls else "")
    tokens = usage.prompt_tokens + usage.completion_tokens
    return amount(pipeline.ms_per_query), calls, amount(tokens), f"{usage.usd:.4f}"
