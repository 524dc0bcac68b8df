"""A teacher's labels as a page: where its scores lie, what it is sure of, what was kept out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from limbeck.eval.charts import histograms
from limbeck.eval.page import page_template
from limbeck.training.agreement import Agreement
from limbeck.training.asking import Asked
from limbeck.training.diagnostics import groups
from limbeck.training.labels import Labels

__all__ = ["render_labels"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_labels(
    labels: Labels, given: Asked, sure: Mapping[str, float], agreed: Agreement | None = None
) -> str:
    """Return the HTML of labels.

    Args:
        labels: all of them.
        given: the queries that were asked about, and those that were kept out.
        sure: what `certainty` returns of the labels.
        agreed: how far they agree with people's; None: nobody asked.
    """
    return page_template("labels.html.j2", _TEMPLATES).render(
        labels=labels,
        given=given,
        plot=histograms(groups(labels)),
        certainty=sure,
        agreed=agreed,
    )
