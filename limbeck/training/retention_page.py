"""The retention card as a page: what the student keeps, and below it the whole comparison."""

from __future__ import annotations

from pathlib import Path

from limbeck.eval.charts import ALPHA
from limbeck.eval.page import page_template, section
from limbeck.eval.results import Report
from limbeck.training.retention import BASE, STUDENT, TEACHER, Retention

__all__ = ["render_card"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_card(card: Retention, report: Report) -> str:
    """Return the HTML of a retention card.

    Args:
        card: its numbers.
        report: the evaluation that they are of.
    """
    return page_template("retention.html.j2", _TEMPLATES).render(
        card=card,
        report=report,
        primary=card.measure,
        section=section(card.result, card.measure, report.measures),
        teacher=card.of(TEACHER),
        student=card.of(STUDENT),
        base=card.of(BASE),
        alpha=ALPHA,
    )
