"""Draw what each node does to the ranking of a real query: docs/pictures/NAME.svg.

    python benchmarks/pictures.py [NAME ...]

The query is the one of the bundled mini collection whose nDCG@10 the node changes most, for better
or worse, so that a picture shows what a node does, not how good it is on the whole. A line is a
document; colours are the grades of the human judgements.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.pipeline import Node
from limbeck.types import Hit, Run

_SHOWN = 10
_WIDTH, _ROW, _TOP, _LABEL = 900, 30, 76, 330
_STYLE = """
text{font:13px system-ui,sans-serif;fill:#24292f}
.q{font-size:15px;font-weight:600}.n{fill:#57606a}
.g0{stroke:#8c959f;fill:#8c959f}.g1{stroke:#4393c3;fill:#4393c3}.g2{stroke:#1a7f37;fill:#1a7f37}
path{fill:none!important;stroke-width:2}.g0 path,path.g0{stroke-width:1;opacity:.7}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}
.g0{stroke:#6e7681;fill:#6e7681}.g1{stroke:#6cb6ff;fill:#6cb6ff}.g2{stroke:#3fb950;fill:#3fb950}}
""".strip()


class Change(NamedTuple):
    """What is drawn: a ranking, and what a node makes of it; on the mini collection or another."""

    before: Node
    after: Node
    names: tuple[str, str]
    data: Dataset | None = None


def main() -> None:
    from pictured import CHANGES

    data = Dataset.load(Path(str(files("limbeck.eval"))) / "mini")
    target = Path(__file__).parents[1] / "docs" / "pictures"
    target.mkdir(exist_ok=True)
    for name in sys.argv[1:] or sorted(CHANGES):
        change = CHANGES[name](data)
        svg = drawn(change.data or data, change)
        (target / f"{name}.svg").write_text(svg, encoding="utf-8")
        print(f"docs/pictures/{name}.svg")


def drawn(data: Dataset, change: Change) -> str:
    """Return the picture of the query that changes most."""
    runs = [node.bind(data.corpus)(data.queries) for node in (change.before, change.after)]
    position = most_changed(data, *runs)
    query = data.queries[position]
    grades = data.qrels.judgements[query.query_id]
    title = {d.doc_id: d.title or d.text for d in data.corpus.documents()}
    rankings = [run.hits(position) for run in runs]
    return svg(query.text, rankings[0], rankings[1], grades, title, change.names)


def most_changed(data: Dataset, before: Run, after: Run) -> int:
    """Return the position of the query whose nDCG@10 changes most, the first of equals."""
    scores = []
    for run in (before, after):
        found = evaluate(run, data.qrels, ["nDCG@10"])
        scores.append(dict(zip(found.query_ids, found.of("nDCG@10"), strict=True)))
    changes = [abs(scores[1][q.query_id] - scores[0][q.query_id]) for q in data.queries]
    return int(np.argmax(np.round(changes, 9)))


def svg(
    query: str,
    before: list[Hit],
    after: list[Hit],
    grades: Mapping[str, int],
    title: Mapping[str, str],
    names: tuple[str, str],
) -> str:
    """Return the drawing: first hits on both sides, a line from each document to itself."""
    height = _TOP + _ROW * (_SHOWN + 1) + 14
    ranks = [{hit.doc_id: i for i, hit in enumerate(hits)} for hits in (before, after)]
    lines = [
        path(ranks[0].get(doc_id), ranks[1].get(doc_id), grade_of(doc_id, grades))
        for doc_id in {hit.doc_id: None for hit in (*before[:_SHOWN], *after[:_SHOWN])}
    ]
    labels = [
        label(side, i, hit.doc_id, ranks[1 - side].get(hit.doc_id), title)
        for side, hits in enumerate((before, after))
        for i, hit in enumerate(hits[:_SHOWN])
    ]
    heads = (
        f'<text class="q" x="12" y="24">{escape(query)}</text>'
        f'<text class="n" x="{_LABEL - 12}" y="54" text-anchor="end">{escape(names[0])}</text>'
        f'<text class="n" x="{_WIDTH - _LABEL + 12}" y="54">{escape(names[1])}</text>'
    )
    key = "".join(
        f'<circle class="g{g}" cx="{_LABEL + 30 + 70 * (2 - g)}" cy="{height - 12}" r="4"/>'
        f'<text class="n" x="{_LABEL + 38 + 70 * (2 - g)}" y="{height - 8}">grade {g}</text>'
        for g in (2, 1, 0)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(names[0])}, then {escape(names[1])}"><style>{_STYLE}</style>'
        f"{heads}{''.join(lines)}{''.join(labels)}{key}</svg>\n"
    )


def grade_of(doc_id: str, grades: Mapping[str, int]) -> int:
    return max(0, min(2, grades.get(doc_id, 0)))


def height_of(rank: int | None) -> float:
    """Return the middle of a row; what is deeper, or not there, lies behind the last one."""
    row = _SHOWN if rank is None else min(rank, _SHOWN)
    return _TOP + _ROW * row + (0 if row < _SHOWN else 6)


def path(left: int | None, right: int | None, grade: int) -> str:
    x0, x1 = _LABEL + 6, _WIDTH - _LABEL - 6
    y0, y1 = height_of(left), height_of(right)
    middle = (x0 + x1) / 2
    dots = "".join(
        f'<circle class="g{grade}" cx="{x}" cy="{y}" r="4"/>'
        for x, y, rank in ((x0, y0, left), (x1, y1, right))
        if rank is not None and rank < _SHOWN
    )
    curve = f"M{x0} {y0}C{middle} {y0} {middle} {y1} {x1} {y1}"
    return f'<path class="g{grade}" d="{curve}"/>{dots}'


def label(
    side: int,
    rank: int,
    doc_id: str,
    other: int | None,
    title: Mapping[str, str],
) -> str:
    """Return the text of one hit; where it came from, or went, if that is out of sight."""
    text = title[doc_id]
    shown = text if len(text) <= 34 else text[:33].rstrip() + "…"
    moved = ""
    if other is None:
        moved = (" (gone)", " (new)")[side]
    elif other >= _SHOWN:
        moved = f" ({('to', 'from')[side]} {other + 1})"
    x, anchor = ((_LABEL - 12, "end"), (_WIDTH - _LABEL + 12, "start"))[side]
    words = f"{rank + 1}  {shown}{moved}"
    return f'<text x="{x}" y="{height_of(rank) + 4}" text-anchor="{anchor}">{escape(words)}</text>'


Make = Callable[[Dataset], Change]

if __name__ == "__main__":
    main()
