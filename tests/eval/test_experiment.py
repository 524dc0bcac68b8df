"""Experiments: shared work once, failures kept apart, and a kill that loses nothing finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from limbeck.agents.hyde import HyDE
from limbeck.agents.pointwise import Pointwise
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, CheckError, DataError, UsageError
from limbeck.eval.datasets import Dataset
from limbeck.eval.experiment import RESUME_FOLDER, Experiment
from limbeck.eval.significance import bootstrap_intervals, holm, paired_p
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed
from limbeck.progress import listening
from limbeck.retrieval.fusion import Fuse
from limbeck.types import Qrels, Query
from tests.eval.fakes import Fails, Spends, Unranked, Upside, Words, dataset


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "calls.log"


def calls(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def by_name(report, position: int = 0):
    return {pipeline.name: pipeline for pipeline in report.datasets[position].pipelines}


def test_a_shared_prefix_runs_once_a_dataset(mini_corpus: Corpus, log: Path) -> None:
    words = Words(log=log)
    pipelines = {
        "words": words,
        "upside": words >> Upside(),
        "twice": words >> Upside() >> Upside(),
        "other": Words(weight=2.0, log=log) >> Upside(),
    }
    datasets = [dataset(mini_corpus), dataset(mini_corpus, "again")]
    report = Experiment(pipelines, datasets).run()
    assert log.read_text().splitlines() == ["words 1.0", "words 2.0"] * 2
    found = by_name(report)
    assert [step.node for step in found["twice"].outcome.steps] == ["words", "upside", "upside"]
    shared = found["words"].outcome.steps[0]
    assert found["upside"].outcome.steps[0] == shared
    assert found["upside"].outcome.seconds == sum(s.seconds for s in found["upside"].outcome.steps)
    assert found["upside"].outcome.seconds > shared.seconds  # what it would take alone


def test_the_numbers_are_those_of_the_parts(mini_corpus: Corpus) -> None:
    pipelines = {"words": Words(), "upside": Words() >> Upside(), "double": Words(weight=2.0)}
    result = Experiment(pipelines, [dataset(mini_corpus)], "nDCG@10,R@1", seed=3).run().datasets[0]
    first, *others = result.pipelines
    assert result.baseline == first.name
    assert first.versus == {}
    for measure in ("nDCG@10", "R@1"):
        differences = [
            other.per_query.of(measure) - first.per_query.of(measure) for other in others
        ]
        corrected = holm([paired_p(d, seed=3) for d in differences])
        for other, d, p_holm in zip(others, differences, corrected, strict=True):
            versus = other.versus[measure]
            assert versus.difference == pytest.approx(d.mean())
            assert versus.p_holm == p_holm
            assert (versus.wins, versus.losses) == (np.sum(d > 0), np.sum(d < 0))
            assert versus.wins + versus.ties + versus.losses == 4
            low, high = bootstrap_intervals(other.per_query.of(measure)[:, None], seed=3)[0]
            assert (other.scores[measure].low, other.scores[measure].high) == (low, high)
    assert others[1].versus["nDCG@10"].ties == 4  # twice the weight, the same ranking


def test_two_runs_give_one_result(mini_corpus: Corpus) -> None:
    def scores():
        pipelines = {"words": Words(), "upside": Words() >> Upside()}
        found = by_name(Experiment(pipelines, [dataset(mini_corpus)]).run())
        return {name: (dict(p.scores), dict(p.versus)) for name, p in found.items()}

    assert scores() == scores()


def test_usage_and_degradations_are_accounted(mini_corpus: Corpus, caplog) -> None:
    pipelines = {"words": Words(), "llm": Spends() >> Words(), "again": Spends() >> Words(2.0)}
    result = Experiment(pipelines, [dataset(mini_corpus)]).run().datasets[0]
    for name in ("llm", "again"):
        usage = by_name_of(result)[name].outcome.usage
        assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (2, 50, 7)
        assert (usage.usd, usage.saved_calls, usage.saved_usd) == (0.25, 2, 0.125)
    assert by_name_of(result)["words"].outcome.usage.calls == 0
    assert "llm: query kept its text: the LLM answered nothing (2 times)" in result.remarks
    assert not caplog.records  # the report says it


def by_name_of(result):
    return {pipeline.name: pipeline for pipeline in result.pipelines}


def test_same_id_exclusion_is_stated(mini_corpus: Corpus) -> None:
    report = Experiment({"w": Words()}, [dataset(mini_corpus, exclude_same_id=True)]).run()
    assert "no query may find the document that has its id" in report.datasets[0].remarks[0]


def test_a_failure_loses_nothing_else(mini_corpus: Corpus) -> None:
    pipelines = {"words": Words(), "fails": Words() >> Fails(), "upside": Words() >> Upside()}
    report = Experiment(pipelines, [dataset(mini_corpus)]).run()
    assert list(by_name(report)) == ["words", "upside"]
    assert by_name(report)["upside"].versus["nDCG@10"].losses > 0
    assert report.failures == (
        "tiny, pipeline fails: the model must answer; it timed out; look at the server",
    )


def test_without_the_first_pipeline_nothing_is_compared(mini_corpus: Corpus) -> None:
    pipelines = {"fails": Words() >> Fails(), "words": Words(), "upside": Words() >> Upside()}
    report = Experiment(pipelines, [dataset(mini_corpus)]).run()
    assert [bool(p.versus) for p in report.datasets[0].pipelines] == [False, False]
    assert len(report.failures) == 1


def test_a_run_out_of_order_is_that_pipelines_failure(mini_corpus: Corpus, tmp_path: Path) -> None:
    pipelines = {"words": Words(), "unranked": Words() >> Unranked()}
    report = Experiment(pipelines, [dataset(mini_corpus)], out=tmp_path).run()
    assert "best first" in report.failures[0]
    assert len(list((tmp_path / RESUME_FOLDER).iterdir())) == 1  # it is not kept


def test_everything_is_checked_before_anything_runs(mini_corpus: Corpus, log: Path) -> None:
    elsewhere = Corpus.from_documents([{"_id": "x", "text": "y"}])
    pipelines = {
        "words": Words(log=log),
        "headless": Upside(),
        "rewrites": Spends(),
        "foreign": Words(index=elsewhere),
    }
    with pytest.raises(CheckError) as caught:
        Experiment(pipelines, [dataset(mini_corpus), dataset(mini_corpus, "two")]).run()
    places = [problem.place for problem in caught.value.problems]
    assert places == ["headless", "rewrites", "foreign", "foreign"]
    assert "reads a run" in str(caught.value)
    assert "must end in a run" in str(caught.value)
    assert elsewhere.fingerprint in str(caught.value)
    assert mini_corpus.fingerprint in str(caught.value)
    assert calls(log) == 0


def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    mini_corpus: Corpus, tmp_path: Path, log: Path
) -> None:
    (tmp_path / "file").touch()
    pipelines = {"words": Words(log=log)}
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"must have a folder.*file.*give another"):
            Experiment(pipelines, [dataset(mini_corpus)], out=out).run()
    tabbed = Corpus.from_documents([*mini_corpus.documents(), {"_id": "a\tb", "text": "index"}])
    with pytest.raises(DataError, match=r"tiny.* got 'a\\tb'; rename it"):
        Experiment(pipelines, [dataset(tabbed)], out=tmp_path / "o").run()
    queries, qrels = [Query("q\n1", "index")], Qrels({"q\n1": {"a1": 1}})
    broken = Dataset.joined("broken", mini_corpus, queries, qrels)
    with pytest.raises(DataError, match=r"broken.* got 'q\\n1'; rename it"):
        Experiment(pipelines, [broken], out=tmp_path / "o").run()
    assert calls(log) == 0


def test_wrong_use_is_stated(mini_corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="must have a pipeline and a dataset"):
        Experiment({}, [dataset(mini_corpus)])
    with pytest.raises(UsageError, match="must have a pipeline and a dataset"):
        Experiment({"w": Words()}, [])
    with pytest.raises(UsageError, match="names of their own; got tiny, tiny"):
        Experiment({"w": Words()}, [dataset(mini_corpus), dataset(mini_corpus)])
    with pytest.raises(UsageError, match="do you mean"):
        Experiment({"w": Words()}, [dataset(mini_corpus)], "nDGC@10").run()


def test_progress_is_told(mini_corpus: Corpus) -> None:
    told: list[tuple[str, int, int, str]] = []
    with listening(lambda *event: told.append(event)):
        Experiment({"a": Words(), "b": Words(2.0)}, [dataset(mini_corpus)]).run()
    assert told == [("evaluate on tiny", done, 2, "") for done in range(3)]


def test_finished_work_is_reused(mini_corpus: Corpus, tmp_path: Path, log: Path) -> None:
    def evaluate(**options):
        pipelines = {"words": Words(log=log), "llm": Spends() >> Words(3.0, log=log) >> Upside()}
        return Experiment(pipelines, [dataset(mini_corpus)], out=tmp_path / "o", **options).run()

    before = evaluate()
    assert calls(log) == 2
    after = evaluate(measures="R@3")  # other measures need no new run
    assert calls(log) == 2
    for name, old in by_name(before).items():
        new = by_name(after)[name]
        assert new.outcome.reused
        assert not old.outcome.reused
        assert new.outcome.steps == old.outcome.steps
        assert list(new.outcome.run.items()) == list(old.outcome.run.items())
        assert new.outcome.run.kind == old.outcome.run.kind
    assert "taken from an earlier evaluation" in after.datasets[0].remarks[-1]
    assert not by_name(evaluate(resume=False))["words"].outcome.reused
    assert calls(log) == 4


def test_another_pipeline_or_dataset_is_not_reused(
    mini_corpus: Corpus, tmp_path: Path, log: Path, monkeypatch
) -> None:
    def evaluate(weight=1.0, **options) -> int:
        data = dataset(mini_corpus, **options)
        Experiment({"w": Words(weight, log=log)}, [data], out=tmp_path / "o").run()
        return calls(log)

    assert [evaluate(), evaluate(), evaluate(2.0), evaluate(2.0)] == [1, 1, 2, 2]
    assert evaluate(exclude_same_id=True) == 3
    monkeypatch.setattr("limbeck.__version__", "99")
    assert evaluate() == 4


def test_a_pipeline_whose_llm_calls_failed_is_done_again(
    mini_corpus: Corpus, tmp_path: Path, log: Path
) -> None:
    """The budget was spent, or the server was down: a kept outcome would hide that it is mended."""

    def evaluate(max_calls: int | None):
        llm = LLM("scripted:x", replies=("index",), cassette=tmp_path / "tape", max_calls=max_calls)
        pipelines = {"hyde": HyDE(llm, n=1) >> Words(log=log)}
        report = Experiment(pipelines, [dataset(mini_corpus)], out=tmp_path / "o").run()
        llm.close()
        return by_name(report)["hyde"].outcome

    short = evaluate(max_calls=1)
    assert any("budget" in message for message in short.notes)
    mended = evaluate(max_calls=None)
    assert not mended.reused
    assert not mended.notes
    assert (mended.usage.calls, mended.usage.saved_calls) == (3, 1)
    assert evaluate(max_calls=None).reused


@pytest.mark.parametrize("failure", ["no connection", "empty answer"])
def test_a_pipeline_whose_llm_never_answers_is_no_row_of_numbers(
    mini_corpus: Corpus, tmp_path: Path, failure: str
) -> None:
    """It stood in the table with the numbers of what it would do without its LLM, or with 0."""

    def script(messages, sample):
        if failure == "no connection":
            raise Failed(failure, retry=False)
        return " "

    pipelines = {
        "words": Words(),
        "hyde": HyDE(LLM.scripted(script, name="x"), n=1) >> Words(),
        "judged": Words() >> Pointwise(LLM.scripted(script, name="y"), read="text"),
        "fused": Fuse(
            (Words(), HyDE(LLM("scripted:z", replies=("index",)), n=1) >> Words()), method="rrf"
        )
        >> Pointwise(LLM.scripted(script, name="y"), read="text"),
    }
    report = Experiment(pipelines, [dataset(mini_corpus)], out=tmp_path).run()
    assert list(by_name(report)) == ["words", "fused"]  # some calls of the last were answered
    assert "fused: pointwise: LLM call failed" in " ".join(report.datasets[0].remarks)
    first, second = report.failures
    assert first == (
        "tiny, pipeline hyde: an LLM must answer for a pipeline that asks one to be measured; none "
        f"of 4 prompts had an answer: hyde: LLM call failed ({failure}); mend that, and run again"
    )
    assert "pipeline judged" in second
    assert len(list((tmp_path / RESUME_FOLDER).iterdir())) == 1


def test_a_negative_seed_is_refused(mini_corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="seed must be 0 or more; got -1"):
        Experiment({"a": Words()}, [dataset(mini_corpus)], seed=-1)


def _cut(folder: Path) -> None:
    file = folder / "rows.npy"
    file.write_bytes(file.read_bytes()[:-8])


def _flip(folder: Path) -> None:
    data = bytearray((folder / "scores.npy").read_bytes())
    data[-1] ^= 1
    (folder / "scores.npy").write_bytes(data)


def _spoil_meta(folder: Path) -> None:
    (folder / "meta.json").write_text((folder / "meta.json").read_text().replace("steps", "stops"))


def _break_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("{")


@pytest.mark.parametrize("damage", [_cut, _flip, _spoil_meta, _break_meta])
def test_damaged_work_is_done_again(mini_corpus: Corpus, tmp_path: Path, log: Path, damage) -> None:
    experiment = Experiment({"w": Words(log=log)}, [dataset(mini_corpus)], out=tmp_path / "o")
    experiment.run()
    (folder,) = (tmp_path / "o" / RESUME_FOLDER).iterdir()
    damage(folder)
    assert not by_name(experiment.run())["w"].outcome.reused
    assert calls(log) == 2
    assert by_name(experiment.run())["w"].outcome.reused  # and is whole again


def test_a_full_disk_is_stated_and_keeps_what_was_finished(
    mini_corpus: Corpus, tmp_path: Path, log: Path, monkeypatch
) -> None:
    pipelines = {"a": Words(log=log), "b": Words(2.0, log=log)}
    real = np.save

    def save(file, array, **options):
        if calls(log) == 2:
            raise OSError(28, "No space left on device")
        real(file, array, **options)

    monkeypatch.setattr(np, "save", save)
    experiment = Experiment(pipelines, [dataset(mini_corpus)], out=tmp_path / "o")
    with pytest.raises(ArtifactError, match="disk is full"):
        experiment.run()
    monkeypatch.setattr(np, "save", real)
    assert by_name(experiment.run())["a"].outcome.reused
    assert calls(log) == 3


_SCRIPT = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from dataclasses import dataclass
    from typing import ClassVar
    from tests.eval.fakes import Words, dataset
    from limbeck.corpus import Corpus
    from limbeck.eval.experiment import Experiment
    from limbeck.pipeline import Reranker

    folder = Path(sys.argv[1])

    @dataclass(frozen=True)
    class Slow(Reranker):
        name: ClassVar[str] = "slow"
        def rerank(self, queries, run):
            (folder / "reached").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
            return run

    log = folder / "calls.log"
    corpus = Corpus.from_documents(
        {"_id": doc_id, "text": text} for doc_id, text in
        [("a1", "index documents"), ("a2", "x"), ("b1", "dense"), ("b2", "y"),
         ("c1", "rank fusion"), ("d2", "z")]
    )
    pipelines = {"a": Words(log=log), "b": Words(2.0, log=log) >> Slow(), "c": Words(3.0, log=log)}
    report = Experiment(pipelines, [dataset(corpus)], out=folder / "out").run()
    print([p.outcome.reused for p in report.datasets[0].pipelines])
"""


def test_a_kill_loses_no_finished_pipeline(tmp_path: Path, log: Path) -> None:
    """SIGKILL while the second of three pipelines runs; the next run does the last two."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(_SCRIPT), str(tmp_path), str(root)]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "reached").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert log.read_text().splitlines() == ["words 1.0", "words 2.0"]
    (tmp_path / "go").touch()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[True, False, False]"
    assert log.read_text().splitlines() == ["words 1.0", "words 2.0", "words 2.0", "words 3.0"]
    assert not list((tmp_path / "out" / RESUME_FOLDER).glob(".*"))  # nothing half-written is left
