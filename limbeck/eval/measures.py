"""Measures by their ir-measures names, with trec_eval's semantics; scores of each query.

The ranking that is measured is the run's own order, which is the tie rule, which is trec_eval's.
Scores are not handed on: some of the programs behind ir_measures break ties in another way, so each
hit gets its distance from the end of the ranking as its score, and no tie is left to break.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from subprocess import SubprocessError
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError, UsageError
from limbeck.types import Documents, Qrels, Run

if TYPE_CHECKING:
    from ir_measures import Measure

__all__ = ["DEFAULT_MEASURES", "PerQuery", "evaluate", "parse_measures"]

DEFAULT_MEASURES = ("nDCG@10", "R@100")

_COMMA = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, eq=False)
class PerQuery:
    """The value of each measure for each judged query.

    Attributes:
        values: float64, shape (n_queries, n_measures).
    """

    query_ids: tuple[str, ...]
    measures: tuple[str, ...]
    values: NDArray[np.float64]

    def of(self, measure: str) -> NDArray[np.float64]:
        """Return the values of one measure, shape (n_queries,)."""
        column: NDArray[np.float64] = self.values[:, self.measures.index(measure)]
        return column

    def means(self) -> dict[str, float]:
        """Return the mean of each measure over the queries."""
        return dict(zip(self.measures, self.values.mean(axis=0).tolist(), strict=True))


def parse_measures(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return the canonical names of measures, such as "nDCG@10,R@100,AP(rel=2)", each once.

    Raises:
        UsageError: a name is unknown or malformed, needs a program that is not here, or is a count
            that has no mean over queries.
    """
    text = names if isinstance(names, str) else ",".join(names)
    found = [str(_measure(name.strip())) for name in _COMMA.split(text) if name.strip()]
    if not found:
        raise UsageError(f"at least one measure must be named; got {text!r}; try nDCG@10")
    return tuple(dict.fromkeys(found))


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str]) -> PerQuery:
    """Return the value of each measure for each query of the qrels, in the order of the qrels.

    A judged query without hits scores 0 (the measure's own default). Queries of the run that nobody
    judged are left out. A judged document that was not retrieved counts against recall, whether the
    corpus holds it or not.

    Raises:
        UsageError: a measure is unknown.
        DataError: the run is not in the order of the tie rule, or ranks a document twice, or a
            measure has no value on these judgements.
    """
    _require_ranked(run)
    names = parse_measures(measures)
    query_ids = tuple(qrels.judgements)
    numbers = {query_id: number for number, query_id in enumerate(query_ids)}
    values = _values(names, _measurable(qrels, run.corpus), _by_rank(run, numbers))
    return PerQuery(query_ids, names, values)


def _values(
    names: Sequence[str],
    judgements: Mapping[str, Mapping[str, int]],
    rankings: Mapping[str, Mapping[str, float]],
) -> NDArray[np.float64]:
    """Return the values of measures for each judged query, shape (n_queries, n_measures)."""
    import ir_measures

    values = np.full((len(judgements), len(names)), np.nan)
    column = {name: number for number, name in enumerate(names)}
    try:
        evaluator = ir_measures.evaluator([_measure(name) for name in names], judgements)
        for metric in evaluator.iter_calc(rankings):
            values[int(metric.query_id), column[str(metric.measure)]] = metric.value
    except (ArithmeticError, LookupError, SubprocessError, TypeError, ValueError) as error:
        raise DataError(
            f"measures must have a value on these judgements; {', '.join(names)} gave: {error!r}; "
            "leave out the one that has none"
        ) from error
    undefined = [name for name in names if np.isnan(values[:, column[name]]).any()]
    if undefined:
        raise DataError(
            f"a measure must have a value for each query; {', '.join(undefined)} has none for "
            "some; leave it out"
        )
    return values


# The programs behind ir_measures disagree on which ids they take: gdeval.pl, which computes ERR and
# the exponential nDCG, takes queries by number alone, and cuts a document's id at its first space.
# They are given numbers in place of ours.


def _measurable(qrels: Qrels, corpus: Documents) -> dict[str, dict[str, int]]:
    """Return the judgements by a query's number and a document's row.

    A query that has none but negative grades gets 0 for all: trec_eval never comes back from some
    of them (it reads a level below its first); their measures are 0 with either grade.
    """
    found: dict[str, dict[str, int]] = {}
    for number, grades in enumerate(qrels.judgements.values()):
        rows = enumerate(map(corpus.row, grades))
        names = [f"absent{n}" if row is None else str(row) for n, row in rows]
        negative = max(grades.values(), default=0) < 0
        given = [0] * len(grades) if negative else grades.values()
        found[str(number)] = dict(zip(names, given, strict=True))
    return found


def _by_rank(run: Run, numbers: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return a row to its distance from the end of the ranking, for judged queries with hits."""
    found: dict[str, dict[str, float]] = {}
    for position, query_id in enumerate(run.query_ids):
        rows = run.rows[run.segment(position)].tolist()
        if rows and query_id in numbers:
            # Whole numbers below 2**24 are exact in trec_eval's single precision.
            found[str(numbers[query_id])] = {
                str(row): float(left)
                for left, row in zip(range(len(rows), 0, -1), rows, strict=True)
            }
    return found


def _require_ranked(run: Run) -> None:
    segment = np.repeat(np.arange(len(run)), np.diff(run.bounds))
    same = segment[1:] == segment[:-1]
    falls = run.scores[:-1] > run.scores[1:]
    ties = (run.scores[:-1] == run.scores[1:]) & (run.rows[:-1] < run.rows[1:])
    if not np.all(falls | ties | ~same):
        raise DataError(
            "a run must be best first with ties by the tie rule; this one is not; "
            "make it with Run.ranked"
        )
    hits = segment * len(run.corpus) + run.rows
    if len(np.unique(hits)) != len(hits):
        raise DataError("a run must rank a document once for a query; this one has one twice")


def _measure(name: str) -> Measure:
    """Return the measure of a name, checked to be computable and to have a mean."""
    import ir_measures
    from ir_measures.measures import MeanAgg

    try:
        measure = ir_measures.parse_measure(name)
        supported = ir_measures.DefaultPipeline.supports(measure)  # type: ignore[no-untyped-call]
    except NameError:
        raise UsageError(
            f"a measure must be one that ir_measures knows; got {name!r}; {_near(name)}"
        ) from None
    except (ValueError, AssertionError, KeyError) as error:
        raise UsageError(
            f"a measure must read like nDCG@10 or P(rel=2)@5; got {name!r} ({error}); mend it"
        ) from None
    if measure.params.get("cutoff", 1) < 1:
        raise UsageError(f"a cutoff must be 1 or more; got {name!r}")
    if not supported:
        raise UsageError(
            f"{name} needs a program that ir_measures does not find here; leave it out"
        )
    if not isinstance(measure.aggregator(), MeanAgg):
        raise UsageError(
            f"a measure must have a mean over queries; {name} is a count; leave it out"
        )
    return measure


def _near(name: str) -> str:
    from ir_measures.measures import registry

    bare, _, cutoff = name.partition("@")
    bare = bare.partition("(")[0].strip()
    by_lower = {known.lower(): known for known in (*sorted(registry, reverse=True), *_USUAL)}
    near = difflib.get_close_matches(bare.lower(), by_lower, n=3, cutoff=0.5)
    names = [by_lower[lower] for lower in near] or _USUAL
    at = f"@{cutoff}" if cutoff.isdigit() else ""
    return f"do you mean {', '.join(known + at for known in names)}?"


_USUAL = ("nDCG", "R", "AP", "RR", "P", "Success")
