"""Commands that work on a spec: eval, demo, check, index, search."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limbeck.cli.app import closing, command_line, noted, one_line, root, with_progress
from limbeck.cli.options import JSON, is_mini
from limbeck.errors import LLMError

if TYPE_CHECKING:
    from limbeck.corpus import Corpus
    from limbeck.eval.datasets import Dataset
    from limbeck.eval.results import Report
    from limbeck.meter import Usage
    from limbeck.pipeline import Node
    from limbeck.spec.spec import Spec
    from limbeck.types import Run

_DATA = click.option(
    "--data",
    "data",
    multiple=True,
    metavar="FOLDER",
    help="A collection in BEIR layout; may stand several times. `mini` is the bundled one.",
)


@root.command("eval")
@click.argument("spec", type=click.Path(path_type=Path))
@_DATA
@click.option("--split", default="test", show_default=True, help="Which qrels to use.")
@click.option("--pipelines", help="Names of pipelines, with commas; default: all of the spec.")
@click.option(
    "--measures", default="nDCG@10,R@100", show_default=True, help="ir-measures names, with commas."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the report.")
@click.option(
    "--exclude-same-id/--keep-same-id",
    default=None,
    help="Whether a query may not find the document with its id. Default: as the collection says.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Of the bootstrap and the test.",
)
@click.option(
    "--queries", type=click.IntRange(min=1), help="Only so many of each dataset, for a first look."
)
@click.option("--fresh", is_flag=True, help="Do all retrieval again; recorded answers are kept.")
@JSON
@with_progress
def _eval(  # noqa: PLR0913 - one parameter an option
    spec: Path,
    data: tuple[str, ...],
    split: str,
    pipelines: str | None,
    measures: str,
    out: Path,
    exclude_same_id: bool | None,  # noqa: FBT001 - click passes it by name
    seed: int,
    queries: int | None,
    fresh: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Evaluate the pipelines of SPEC: a table, OUT/report.json, report.html and runs.

    A run that was stopped goes on where it was when the same command is given again.
    """
    from limbeck.spec.spec import Spec

    if not data:
        raise click.UsageError("eval must be told what to evaluate on; add --data FOLDER")
    read = Spec.load(spec)
    _ask_servers(read)
    chosen = read.select(_names(pipelines)) if pipelines else _ranking(read)
    datasets = [_dataset(name, split, exclude_same_id) for name in data]
    if queries is not None:
        datasets = [dataset.first(queries) for dataset in datasets]
    settings = {"measures": measures, "seed": seed, "resume": not fresh}
    _evaluate(chosen, datasets, settings, out=out, as_json=as_json)


def _ranking(spec: Spec) -> Spec:
    """Return the spec without the pipelines that end in no run and are parts of others."""
    spec.check()
    kinds = spec.kinds()
    kept = [name for name, kind in kinds.items() if kind is not None]
    if len(kept) in {0, len(kinds)}:
        return spec
    left_out = ", ".join(name for name in kinds if name not in kept)
    click.echo(f"left out, since no run is at the end: {left_out}", err=True)
    return spec.select(kept)


@root.command("demo")
@click.option("--out", default="demo-report", show_default=True, type=click.Path(path_type=Path))
@JSON
@with_progress
def _demo(out: Path, as_json: bool) -> None:  # noqa: FBT001
    """Evaluate the quick-start spec on the bundled mini collection: no key, no model hub.

    The spec and the LLM's recorded answers are copied into OUT, to be changed and run again with
    `limbeck eval OUT/quickstart.yaml --data mini --out OUT`.
    """
    from limbeck.eval.datasets import Dataset
    from limbeck.spec.spec import Spec

    spec = Spec.load(_copy_quickstart(out))
    _evaluate(spec, [Dataset.mini()], {}, out=out, as_json=as_json)


def _copy_quickstart(out: Path) -> Path:
    """Copy the quick-start spec and its tapes into a folder, leaving what is there already."""
    from limbeck.artifact import write_atomically

    with as_file(files("limbeck.eval").joinpath("mini")) as mini:
        for file in (mini / "quickstart.yaml", *sorted((mini / "tapes").glob("*.jsonl"))):
            copy = out / file.relative_to(mini)
            if not copy.exists():
                write_atomically(copy, file.read_bytes())
    return out / "quickstart.yaml"


def _evaluate(
    spec: Spec, datasets: Sequence[Dataset], settings: dict[str, Any], *, out: Path, as_json: bool
) -> None:
    from limbeck.eval.experiment import Experiment
    from limbeck.eval.report import table, to_json, write_report

    spec.check()
    with closing(_taped(spec, out)) as taped:
        report = Experiment(taped.pipelines, datasets, out=out, **settings).run()
    write_report(report, out, command=command_line(), spec=spec.dump())
    if as_json:
        click.echo(json.dumps(to_json(report), ensure_ascii=False))
    else:
        _print(table(report))
        click.echo(f"report: {out / 'report.html'}", err=True)
    _fail_if_any(report)


def _ask_servers(spec: Spec) -> bool:
    """Let each LLM learn what its server can, and return whether none refuses to answer it.

    One's own that is down is told. Others are not asked unbidden: what the cache knows of them from
    `limbeck llm probe` counts.
    """
    from limbeck.llm.probe import Unreachable
    from limbeck.spec.writer import named

    sound = True
    for name, llm in named(spec).llms.items():
        if llm.problems():
            continue
        try:
            llm.probe() if llm.is_near else llm.recall()
        except LLMError as error:
            click.echo(f"llms.{name}: {one_line(error)}", err=True)
            sound = sound and isinstance(error, Unreachable)
    return sound


def _taped(spec: Spec, out: Path) -> Spec:
    """Return the spec with a cassette under OUT for each LLM without one: a kill loses nothing."""
    from limbeck.spec.tapes import with_cassettes

    return with_cassettes(spec, out / "tapes")


def _fail_if_any(report: Report) -> None:
    for failure in report.failures:
        click.echo(f"limbeck: {one_line(failure)}", err=True)
    if report.failures:
        sys.exit(1)


@root.command("check")
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--queries",
    default=1000,
    show_default=True,
    type=click.IntRange(min=0),
    help="For the estimate of LLM calls.",
)
@JSON
def _check(spec: Path, queries: int, as_json: bool) -> None:  # noqa: FBT001
    """Check SPEC without loading a model or spending money: names, inputs, scores, sizes.

    LLM servers of one's own are asked what they can; `limbeck llm probe` asks others. One that is
    down is told, and the rest is checked; one that refuses to answer is a fault.
    """
    from limbeck.spec.spec import Spec

    read = Spec.load(spec)
    with closing(read):
        answered = _ask_servers(read)
        read.check()
    _tell_checked(read, queries, as_json=as_json)
    if not answered:
        sys.exit(1)


def _tell_checked(spec: Spec, queries: int, *, as_json: bool) -> None:
    """Print what each pipeline of a sound spec is, and what it may cost."""
    from limbeck.retrieval.expansion import estimate_building

    kinds = spec.kinds()
    asking = {name: node.estimate(queries) for name, node in spec.pipelines.items()}
    building = {name: estimate_building(node, 1000) for name, node in spec.pipelines.items()}
    if as_json:
        shown = {
            name: {
                "fingerprint": node.fingerprint,
                "kind": kinds[name],
                **_plain(asking[name]),
                "building_1000_documents": _plain(building[name]),
            }
            for name, node in spec.pipelines.items()
        }
        click.echo(json.dumps({"queries": queries, "pipelines": shown, **_sections(spec, queries)}))
        return
    for name in spec.pipelines:
        sound = "is sound" if kinds[name] else "is sound as a part of others: it ends in no run"
        click.echo(f"{name} {sound}{_cost(asking[name], f'{queries:,} queries')}")
        if building[name].calls:
            click.echo(f"{name}, its indexes{_cost(building[name], '1,000 documents')}")
    _tell_sections(spec, queries)


def _sections(spec: Spec, queries: int) -> dict[str, Any]:
    """Return what the sections for teaching and training are, as plain data."""
    told: dict[str, Any] = {}
    if (lesson := spec.lesson) is not None:
        n = lesson.n_queries or queries
        told["teach"] = {
            "queries": n,
            **_plain(lesson.estimate(n)),
            "writing_1000_documents": _plain(lesson.estimate_writing(1000)),
        }
    if (recipe := spec.recipe) is not None:
        told["train"] = {"objective": recipe.objective.name, "model": recipe.model.name}
    return told


def _tell_sections(spec: Spec, queries: int) -> None:
    """Print the same in lines."""
    if (lesson := spec.lesson) is not None:
        n = lesson.n_queries or queries
        asked = _cost(lesson.estimate(n), f"{n:,} queries", least="about")
        click.echo(f"teach is sound{asked}")
        if (writing := lesson.estimate_writing(1000)).calls:
            click.echo(f"teach, its made queries{_cost(writing, '1,000 documents')}")
    if (recipe := spec.recipe) is not None:
        what = f"{recipe.objective.name} trains a model of the kind {recipe.model.name}"
        click.echo(f"train is sound: {what}, from {recipe.model.base}")


def _plain(usage: Usage) -> dict[str, float]:
    return {
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "usd": usage.usd,
    }


def _cost(usage: Usage, what_for: str, *, least: str = "at most") -> str:
    if not usage.calls:
        return ""
    tokens = f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens"
    return f": {least} {usage.calls:,} LLM calls, {tokens}, {usage.usd:.2f} USD for {what_for}"


@root.command("index")
@click.argument("spec", type=click.Path(path_type=Path))
@_DATA
@with_progress
def _index(spec: Path, data: tuple[str, ...]) -> None:
    """Build the indexes of SPEC: those that name a corpus, and the others for each --data.

    What an LLM writes for documents is recorded in its cassette, else in one in the cache.
    """
    from limbeck.artifact import cache_folder
    from limbeck.spec.spec import Spec
    from limbeck.spec.writer import named

    read = named(Spec.load(spec))
    own = [name for name, index in read.indexes.items() if index.corpus is not None]
    if not data and len(own) < len(read.indexes):
        missing = ", ".join(name for name in read.indexes if name not in own)
        raise click.UsageError(f"{missing} name no corpus; add --data FOLDER")
    corpora: list[Corpus | None] = [_corpus(name) for name in data] or [None]
    with closing(_taped(read, cache_folder())) as taped, noted():
        for corpus in corpora:
            for name, index in taped.indexes.items():
                bound = index.bind(corpus)
                size = len(bound.corpus) if bound.corpus is not None else 0
                click.echo(f"{name}: {size:,} documents, {bound.fingerprint}")


@root.command("search")
@click.argument("spec", type=click.Path(path_type=Path))
@click.argument("query")
@click.option("--pipeline", help="Which pipeline; needed where the spec has several.")
@click.option("-k", default=10, show_default=True, type=click.IntRange(min=1), help="Hits shown.")
@_DATA
@JSON
@with_progress
def _search(
    spec: Path,
    query: str,
    pipeline: str | None,
    k: int,
    data: tuple[str, ...],
    as_json: bool,  # noqa: FBT001
) -> None:
    """Search for QUERY with a pipeline of SPEC."""
    from limbeck.spec.spec import Spec

    if len(data) > 1:
        raise click.UsageError("search takes one --data FOLDER")
    read = Spec.load(spec)
    name = pipeline or _only(read)
    node = read.select([name]).pipelines[name]
    node.check()
    if read.kinds()[name] is None:
        raise click.UsageError(f"{name} ends in no run; name a pipeline that ends in a retriever")
    corpus = _corpus(data[0]) if data else None
    with closing(read), noted() as notes:
        run = _bound(node, corpus).top(k)([query])
    if as_json:
        found = {"query": query, "pipeline": name, "kind": run.kind, "hits": list(_hits(run))}
        found["notes"] = notes
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for hit in _hits(run):
        click.echo(f"{hit['rank']:3}  {hit['score']:9.4f}  {hit['doc_id']}  {_snippet(hit)}")
    if not len(run.rows):
        click.echo("no document matches", err=True)
    elif len(run.rows) < k and len(run.rows) in _limits(node):
        more = "for more, raise its k or its depth in the spec"
        click.echo(f"{name} gives {len(run.rows):,} hits at most; {more}", err=True)


def _limits(node: Node) -> set[int | None]:
    """Return how many hits the steps of a pipeline give or read at most."""
    return {getattr(step, name, None) for step in node.walk() for name in ("k", "depth")}


def _bound(node: Node, corpus: Corpus | None) -> Node:
    """Return a node bound to a corpus; without one, every index must name its own."""
    from limbeck.pipeline import Retriever

    unbound = [r.name for r in node.walk() if isinstance(r, Retriever) and r.corpus is None]
    if corpus is None and unbound:
        names = ", ".join(dict.fromkeys(unbound))
        raise click.UsageError(f"the indexes of {names} name no corpus; add --data FOLDER")
    return node.bind(corpus)


def _hits(run: Run) -> Iterator[dict[str, Any]]:
    pairs = zip(run.rows.tolist(), run.scores.tolist(), strict=True)
    for rank, (row, score) in enumerate(pairs, start=1):
        document = run.corpus.document(row)
        yield {
            "rank": rank,
            "doc_id": document.doc_id,
            "score": score,
            "title": document.title,
            "text": document.text,
        }


def _snippet(hit: dict[str, Any]) -> str:
    shown = one_line(f"{hit['title']} {hit['text']}")
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def _only(spec: Spec) -> str:
    if len(spec.pipelines) == 1:
        return next(iter(spec.pipelines))
    raise click.UsageError(f"name a pipeline with --pipeline: {', '.join(spec.pipelines)}")


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _dataset(name: str, split: str, exclude_same_id: bool | None) -> Dataset:  # noqa: FBT001
    from limbeck.eval.datasets import Dataset

    if is_mini(name):
        return Dataset.mini(split, exclude_same_id=bool(exclude_same_id))
    return Dataset.load(name, split, exclude_same_id=exclude_same_id)


def _corpus(name: str) -> Corpus:
    from limbeck.corpus import Corpus
    from limbeck.eval.datasets import Dataset

    return Dataset.mini().corpus if is_mini(name) else Corpus.load(name)


def _print(renderable: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)  # no cell is cut; a table is as wide as it must be
    console.print(renderable)
