"""The tiny world, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training import world


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, in BEIR layout."""
    return world.collection(tmp_path_factory.mktemp("world") / "tiny")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained BERT, with dropout."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    return world.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose positions count from the padding's id on."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    return world.bert(tmp_path_factory.mktemp("roberta"), kind="Roberta")
