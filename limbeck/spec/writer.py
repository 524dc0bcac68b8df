"""Nodes to YAML: parameters that differ from their defaults, parts under their names."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from limbeck.corpus import Corpus
from limbeck.errors import UsageError
from limbeck.llm.model import LLM
from limbeck.pipeline import Node, Pipeline, Retriever
from limbeck.registry import node_names
from limbeck.spec.models import BUILT_IN, MODEL_FIELDS
from limbeck.spec.spec import NAME, Spec, parameters

__all__ = ["named", "write"]


def write(spec: Spec) -> str:
    """Return a spec as YAML that reads back equal.

    Raises:
        UsageError: a part has no form in a file: a callable, a corpus in memory, a path outside, a
            pipeline's name.
    """
    return _Writer(spec).text()


def named(spec: Spec) -> Spec:
    """Return the spec with every LLM, corpus and index of its parts under a name."""
    llms, corpora, indexes = dict(spec.llms), dict(spec.corpora), dict(spec.indexes)
    for part in spec.parts:
        for node in part.walk():
            for value in (getattr(node, f.name) for f in parameters(node)):
                if isinstance(value, LLM):
                    _name(value, llms, value.model.rpartition(":")[2].rpartition("/")[2])
                elif isinstance(value, Corpus):
                    stem = value.path.stem if value.path is not None else "corpus"
                    _name(value, corpora, stem)
            if isinstance(node, Retriever):
                _name(_plainest(node), indexes, node.name, same=_plainest)
    return dataclasses.replace(spec, llms=llms, corpora=corpora, indexes=indexes)


def _plainest(node: Any) -> Any:
    """Return a retriever with the default k, as it stands under indexes."""
    return dataclasses.replace(node, k=_default(node, "k"))


def _name(value: Any, names: dict[str, Any], stem: str, *, same: Any = lambda v: v) -> None:
    if any(type(known) is type(value) and same(known) == value for known in names.values()):
        return
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-_") or "part"
    number = 1
    while (name := stem if number == 1 else f"{stem}{number}") in names:
        number += 1
    names[name] = value


def _default(node: Any, name: str) -> Any:
    f = next(f for f in dataclasses.fields(node) if f.name == name)
    return f.default if f.default_factory is dataclasses.MISSING else f.default_factory()


class _Writer:
    def __init__(self, spec: Spec) -> None:
        self._spec = named(spec)

    def text(self) -> str:
        spec = self._spec
        for name in spec.pipelines:
            if not NAME.match(name):
                raise UsageError(
                    "the name of a pipeline must have letters, digits, '_' and '-' alone to stand "
                    f"in a file; got {name!r}; rename it"
                )
        document: dict[str, Any] = {"limbeck": 1}
        if spec.llms:
            document["llms"] = {name: self._llm(llm) for name, llm in spec.llms.items()}
        if spec.corpora:
            document["corpora"] = {n: {"path": self._path(c.path)} for n, c in spec.corpora.items()}
        if spec.indexes:
            document["indexes"] = {n: self._node(i, full=True) for n, i in spec.indexes.items()}
        document["pipelines"] = {name: self._steps(n) for name, n in spec.pipelines.items()}
        sections = {"teach": spec.lesson, "train": spec.recipe}
        document |= {name: self._values(held) for name, held in sections.items() if held}
        return yaml.dump(
            document,
            Dumper=yaml.SafeDumper,
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
            width=100,
        )

    def _llm(self, llm: LLM) -> dict[str, Any]:
        if llm.backend is not None:
            raise UsageError(
                f"an LLM must be plain data to stand in a file; {llm.model} was made in Python; "
                "name a back-end that a file can name"
            )
        backend, _, model = llm.model.partition(":")
        is_local = backend == "llamacpp" or llm.loading is not None
        named = self._model(model) if is_local else model
        values = self._values(llm, skip={"model"})
        extra = {"extra": llm.more} if llm.extra else {}
        return {"backend": backend, "model": named, **values, **extra}

    def _steps(self, node: Node) -> list[Any]:
        steps = node.steps if isinstance(node, Pipeline) else (node,)
        return [self._step(step) for step in steps]

    def _step(self, node: Node) -> Any:
        return self._steps(node) if isinstance(node, Pipeline) else self._node(node)

    def _node(self, node: Node, *, full: bool = False) -> Any:
        """Return a node as a name, or as {name: parameters}; a retriever by its index."""
        if isinstance(node, Retriever) and not full:
            return self._retriever(node)
        if node.name not in node_names():
            raise UsageError(
                f"a node must be registered to stand in a file; {node.name!r} is not; "
                'add an entry point in the group "limbeck.nodes"'
            )
        values = self._values(node)
        if values or full or node.name in self._spec.pipelines:
            return {node.name: values}
        return node.name

    def _retriever(self, node: Retriever) -> Any:
        for name, index in self._spec.indexes.items():
            if type(index) is type(node) and dataclasses.replace(index, k=node.k) == node:
                if index.k != node.k:
                    return {name: {"k": node.k}}
                # As a mapping it is the index, whatever pipeline has the same name.
                return name if self._spec.pipelines.get(name, index) == index else {name: {}}
        raise AssertionError(f"{node.name} was named before")

    def _values(
        self, part: Any, *, skip: frozenset[str] | set[str] = frozenset()
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for f in parameters(part):
            value = getattr(part, f.name)
            if f.name not in skip and value != _default(part, f.name):
                values[f.name] = self._value(value, f.name)
        return values

    def _value(self, value: Any, name: str) -> Any:
        if isinstance(value, Node):
            return self._step(value)
        if isinstance(value, LLM | Corpus):
            names = self._spec.llms if isinstance(value, LLM) else self._spec.corpora
            return _key_of(value, names)
        if dataclasses.is_dataclass(value):
            values, kind = self._values(value), getattr(type(value), "name", None)
            is_parameter = any(f.name == "name" for f in parameters(value))
            return values if kind is None or is_parameter else {kind: values}
        if isinstance(value, Path):
            return self._path(value)
        if isinstance(value, (tuple, list)):
            return [self._value(item, name) for item in value]
        if value is None or isinstance(value, (str, int, float, bool)):
            named = isinstance(value, str) and name in MODEL_FIELDS
            return self._model(str(value)) if named else value
        raise UsageError(
            f"a parameter must be plain data to stand in a file; {name} is a "
            f"{type(value).__name__}; use a registered node instead"
        )

    def _model(self, name: str) -> str:
        """Return the name of a model, or the path that it is, in the form that only a path has."""
        if name in BUILT_IN or not (Path(name).is_absolute() or Path(name).exists()):
            return name
        return f"./{self._path(Path(name).absolute())}"

    def _path(self, path: Path | None) -> str:
        if path is None:
            raise UsageError("a corpus in memory cannot stand in a file; save it as JSONL first")
        full = Path(os.path.normpath(self._spec.folder / path))
        if not full.is_relative_to(self._spec.folder):
            raise UsageError(
                f"a path must lie in the spec's folder, {self._spec.folder}; got {path}; "
                "give Spec.of a folder above it"
            )
        return full.relative_to(self._spec.folder).as_posix()


def _key_of(value: object, names: Mapping[str, Any]) -> str:
    return next(name for name, known in names.items() if known == value)
