"""Reports: the shape that others script against, a page that stands alone, files that read back."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from limbeck.errors import ArtifactError
from limbeck.eval.experiment import Experiment
from limbeck.eval.report import table, to_json, write_report
from limbeck.trec import read_run
from tests.eval.fakes import Fails, Spends, Upside, Words, dataset

EVIL = "<script>alert(1)</script> & \"'"


@pytest.fixture(scope="module")
def report(mini_corpus):
    pipelines = {
        "words": Words(),
        "upside": Words() >> Upside(),
        EVIL: Spends() >> Words(weight=2.0),
        "fails": Words() >> Fails(),
    }
    datasets = [dataset(mini_corpus), dataset(mini_corpus, "excluded", exclude_same_id=True)]
    return Experiment(pipelines, datasets, "nDCG@10,R@100").run()


@pytest.fixture(scope="module")
def out(report, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    write_report(report, folder, command=f"limbeck eval {EVIL}", spec=f"limbeck: 1 # {EVIL}")
    return folder


def shape(value):
    """Return a value with its leaves replaced by the names of their types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


LLM = {
    "calls": "int",
    "prompt_tokens": "int",
    "completion_tokens": "int",
    "usd": "float",
    "saved_calls": "int",
    "saved_prompt_tokens": "int",
    "saved_completion_tokens": "int",
    "saved_usd": "float",
}
PIPELINE = {"nDCG@10": "float", "R@100": "float", "seconds": "float", "queries": "int", "llm": LLM}
VERSUS = {
    "difference": "float",
    "p": "float",
    "p_holm": "float",
    "wins": "int",
    "ties": "int",
    "losses": "int",
    "detectable": "NoneType",
}
STEP = {"node": "str", "seconds": "float", "llm": LLM, "notes": {}}
DETAILS = {
    "fingerprint": "str",
    "reused": "bool",
    "score_kind": "str",
    "run": "str",
    "scores": "str",
    "ms_per_query": "float",
    "intervals": {"nDCG@10": ["float"], "R@100": ["float"]},
    "versus": {"nDCG@10": VERSUS, "R@100": VERSUS},
    "notes": {},
    "steps": [STEP],
}


def test_the_shape_of_report_json(out: Path) -> None:
    """The contract of design section 6; a change here breaks the scripts of others."""
    content = json.loads((out / "report.json").read_text())
    assert set(content) == {"datasets", "measures", "settings", "reproduce"}
    assert set(content["datasets"]) == {"tiny", "excluded"}
    tiny = content["datasets"]["tiny"]
    assert shape(tiny["pipelines"]) == {"words": PIPELINE, "upside": PIPELINE, EVIL: PIPELINE}
    assert shape(tiny["details"]["upside"]) == DETAILS
    assert shape(tiny["details"]["words"]) == DETAILS | {"versus": {}}
    assert tiny["failed"] == {"fails": "the model must answer; it timed out; look at the server"}
    assert {key: shape(tiny[key]) for key in tiny if key not in {"pipelines", "details"}} == {
        "failed": {"fails": "str"},
        "baseline": "str",
        "split": "str",
        "documents": "int",
        "queries": "int",
        "exclude_same_id": "bool",
        "notes": ["str"],
        "fingerprint": "str",
    }
    assert set(content["settings"]) >= {"limbeck", "tie_rule", "seed", "interval", "test"}
    assert content["reproduce"]["command"] == f"limbeck eval {EVIL}"


def test_the_numbers_of_report_json(report, out: Path) -> None:
    datasets = json.loads((out / "report.json").read_text())["datasets"]
    assert [datasets[name]["exclude_same_id"] for name in ("tiny", "excluded")] == [False, True]
    for result in report.datasets:
        for pipeline in result.pipelines:
            numbers = datasets[result.dataset.name]["pipelines"][pipeline.name]
            assert numbers["nDCG@10"] == pipeline.per_query.of("nDCG@10").mean()
            assert numbers["queries"] == 4
            assert numbers["seconds"] == pipeline.outcome.seconds
            assert numbers["llm"]["calls"] == (2 if pipeline.name == EVIL else 0)
    notes = datasets["tiny"]["details"][EVIL]["notes"]
    assert notes == {"query kept its text: the LLM answered nothing": 2}


def test_runs_and_scores_read_back(report, out: Path) -> None:
    content = json.loads((out / "report.json").read_text())
    for result in report.datasets:
        for pipeline in result.pipelines:
            details = content["datasets"][result.dataset.name]["details"][pipeline.name]
            run = read_run(out / details["run"], result.dataset.corpus)
            given = {q: hits for q, hits in pipeline.outcome.run.items() if hits}
            assert dict(run.items()) == given
            header, *rows = (out / details["scores"]).read_text().splitlines()
            assert header == "query_id\tnDCG@10\tR@100"
            values = [[float(cell) for cell in row.split("\t")[1:]] for row in rows]
            assert values == pipeline.per_query.values.tolist()
    assert (out / "runs" / "tiny.words.trec").is_file()


class _Page(HTMLParser):
    VOID = frozenset({"meta", "br", "line", "circle", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_is_well_formed(out: Path) -> None:
    text = (out / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick", "style"} & {name for name, _ in page.attributes}
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_escapes_what_it_was_given(out: Path) -> None:
    text = (out / "report.html").read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6


def test_the_page_says_what_happened(out: Path) -> None:
    text = (out / "report.html").read_text()
    for said in (
        "fails did not finish.",
        "the model must answer; it timed out",
        "a query may not find the document that has its id",
        "no query may find the document that has its id (same-id exclusion)",
        "query kept its text: the LLM answered nothing (2 times)",
        "better</span>",
        "no query differs, which tells nothing of what could be detected",
        "document id descending by code point",
        "How to reproduce",
        "limbeck: 1",
    ):
        assert said in text, said


def test_the_plots_are_well_formed(report, out: Path) -> None:
    plots = re.findall(r"<svg.*?</svg>", (out / "report.html").read_text(), re.DOTALL)
    trees = [ET.fromstring(plot) for plot in plots]
    assert len(trees) == 2 * (2 + 2)  # two plots and two comparisons on each of two datasets
    for tree in trees:
        assert tree.get("aria-label")
        for circle in tree.iter("circle"):
            assert 0 <= float(circle.get("cx")) <= 760
    assert sum(1 for _ in trees[0].iter("circle")) == 3


@pytest.mark.parametrize(
    "pipelines",
    [{"one": Words()}, {"fails": Words() >> Fails()}, {"fails": Words() >> Fails(), "w": Words()}],
)
def test_small_and_failed_experiments_are_reported(mini_corpus, tmp_path: Path, pipelines) -> None:
    report = Experiment(pipelines, [dataset(mini_corpus)], "AP").run()
    write_report(report, tmp_path)
    page = _Page()
    page.feed((tmp_path / "report.html").read_text())
    assert page.open == []
    assert json.loads((tmp_path / "report.json").read_text())["datasets"]["tiny"][
        "failed"
    ].keys() == {name for name in pipelines if name == "fails"}
    assert "tiny" in printed(report)


def printed(report) -> str:
    console = Console(width=160, file=io.StringIO())
    console.print(table(report))
    return console.file.getvalue()


def test_the_table_shows_the_numbers(report) -> None:
    text = printed(report)
    assert "tiny (test): 4 queries, 12 documents" in text
    for pipeline in report.datasets[0].pipelines:
        score = pipeline.scores["nDCG@10"]
        assert f"{score.mean:.4f}" in text
        assert f"{score.low:.3f}-{score.high:.3f}" in text
    assert "2 (2 saved)" in text
    assert "<script>alert(1)</script>" in text  # as it stands: rich reads no HTML
    assert "fails failed: the model must answer" in text
    assert "same-id exclusion" in text


def test_names_with_markup_are_printed_as_they_are(mini_corpus) -> None:
    text = printed(Experiment({"[bold]x[/bold]": Words()}, [dataset(mini_corpus)]).run())
    assert "[bold]x[/bold]" in text


def test_each_pipeline_has_files_of_its_own(mini_corpus, tmp_path: Path) -> None:
    pipelines = {"k=1 (b)": Words(), "k=1 [b]": Words() >> Upside(), "k.1": Words(2.0)}
    write_report(Experiment(pipelines, [dataset(mini_corpus)]).run(), tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == 3
    assert len(list((tmp_path / "scores").iterdir())) == 3
    assert (tmp_path / "runs" / "tiny.k.1.trec").is_file()


def test_report_json_is_written_last(report, tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ArtifactError, match="disk is full"):
        write_report(report, tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_plain_data_alone(report) -> None:
    assert json.loads(json.dumps(to_json(report), allow_nan=False)) == to_json(report)
