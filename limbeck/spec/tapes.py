"""Cassettes for the LLMs of a spec that have none, so that no paid answer is lost to a kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

from limbeck.llm.model import LLM
from limbeck.pipeline import Node, Retriever
from limbeck.spec.spec import Spec
from limbeck.spec.writer import named

__all__ = ["with_cassettes"]


def with_cassettes(spec: Spec, folder: Path) -> Spec:
    """Return the spec with a cassette in a folder for each LLM that names none.

    The cassette has the LLM's name in the spec. One LLM stays one object, so that its budget and
    its connection stay one.
    """
    taped = {
        llm: dataclasses.replace(llm, cassette=folder / name)
        for name, llm in named(spec).llms.items()
        if llm.cassette is None
    }
    if not taped:
        return spec

    def change(node: Node) -> Node:
        node = node.with_children(change)
        found = {
            f.name: taped[value]
            for f in dataclasses.fields(node)
            if isinstance(value := getattr(node, f.name), LLM) and value in taped
        }
        return dataclasses.replace(node, **found) if found else node

    pipelines = {name: change(node) for name, node in spec.pipelines.items()}
    indexes = {name: cast("Retriever", change(node)) for name, node in spec.indexes.items()}
    llms = {name: taped.get(llm, llm) for name, llm in spec.llms.items()}
    lesson = None if spec.lesson is None else spec.lesson.with_nodes(change)
    return dataclasses.replace(spec, llms=llms, indexes=indexes, pipelines=pipelines, lesson=lesson)
