"""A spec: named LLMs, corpora, indexes and pipelines, as one object."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.corpus import Corpus
from limbeck.errors import CheckError, Problem, UsageError
from limbeck.llm.model import LLM
from limbeck.pipeline import Given, Node, Retriever

if TYPE_CHECKING:
    from limbeck.training.lesson import Lesson
    from limbeck.training.recipe import Recipe

__all__ = ["NAME", "Spec", "parameters"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
"""What an LLM, a corpus, an index or a pipeline of a spec may be called."""


@dataclass(frozen=True)
class Spec:
    """What a spec file says, as nodes. `Spec.load(path)` reads one, `dump()` writes it back.

    Attributes:
        llms: models by name.
        corpora: corpora by name; each is read once, to learn its ids and its fingerprint.
        indexes: retrievers by name; one that names no corpus is built for each collection.
        pipelines: nodes by name, in the order of the file.
        lesson: what a teacher is asked, the section `teach`; None where there is none.
        recipe: how a model is trained, the section `train`; None where there is none, or no torch.
        folder: what relative paths start from; nothing outside it is reached.
        file: the name of the file, for messages.
    """

    llms: Mapping[str, LLM] = field(default_factory=dict)
    corpora: Mapping[str, Corpus] = field(default_factory=dict)
    indexes: Mapping[str, Retriever] = field(default_factory=dict)
    pipelines: Mapping[str, Node] = field(default_factory=dict)
    lesson: Lesson | None = None
    recipe: Recipe | None = None
    folder: Path = field(default=Path(), compare=False)
    file: str = field(default="spec", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def load(
        path: str | os.PathLike[str], changes: Iterable[str] = (), *, section: str = "train"
    ) -> Spec:
        """Return the spec of a file.

        Args:
            path: the file.
            changes: `key=value`, which stand above what the file says.
            section: that the keys are in; "" where they begin with it.

        Raises:
            SpecError: the file cannot be read as a spec; the error holds every finding.
            UsageError: there is no such file, or a change has another form.
        """
        from limbeck.spec.reader import read

        given = Path(path)
        try:
            text = given.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            came = getattr(error, "strerror", None) or error
            raise UsageError(f"a spec must be a readable YAML file; {given}: {came}") from None
        return read(
            text, folder=given.resolve().parent, file=given.name, changes=changes, section=section
        )

    @staticmethod
    def loads(text: str, *, folder: str | os.PathLike[str] = ".") -> Spec:
        """Return the spec of a YAML text; relative paths start from the folder."""
        from limbeck.spec.reader import read

        return read(text, folder=Path(folder).resolve(), file="spec")

    @staticmethod
    def of(pipelines: Mapping[str, Node], *, folder: str | os.PathLike[str] = ".") -> Spec:
        """Return the spec of pipelines that were composed in Python, its parts named after them."""
        return Spec(pipelines=dict(pipelines), folder=Path(folder).resolve())

    def dump(self) -> str:
        """Return the spec as YAML, from which `Spec.loads` makes equal pipelines."""
        from limbeck.spec.writer import write

        return write(self)

    def select(self, names: Iterable[str]) -> Spec:
        """Return the spec with some of its pipelines, in the order named.

        Raises:
            UsageError: there is no pipeline of a name.
        """
        wanted = list(names)
        unknown = [name for name in wanted if name not in self.pipelines]
        if unknown:
            raise UsageError(
                f"a pipeline must be one of {self.file}; got {', '.join(unknown)}; "
                f"it has {', '.join(self.pipelines)}"
            )
        return dataclasses.replace(self, pipelines={n: self.pipelines[n] for n in wanted})

    def problems(self) -> tuple[Problem, ...]:
        """Return every finding of the static check, with its line.

        It is of all pipelines, of the lesson, and of the recipe that learns it. What an LLM lacks
        is said once, of the LLM, however many steps ask it.
        """
        of_llms = {
            what: f"llms.{name}" for name, llm in self.llms.items() for what in llm.problems()
        }
        found = [
            problem
            for name, node in self.pipelines.items()
            for problem in node.problems(place=f"pipelines.{name}")
        ]
        told = {(problem.message, problem.mend) for problem in found}
        found += [each for each in self._of_lesson() if (each.message, each.mend) not in told]
        located = (
            dataclasses.replace(
                problem,
                place=self._located(of_llms.get((problem.message, problem.mend), problem.place)),
            )
            for problem in found
        )
        return tuple(dict.fromkeys(located))

    def _of_lesson(self) -> tuple[Problem, ...]:
        if self.lesson is None:
            return ()
        found = self.lesson.problems()
        if self.recipe is None or self.recipe.data.labels is not None:
            return found
        from limbeck.training.matching import mismatches

        return (*found, *mismatches(self.lesson, self.recipe))

    def kinds(self) -> dict[str, str | None]:
        """Return the score kind of each pipeline; None where it ends in no run."""
        return {name: node.examine(Given(), name, []).kind for name, node in self.pipelines.items()}

    def check(self) -> None:
        """Run the static check.

        Raises:
            CheckError: something does not fit; the error holds every finding.
        """
        found = self.problems()
        if found:
            raise CheckError(found)

    @property
    def parts(self) -> tuple[Node, ...]:
        """Indexes, pipelines, and what the lesson asks."""
        of_lesson = () if self.lesson is None else self.lesson.nodes
        return (*self.indexes.values(), *self.pipelines.values(), *of_lesson)

    def close(self) -> None:
        """Close the connections of all LLMs and fold what they recorded into their cassettes."""
        for part in self.parts:
            for node in part.walk():
                for value in vars(node).values():
                    if isinstance(value, LLM):
                        value.close()

    def _located(self, place: str) -> str:
        """Return a place with the file, and the line of the nearest part that is written out."""
        known = place
        while known and known not in self.lines:
            known = _LAST_PART.sub("", known) if _LAST_PART.search(known) else ""
        line = f":{self.lines[known]}" if known else ""
        return f"{self.file}{line}: {place}"


_LAST_PART = re.compile(r"(?:\.[^.\[\]]+|\[\d+\])\Z")


def parameters(part: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a node or an LLM, or of its class, that stand in a spec file."""
    return [
        f
        for f in dataclasses.fields(part)
        if f.init and f.compare and not f.metadata.get("python_only")
    ]
