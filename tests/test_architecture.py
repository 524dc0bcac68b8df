"""The shape of the package: which way imports go, what an import loads, what a wheel holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import limbeck
from limbeck.fingerprint import digest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "limbeck"

# From left to right: a module may import from its own layer and from those before it.
LAYERS = [
    {"errors"},
    {"fingerprint", "meter", "progress"},
    {"types"},
    {"artifact", "corpus", "execution", "files", "passages", "trec"},
    {"pipeline"},
    {"registry"},
    {"prompts", "llm"},
    {"retrieval"},
    {"agents"},
    {"eval"},
    {"training"},
    {"spec"},
    {"serve"},
    {"cli"},
]
HEAVY = ("torch", "faiss", "openai", "langchain_core", "numba", "onnxruntime", "pydantic", "yaml")


def _modules() -> dict[str, Path]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {".".join(f.relative_to(ROOT).with_suffix("").parts): f for f in files}


def _imports(path: Path) -> set[str]:
    """The Limbeck modules that a file imports anywhere, TYPE_CHECKING blocks included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
    return {name for name in found if name.startswith("limbeck.")}


def _compiled() -> list[tuple[Path, list[Path]]]:
    """Modules whose compiled code numba keeps, each with those that it imports."""
    modules = _modules()
    kept = [file for file in modules.values() if "cache=True" in file.read_text(encoding="utf-8")]
    return [(file, sorted(modules[m] for m in _imports(file) & modules.keys())) for file in kept]


def test_compiled_code_is_not_kept_when_what_it_is_built_on_changes():
    """numba asks only whether a function's own file has changed, so that must change too.

    In the order of imports: what is written here is part of what a later module is built on.
    """
    built = [(file, below) for file, below in _compiled() if below]
    assert {file.name for file, _ in built} == {"_maxsim.py", "_centroid_kernels.py"}
    for file, below in sorted(built, key=lambda pair: len(pair[1])):
        expected = digest(*(each.read_text(encoding="utf-8") for each in below))
        line = f'_BUILT_ON = "{expected}"'
        assert line in file.read_text(encoding="utf-8").splitlines(), f"{file.name}: {line}"


def _layer(module: str) -> int:
    room = module.split(".")[1]
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


def test_every_module_has_a_layer():
    for module in _modules():
        if module not in {"limbeck.__init__", "limbeck.__main__"}:
            assert _layer(module) >= 0, module


def test_imports_go_one_way():
    wrong = [
        f"{module} imports {imported}"
        for module, path in _modules().items()
        if module not in {"limbeck.__init__", "limbeck.__main__"}
        for imported in _imports(path)
        if _layer(imported) > _layer(module)
    ]
    assert not wrong


def test_rooms_side_by_side_do_not_import_each_other():
    for module, path in _modules().items():
        if module.startswith("limbeck.prompts"):
            assert not [i for i in _imports(path) if i.startswith("limbeck.llm")]


def test_no_import_cycles():
    """At module level; what is imported inside a function is loaded later, and may look back."""
    modules = {name.removesuffix(".__init__") for name in _modules()}
    graph: dict[str, set[str]] = {}
    for name, path in _modules().items():
        found: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
        graph[name.removesuffix(".__init__")] = found & modules
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import limbeck",
        "from limbeck import Corpus, Pipeline, Query",
        "from limbeck import BM25, Dense, Fuse, HyDE, LameR, LLM, MuGI, Query2Doc, RM3, Rocchio",
        "from limbeck import Cutoff, Dedup, Doc2Query, DocT5Query, FilteredQueries, MMR, Pass",
        "import limbeck.cli",
        "import limbeck.eval.experiment, limbeck.eval.report",
    ],
)
def test_an_import_loads_nothing_heavy(code):
    assert not _loaded(code) & set(HEAVY)


def test_import_limbeck_takes_less_than_three_tenths_of_a_second():
    def seconds(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - started

    times = sorted(seconds("import limbeck") for _ in range(5))
    assert times[2] < 0.3, times


def _loadable(*, with_torch: bool):
    """Yield all modules, or all but those that cannot be loaded without torch."""
    for info in pkgutil.walk_packages([str(PACKAGE)], "limbeck."):
        if with_torch or not info.name.startswith("limbeck.training."):
            yield importlib.import_module(info.name)


WITHOUT_AND_WITH_TORCH = pytest.mark.parametrize(
    "with_torch", [False, pytest.param(True, marks=pytest.mark.torch)]
)


@WITHOUT_AND_WITH_TORCH
def test_every_public_name_is_there(with_torch):
    for module in _loadable(with_torch=with_torch):
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_every_public_name_of_the_package_is_there():
    for name in limbeck.__all__:
        assert getattr(limbeck, name) is not None
    assert set(dir(limbeck)) == set(limbeck.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        limbeck.nothing  # noqa: B018


def test_nothing_is_pickled():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "joblib", "cloudpickle"} & set(names), path


@WITHOUT_AND_WITH_TORCH
def test_public_functions_take_no_open_keywords(with_torch):
    from limbeck.prompts.template import Template

    allowed = {Template.render}
    for module in _loadable(with_torch=with_torch):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            members = vars(value).values() if isinstance(value, type) else [value]
            for member in members:
                if inspect.isfunction(member) and not member.__name__.startswith("_"):
                    kinds = {p.kind for p in inspect.signature(member).parameters.values()}
                    open_ended = inspect.Parameter.VAR_KEYWORD in kinds
                    assert not open_ended or member in allowed, f"{module.__name__}.{name}"


def test_the_wheel_holds_the_data_and_works_where_it_is_installed(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    here = {
        str(f.relative_to(ROOT))
        for f in PACKAGE.rglob("*")
        if f.is_file()
        and f.suffix in {".py", ".typed", ".toml", ".yaml", ".tsv", ".j2", ".css", ".jsonl"}
    }
    assert here <= held
    assert not [name for name in held if name.startswith(("tests", "docs"))]
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    code = "import limbeck; print(limbeck.__file__, len(limbeck.Dataset.mini().corpus))"
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True, text=True, check=True, env=env, cwd=tmp_path,
    )  # fmt: skip
    file, n_docs = done.stdout.split()
    assert Path(file).is_relative_to(site)
    assert int(n_docs) >= 150
