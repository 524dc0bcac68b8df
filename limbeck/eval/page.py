"""The report as one HTML page: no script, no network, its plots as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limbeck.eval.charts import (
    ALPHA,
    Bars,
    Plot,
    amount,
    difference_bars,
    interval_plot,
    tradeoff_plot,
)
from limbeck.eval.results import DatasetResult, PipelineResult, Report, Versus
from limbeck.meter import Usage

if TYPE_CHECKING:
    import jinja2

__all__ = ["page_template", "render_page", "section"]

_TEMPLATES = Path(__file__).parent / "templates"
_N_EXAMPLES = 3
_LONGEST_TEXT = 160


@dataclass(frozen=True, slots=True)
class _Example:
    """A query on which a pipeline and the first one differ."""

    query_id: str
    text: str
    difference: float


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A pipeline against the first one on the first measure."""

    name: str
    versus: Versus
    bars: Bars
    examples: tuple[_Example, ...]


@dataclass(frozen=True, slots=True)
class _Section:
    """A dataset, with what the template draws for it; no plots where every pipeline failed."""

    result: DatasetResult
    best: dict[str, float]
    leader: PipelineResult | None
    intervals: Plot | None
    tradeoff: Plot | None
    comparisons: tuple[_Comparison, ...]
    uses_llm: bool


def render_page(report: Report, *, command: str, spec: str, created: str) -> str:
    """Return the HTML of a report.

    Args:
        report: the evaluation.
        command: the command line that made it, to be shown; empty for none.
        spec: the text of its spec file, to be shown; empty for none.
        created: when it was made, for people.
    """
    primary = report.measures[0]
    return page_template("report.html.j2").render(
        report=report,
        primary=primary,
        sections=[section(result, primary, report.measures) for result in report.datasets],
        names=_names(report),
        alpha=ALPHA,
        command=command,
        spec=spec,
        created=created,
    )


def page_template(name: str, *folders: Path) -> jinja2.Template:
    """Return a template of a page, which may include the report's own parts.

    Args:
        name: of its file.
        folders: where it may lie beside the report's.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_TEMPLATES, *folders]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(signed=_signed, p_value=_p_value, amount=amount, brief=_brief)
    return environment.get_template(name)


def section(result: DatasetResult, primary: str, measures: Sequence[str]) -> _Section:
    """Return what a page shows of a dataset.

    Args:
        result: of all pipelines on it.
        primary: the measure that plots show.
        measures: those of the table.
    """
    done = result.pipelines
    return _Section(
        result=result,
        best={measure: result.best(measure) for measure in measures},
        leader=max(done, key=lambda p: p.scores[primary].mean, default=None),
        intervals=interval_plot(result, primary) if done else None,
        tradeoff=tradeoff_plot(result, primary) if len(done) > 1 else None,
        comparisons=_comparisons(result, primary),
        uses_llm=any(p.outcome.usage != Usage() for p in done),
    )


def _comparisons(result: DatasetResult, measure: str) -> tuple[_Comparison, ...]:
    compared = [pipeline for pipeline in result.pipelines if pipeline.versus]
    if not compared:
        return ()
    first = next(p for p in result.pipelines if p.name == result.baseline)
    base = first.per_query.of(measure)
    limit = max(float(np.abs(p.per_query.of(measure) - base).max()) for p in compared) or 1.0
    return tuple(
        _Comparison(
            name=pipeline.name,
            versus=pipeline.versus[measure],
            bars=difference_bars(pipeline, first, measure, limit),
            examples=_examples(result, pipeline, first, measure),
        )
        for pipeline in compared
    )


def _examples(
    result: DatasetResult, pipeline: PipelineResult, first: PipelineResult, measure: str
) -> tuple[_Example, ...]:
    """Return the queries that gain most, then those that lose most, worst first."""
    differences = pipeline.per_query.of(measure) - first.per_query.of(measure)
    order = np.argsort(-differences, kind="stable").tolist()
    texts = {query.query_id: query.text for query in result.dataset.queries}
    gains = [n for n in order[:_N_EXAMPLES] if differences[n] > 0]
    losses = [n for n in order[::-1][:_N_EXAMPLES] if differences[n] < 0]
    query_ids = pipeline.per_query.query_ids
    return tuple(
        _Example(query_ids[n], texts[query_ids[n]], float(differences[n])) for n in gains + losses
    )


def _names(report: Report) -> list[str]:
    """Return the pipelines that finished anywhere, in their order."""
    return list(dict.fromkeys(p.name for result in report.datasets for p in result.pipelines))


def _signed(value: float) -> str:
    """Return a difference with its sign, a true minus among them."""
    return f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _brief(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1].rstrip() + "…"
