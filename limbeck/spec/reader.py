"""YAML to nodes: every name is resolved in the file or the registry, every value by its type."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from limbeck.corpus import Corpus
from limbeck.errors import LimbeckError, SpecError
from limbeck.llm.families import FAMILIES
from limbeck.llm.model import LLM
from limbeck.pipeline import Node, Pipeline, Retriever
from limbeck.registry import node_class, node_names
from limbeck.spec.changes import changed
from limbeck.spec.document import Entry, parse
from limbeck.spec.fields import Fields
from limbeck.spec.findings import Findings, Refused, near
from limbeck.spec.lessons import read_lesson
from limbeck.spec.models import BUILT_IN, below, found
from limbeck.spec.recipes import read_recipe
from limbeck.spec.spec import NAME, Spec
from limbeck.spec.values import path_below
from limbeck.types import Documents

__all__ = ["read"]

_VERSION = 1
_SECTIONS = ("limbeck", "llms", "corpora", "indexes", "pipelines", "teach", "train")
_T = TypeVar("_T")


def read(
    text: str, *, folder: Path, file: str, changes: Iterable[str] = (), section: str = "train"
) -> Spec:
    """Return the spec of a YAML text.

    Args:
        text: the YAML.
        folder: what relative paths start from.
        file: the file's name, for messages.
        changes: `key=value`.
        section: that the keys are in; "" where they begin with it.

    Raises:
        SpecError: it is no spec; the error holds every finding.
        UsageError: a change has another form.
    """
    return _Reader(changed(parse(text, name=file), section, changes), folder, file).spec()


class _Reader:
    """Reads one document; gathers findings instead of stopping at the first."""

    def __init__(self, root: Entry, folder: Path, file: str) -> None:
        self._root = root
        self._folder = folder
        self._file = file
        self._findings = Findings(file)
        self._lines: dict[str, int] = {}
        self._sections: dict[str, dict[str, Entry]] = {}
        self._open: list[str] = []
        self._open_indexes: list[str] = []
        self._read_indexes: dict[str, Retriever | None] = {}
        self._read: dict[str, Node | None] = {}
        self._fields = Fields(folder, self._findings, self._steps)
        self._fields.special |= {
            tuple[Node, ...]: self._branches,
            LLM: lambda entry, place: self._one_of(self._llms, "llms", entry, place),
            Documents: lambda entry, place: self._one_of(self._corpora, "corpora", entry, place),
        }

    def spec(self) -> Spec:
        self._head()
        llms, corpora, indexes = self._llms, self._corpora, self._indexes
        pipelines = {name: self._pipeline(name) for name in self._section("pipelines")}
        lesson = self._training("teach", read_lesson)
        recipe = self._training("train", read_recipe)
        if not pipelines and "train" not in self._lines and not self._findings.problems:
            self._findings.find(
                "pipelines", self._root, "a spec must have pipelines; it has none", "add one"
            )
        if self._findings.problems:
            raise SpecError(self._findings.problems)
        return Spec(
            llms=llms,
            corpora=corpora,
            indexes=indexes,
            pipelines={name: node for name, node in pipelines.items() if node is not None},
            lesson=lesson,
            recipe=recipe,
            folder=self._folder,
            file=self._file,
            lines=self._lines,
        )

    # What stands at the top of the file.

    def _head(self) -> None:
        if not isinstance(self._root.value, dict):
            raise SpecError(
                [self._findings.problem("", self._root, "a spec must be a mapping", "see README")]
            )
        for name, entry in self._root.value.items():
            if name not in _SECTIONS:
                self._findings.find(
                    name, entry, f"a spec has no section {name!r}", near(name, _SECTIONS)
                )
        version = self._root.value.get("limbeck")
        if version is None or version.value != _VERSION or version.value is True:
            came = None if version is None else version.value
            where = version or self._root
            self._findings.find(
                "limbeck",
                where,
                f"a spec must say `limbeck: {_VERSION}`; got {came!r}",
                f"write limbeck: {_VERSION} as its first line",
            )

    def _section(self, name: str) -> dict[str, Entry]:
        """Return the entries of a section by their names; what is malformed is found once."""
        if name not in self._sections:
            self._sections[name] = self._sound(name)
        return self._sections[name]

    def _sound(self, name: str) -> dict[str, Entry]:
        entry = typing.cast("dict[str, Entry]", self._root.value).get(name)
        if entry is None or entry.value is None:
            return {}
        if not isinstance(entry.value, dict):
            self._findings.find(
                name, entry, f"{name} must be a mapping of names", "write name: value lines"
            )
            return {}
        for key, value in entry.value.items():
            if not NAME.match(key):
                mend = "use letters, digits, '_' and '-'"
                self._findings.find(f"{name}.{key}", value, f"{key!r} cannot be a name", mend)
        return {key: value for key, value in entry.value.items() if NAME.match(key)}

    def _each(self, section: str, build: Callable[[Entry, str], _T]) -> dict[str, _T]:
        built: dict[str, _T] = {}
        for name, entry in self._section(section).items():
            self._lines[f"{section}.{name}"] = entry.line
            try:
                built[name] = build(entry, f"{section}.{name}")
            except Refused as refused:
                self._findings.problems.append(refused.problem)
        return built

    @cached_property
    def _llms(self) -> dict[str, LLM]:
        return self._each("llms", self._llm)

    def _llm(self, entry: Entry, place: str) -> LLM:
        values = dict(self._fields.mapping(entry, place))
        named = values.get("backend", entry)
        backend, model = (self._text(values.pop(k, None), entry, place, k) for k in _LLM_KEYS)
        if backend not in FAMILIES:
            raise self._findings.refused(
                f"{place}.backend",
                named,
                f"a backend must be one of {', '.join(FAMILIES)}; got {backend!r}",
                near(backend, FAMILIES),
            )
        if backend == "llamacpp" and model not in BUILT_IN:
            model = str(self._fields.model(model, entry, f"{place}.model", below))
        if FAMILIES[backend].loads or "engine" in values:
            model = self._fields.model(model, entry, f"{place}.model", found)
        return self._fields.made(LLM, values, entry, place, first=f"{backend}:{model}")

    def _text(self, value: Entry | None, entry: Entry, place: str, key: str) -> str:
        if value is None or not isinstance(value.value, str) or not value.value:
            came = "nothing" if value is None else repr(value.value)
            raise self._findings.refused(
                f"{place}.{key}", value or entry, f"an LLM must have a {key}; got {came}", "name it"
            )
        return value.value

    @cached_property
    def _corpora(self) -> dict[str, Corpus]:
        return self._each("corpora", self._corpus)

    def _corpus(self, entry: Entry, place: str) -> Corpus:
        if isinstance(entry.value, str):
            raise self._findings.refused(
                place,
                entry,
                f"a corpus must be a mapping; got {entry.value!r}",
                f"write {{path: {entry.value}}}",
            )
        values = self._fields.mapping(entry, place)
        self._fields.known(values, ("path",), place)
        if "path" not in values:
            raise self._findings.refused(
                place, entry, "a corpus must have a path", "add path: FOLDER"
            )
        path = path_below(self._folder, values["path"], f"{place}.path", self._findings)
        try:
            return Corpus.load(path)
        except LimbeckError as error:
            raise self._findings.refused(f"{place}.path", values["path"], str(error)) from None

    @cached_property
    def _indexes(self) -> dict[str, Retriever]:
        found = {name: self._index(name) for name in self._section("indexes")}
        return {name: index for name, index in found.items() if index is not None}

    def _index(self, name: str) -> Retriever | None:
        """Return a named index, which may name others in its parameters; None where refused."""
        if name in self._read_indexes:
            return self._read_indexes[name]
        entry = self._section("indexes")[name]
        place = f"indexes.{name}"
        self._lines[place] = entry.line
        self._open_indexes.append(name)
        try:
            self._read_indexes[name] = self._retriever(entry, place)
        except Refused as refused:
            self._findings.problems.append(refused.problem)
            self._read_indexes[name] = None
        finally:
            self._open_indexes.pop()
        return self._read_indexes[name]

    def _retriever(self, entry: Entry, place: str) -> Retriever:
        name, values = self._fields.single(
            entry, place, "an index is one line, such as bm25: {bm25: {}}"
        )
        own = place.partition(".")[2]
        if own != name and own in node_names():
            raise self._findings.refused(
                place,
                entry,
                f"{own!r} is the name of a node already",
                "give the index another name",
            )
        node = self._node(name, values, entry, place)
        if not isinstance(node, Retriever):
            raise self._findings.refused(
                place, entry, f"an index must be a retriever; {name} is none", ""
            )
        return node

    # Pipelines and their steps.

    def _pipeline(self, name: str) -> Node | None:
        """Return the node of a named pipeline; None where it was refused."""
        if name in self._read:
            return self._read[name]
        entry = self._section("pipelines")[name]
        place = f"pipelines.{name}"
        self._lines[place] = entry.line
        self._open.append(name)
        try:
            self._read[name] = self._steps(entry, place)
        except Refused as refused:
            self._findings.problems.append(refused.problem)
            self._read[name] = None
        finally:
            self._open.pop()
        return self._read[name]

    def _steps(self, entry: Entry, place: str) -> Node:
        """Return the node of a list of steps, or of one step."""
        self._lines[place] = entry.line
        if not isinstance(entry.value, list):
            return self._step(entry, place)
        if not entry.value:
            raise self._findings.refused(
                place, entry, "a pipeline must have steps; it has none", "add one"
            )
        if len(entry.value) == 1:
            return self._steps(entry.value[0], place)
        return Pipeline(self._each_of(entry.value, place))

    def _each_of(self, entries: list[Entry], place: str) -> tuple[Node, ...]:
        """Return the node of each entry; what is refused does not keep the others from reading."""
        nodes: list[Node] = []
        for i, entry in enumerate(entries):
            try:
                nodes.append(self._steps(entry, f"{place}[{i}]"))
            except Refused as refused:
                self._findings.problems.append(refused.problem)
        if len(nodes) < len(entries):
            raise Refused(self._findings.problems.pop())
        return tuple(nodes)

    def _step(self, entry: Entry, place: str) -> Node:
        if isinstance(entry.value, str):
            return self._named(entry.value, entry, place)
        name, values = self._fields.single(entry, place, "a step is a name, or {name: parameters}")
        index = self._index_named(name, entry, place)
        if index is None:
            return self._node(name, values, entry, place)
        return self._fields.made(type(index), values, entry, place, base=index)

    def _named(self, name: str, entry: Entry, place: str) -> Node:
        """Return the index, else the pipeline, else the registered node of a name.

        Inside its own pipeline, the name of an index means the index, that of a node the node.
        """
        index = self._index_named(name, entry, place)
        is_index = index is not None and name in self._open
        is_node = self._open[-1:] == [name] and name in node_names()
        if name in self._section("pipelines") and not (is_index or is_node):
            return self._referred(name, index, entry, place)
        return self._node(name, {}, entry, place) if index is None else index

    def _referred(self, name: str, index: Retriever | None, entry: Entry, place: str) -> Node:
        if name in self._open:
            ring = " -> ".join((*self._open[self._open.index(name) :], name))
            raise self._findings.refused(
                place, entry, f"a pipeline must not contain itself: {ring}", "break the circle"
            )
        node = self._pipeline(name)
        if node is None:
            raise self._findings.refused(
                place, entry, f"pipeline {name!r} is refused itself", "mend it first"
            )
        if index is not None and node != index:
            raise self._findings.refused(
                place,
                entry,
                f"{name!r} is ambiguous: an index and another pipeline have that name",
                "rename one of them",
            )
        return node

    def _index_named(self, name: str, entry: Entry, place: str) -> Retriever | None:
        if name not in self._section("indexes"):
            return None
        if name in self._open_indexes:
            ring = " -> ".join((*self._open_indexes[self._open_indexes.index(name) :], name))
            raise self._findings.refused(
                place, entry, f"an index must not contain itself: {ring}", "break the circle"
            )
        index = self._index(name)
        if index is None:
            raise self._findings.refused(
                place, entry, f"index {name!r} is refused itself", "mend it first"
            )
        return index

    # Nodes and their parameters.

    def _node(self, name: str, values: dict[str, Entry], entry: Entry, place: str) -> Node:
        if name not in node_names():
            known = (*self._section("indexes"), *self._section("pipelines"), *node_names())
            raise self._findings.refused(
                place, entry, f"{name!r} is no index, pipeline or node", near(name, known)
            )
        try:
            cls = node_class(name)
        except LimbeckError as error:
            raise self._findings.refused(place, entry, str(error)) from None
        return self._fields.made(cls, values, entry, place)

    def _training(self, section: str, read: Callable[[Entry, Fields, Findings], _T]) -> _T | None:
        """Return what a section about training says; None where it is not there, or refused."""
        entry = typing.cast("dict[str, Entry]", self._root.value).get(section)
        if entry is None:
            return None
        self._lines[section] = entry.line
        try:
            return read(entry, self._fields, self._findings)
        except Refused as refused:
            self._findings.problems.append(refused.problem)
            return None

    def _branches(self, entry: Entry, place: str) -> tuple[Node, ...]:
        if not isinstance(entry.value, list):
            raise self._findings.refused(place, entry, "branches must be a list", "write [a, b]")
        return self._each_of(entry.value, place)

    def _one_of(self, named: dict[str, _T], section: str, entry: Entry, place: str) -> _T:
        if isinstance(entry.value, str) and entry.value in named:
            return named[entry.value]
        known = self._section(section)
        if isinstance(entry.value, str) and entry.value in known:
            raise self._findings.refused(
                place, entry, f"{section}.{entry.value} is refused itself", ""
            )
        raise self._findings.refused(
            place,
            entry,
            f"must be a name under {section}; got {entry.plain()!r}",
            near(str(entry.value), known),
        )


_LLM_KEYS = ("backend", "model")
