"""The section `train` of a spec as a recipe. What it names needs torch, and is loaded only here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError, MissingExtraError
from limbeck.meter import note
from limbeck.retrieval.encoders.folders import require_torch
from limbeck.spec.document import Entry
from limbeck.spec.fields import Fields
from limbeck.spec.findings import Findings, near
from limbeck.training.objectives import objective_class, objective_names

if TYPE_CHECKING:
    from limbeck.training.recipe import Recipe

__all__ = ["read_recipe"]


def read_recipe(entry: Entry, fields: Fields, findings: Findings) -> Recipe | None:
    """Return the recipe of a section; None, and a note, where torch is not installed.

    Raises:
        Refused: it is none.
    """
    place = "train"
    try:
        require_torch(place)
    except MissingExtraError:
        note("train: this section was not read, as torch is not installed")
        return None
    from limbeck.training.objective import Objective
    from limbeck.training.recipe import Recipe
    from limbeck.training.students import STUDENTS, Student

    def objective(entry: Entry, place: str) -> Any:
        form = "an objective is {name: parameters}"
        name, values = fields.single(entry, place, form)
        if name not in objective_names():
            message, mend = f"{name!r} is no objective", near(name, objective_names())
            raise findings.refused(place, entry, message, mend)
        try:
            cls = objective_class(name)
        except LimbeckError as error:
            raise findings.refused(place, entry, str(error)) from None
        return fields.made(cls, values, entry, place)

    def student(entry: Entry, place: str) -> Any:
        name, values = fields.single(entry, place, "a model is {kind: parameters}")
        if name not in STUDENTS:
            message, mend = f"{name!r} is no kind of model", near(name, STUDENTS)
            raise findings.refused(place, entry, message, mend)
        return fields.made(STUDENTS[name], values, entry, place)

    fields.special |= {Objective: objective, Student: student}
    return fields.made(Recipe, fields.mapping(entry, place), entry, place)
