"""What keeps a lesson and a recipe from being one distillation, told before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterator

from limbeck.errors import Problem, UsageError
from limbeck.training.lesson import Lesson
from limbeck.training.questions import Split
from limbeck.training.recipe import Recipe

__all__ = ["mismatches"]


def mismatches(lesson: Lesson, recipe: Recipe) -> tuple[Problem, ...]:
    """Return why a recipe cannot learn what a lesson teaches: nothing is loaded, no money spent.

    Args:
        lesson: who is asked about what.
        recipe: that the labels are for.
    """
    return (*_of_dark(lesson, recipe), *_of_scores(lesson, recipe), *_of_dev(lesson, recipe))


def _of_dark(lesson: Lesson, recipe: Recipe) -> Iterator[Problem]:
    objective = recipe.objective
    if lesson.dark is not None and not objective.learns_dark:
        yield Problem(
            "teach.dark",
            "dark examples must be learned from, or scoring them is for nothing; "
            f"{objective.name} does not",
            "take the objective adam, or leave teach.dark out",
        )
    if lesson.dark is None and objective.learns_dark:
        yield Problem(
            "train.objective",
            f"{objective.name} must have dark examples; the lesson makes none",
            "add teach.dark, or set dark: false",
        )


def _of_scores(lesson: Lesson, recipe: Recipe) -> Iterator[Problem]:
    kind = lesson.kind
    if kind is None:
        return
    try:
        recipe.objective.check_labels(kind)
    except UsageError as error:
        yield Problem("train.objective", str(error), "")


def _of_dev(lesson: Lesson, recipe: Recipe) -> Iterator[Problem]:
    is_share = isinstance(recipe.data.dev, float)
    if is_share and not any(isinstance(source, Split) for source in lesson.queries):
        yield Problem(
            "train.data.dev",
            "a share of the queries that is held out must be of queries which people judged; the "
            "lesson has none of a split",
            "name a split, add one to teach.queries, or leave dev out",
        )
