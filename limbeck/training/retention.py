"""What a student keeps of its teacher: scores, time, money, and when the lesson has paid."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from limbeck.eval.results import DatasetResult, PipelineResult, Versus, compare

__all__ = ["BASE", "EXPORTED", "STUDENT", "TEACHER", "Lessons", "Retention"]

TEACHER, STUDENT, EXPORTED, BASE = "teacher", "student", "student in 8 bits", "base"
"""The names of the pipelines that are compared; the student may stand there exported too.

The base is the student before its first step; of a cross-encoder, the hits that it sorts.
"""


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """What was done before the student could stand in.

    Attributes:
        n_queries: that were taught.
        n_labels: scores of the teacher.
        usd: its calls cost, and those that wrote queries.
        teaching_s: seconds of the teacher's work, and of writing queries, as it was here: what an
            index or a cache held already is not in it.
        replayed: whether answers came from a cassette, so that it took less than they did.
        training_s: seconds of the student's steps, and of looks at the dev split.
        n_apart: queries that were kept apart.
        leaks: queries that were kept out, as they are like those, in a line each.
        notes: what there is to say of the teacher's answers, and how many times.
        dark: how dark examples stand between negatives and positives; empty where there are none.
    """

    n_queries: int
    n_labels: int
    usd: float
    teaching_s: float
    replayed: bool
    training_s: float
    n_apart: int
    leaks: tuple[str, ...]
    notes: tuple[tuple[str, int], ...]
    dark: dict[str, float]


@dataclass(frozen=True)
class Retention:
    """The retention card, as numbers.

    Attributes:
        result: teacher, student and base on one split; the teacher is the one to compare with.
        measure: what is retained.
        lessons: what they took.
        gate: the retention that was asked for; None: none was.
    """

    result: DatasetResult
    measure: str
    lessons: Lessons
    gate: float | None = None

    def of(self, name: str) -> PipelineResult:
        """Return what a pipeline did."""
        return next(pipeline for pipeline in self.result.pipelines if pipeline.name == name)

    def mean(self, name: str) -> float:
        """Return the score of a pipeline."""
        return self.of(name).scores[self.measure].mean

    @property
    def retention(self) -> float:
        """The student's score as a share of the teacher's."""
        return self._share(STUDENT)

    @property
    def of_base(self) -> float:
        """The base's score as a share of the teacher's: what was there before any lesson."""
        return self._share(BASE)

    def _share(self, name: str) -> float:
        return self.mean(name) / self.mean(TEACHER) if self.mean(TEACHER) else math.nan

    @property
    def is_above_base(self) -> bool:
        """Whether the lesson has brought anything."""
        return self.mean(STUDENT) > self.mean(BASE)

    @property
    def gain_kept(self) -> float | None:
        """The share of what the teacher is above the base that the student has; None: it is not."""
        above = self.mean(TEACHER) - self.mean(BASE)
        return (self.mean(STUDENT) - self.mean(BASE)) / above if above > 0 else None

    @property
    def passes(self) -> bool:
        """Whether the student keeps as much as was asked for, and is above the base."""
        return self.gate is None or (self.retention >= self.gate and self.is_above_base)

    @property
    def to_teacher(self) -> Versus:
        """The student against the teacher, query by query."""
        return self.of(STUDENT).versus[self.measure]

    @cached_property
    def to_base(self) -> Versus:
        """The student against the base."""
        pair = [self.of(BASE), self.of(STUDENT)]
        return compare(pair, BASE, seed=0)[1].versus[self.measure]

    def usd_per_1000(self, name: str) -> float:
        """Return what the LLM calls of 1,000 queries cost, those from cassettes included."""
        usage = self.of(name).outcome.usage
        n = len(self.of(name).per_query.query_ids)
        return 1000.0 * (usage.usd + usage.saved_usd) / max(1, n)

    def is_replayed(self, name: str) -> bool:
        """Whether answers of LLMs came from a cassette: its time is then not what they took."""
        return self.of(name).outcome.usage.saved_calls > 0

    @property
    def faster(self) -> float | None:
        """How many times the teacher's time a query is the student's; None: it was replayed."""
        if self.is_replayed(TEACHER):
            return None
        return self.of(TEACHER).ms_per_query / self.of(STUDENT).ms_per_query

    @property
    def even_by_time(self) -> float | None:
        """Queries after which the time of teaching and training is saved.

        None: never, as the base does as well; or what the teacher's calls took is not known, as
        they were replayed.
        """
        if self.is_replayed(TEACHER) or self.lessons.replayed or not self.is_above_base:
            return None
        saved_s = (self.of(TEACHER).ms_per_query - self.of(STUDENT).ms_per_query) / 1000.0
        return _even(self.lessons.teaching_s + self.lessons.training_s, saved_s)

    @property
    def even_by_money(self) -> float | None:
        """Queries after which the money for labels is saved; None: never, or none was spent."""
        saved = (self.usd_per_1000(TEACHER) - self.usd_per_1000(STUDENT)) / 1000.0
        spent = self.lessons.usd
        return _even(spent, saved) if spent and self.is_above_base else None

    def to_json(self) -> dict[str, Any]:
        """Return the card as plain data."""
        named = [pipeline.name for pipeline in self.result.pipelines]
        return {
            "dataset": self.result.dataset.name,
            "split": self.result.dataset.split,
            "measure": self.measure,
            "scores": {
                name: dataclasses.asdict(self.of(name).scores[self.measure]) for name in named
            },
            "retention": None if math.isnan(self.retention) else self.retention,
            "retention_of_base": None if math.isnan(self.of_base) else self.of_base,
            "gain_kept": self.gain_kept,
            "gate": self.gate,
            "passes": self.passes,
            "to_teacher": dataclasses.asdict(self.to_teacher),
            "to_base": dataclasses.asdict(self.to_base),
            "ms_per_query": {name: self.of(name).ms_per_query for name in named},
            "replayed": [name for name in named if self.is_replayed(name)],
            "usd_per_1000_queries": {name: self.usd_per_1000(name) for name in named},
            "faster": self.faster,
            "even_after_queries": {"by_time": self.even_by_time, "by_money": self.even_by_money},
            "lessons": dataclasses.asdict(self.lessons),
            "leak_guard": "clean" if not self.lessons.leaks else "leaks were kept out",
        }


def _even(spent: float, saved: float) -> float | None:
    return spent / saved if saved > 0 else None
