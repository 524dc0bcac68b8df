"""The retention card's figures by hand: what is kept, what it costs, when it has paid."""

from __future__ import annotations

import dataclasses

import pytest

from limbeck.agents.pointwise import Pointwise
from limbeck.eval.datasets import Dataset
from limbeck.eval.experiment import Experiment
from limbeck.llm.model import LLM
from limbeck.retrieval.bm25 import BM25
from limbeck.training.retention import BASE, STUDENT, TEACHER, Lessons, Retention

LESSONS = Lessons(
    n_queries=10,
    n_labels=50,
    usd=2.0,
    teaching_s=30.0,
    replayed=False,
    training_s=60.0,
    n_apart=24,
    leaks=(),
    notes=(),
    dark={},
)


@pytest.fixture
def carded(folder, tmp_path):
    """Return a function that measures a teacher which asks an LLM, and gives the card."""
    llm = LLM("scripted:judge", replies=("The grade is 1",), price=(1.0, 2.0))
    dataset = Dataset.load(folder, "dev")

    def card(out: str, lessons: Lessons = LESSONS, **given) -> Retention:
        judge = Pointwise(
            dataclasses.replace(llm, cassette=tmp_path / "tape"), method="graded", read="text"
        )
        pipelines = {
            TEACHER: BM25(k=5) >> judge,
            STUDENT: BM25(k=5, b=0.1),
            BASE: BM25(k=1),
        }
        measures = ("nDCG@10",)
        report = Experiment(pipelines, [dataset], measures=measures, out=tmp_path / out).run()
        return Retention(report.datasets[0], "nDCG@10", lessons, **given)

    return card


def test_what_is_kept_and_what_it_costs(carded):
    card = carded("a", gate=0.9)
    teacher, student, base = (card.mean(name) for name in (TEACHER, STUDENT, BASE))
    assert card.retention == pytest.approx(student / teacher)
    assert card.passes == (student / teacher >= 0.9)
    if teacher > base:
        assert card.gain_kept == pytest.approx((student - base) / (teacher - base))
    usage = card.of(TEACHER).outcome.usage
    assert usage.calls > 0
    usd = (usage.prompt_tokens * 1.0 + usage.completion_tokens * 2.0) / 1e6
    n = len(card.of(TEACHER).per_query.query_ids)
    assert card.usd_per_1000(TEACHER) == pytest.approx(1000 * usd / n)
    assert card.usd_per_1000(STUDENT) == 0.0
    assert card.even_by_money == pytest.approx(2.0 / (usd / n))
    saved_ms = card.of(TEACHER).ms_per_query - card.of(STUDENT).ms_per_query
    assert card.even_by_time == pytest.approx(90.0 / (saved_ms / 1000))
    assert card.faster == pytest.approx(
        card.of(TEACHER).ms_per_query / card.of(STUDENT).ms_per_query
    )
    assert card.to_json()["replayed"] == []


def test_a_student_that_is_no_better_than_its_base_never_pays(carded, monkeypatch):
    """It was told to have paid after so many queries, and passed a gate that its base passes."""
    card = carded("a", gate=0.1)
    assert card.passes
    means = {TEACHER: 0.8, STUDENT: 0.7, BASE: 0.75}
    monkeypatch.setattr(Retention, "mean", lambda _, name: means[name])
    assert card.retention == pytest.approx(0.875)
    assert card.of_base == card.to_json()["retention_of_base"] == pytest.approx(0.9375)
    assert not card.is_above_base
    assert not card.passes
    assert (card.even_by_time, card.even_by_money) == (None, None)


def test_time_that_a_cassette_took_is_no_time_of_the_teacher(carded):
    """It was shown as the teacher's, and said after how many queries a student had paid."""
    first, again = carded("a"), carded("b")
    assert not first.is_replayed(TEACHER)
    assert again.is_replayed(TEACHER)
    assert again.faster is None
    assert again.even_by_time is None
    assert again.usd_per_1000(TEACHER) == pytest.approx(first.usd_per_1000(TEACHER))
    assert again.to_json()["replayed"] == [TEACHER]
    taught = dataclasses.replace(LESSONS, replayed=True)
    assert carded("a", taught).even_by_time is None


def test_a_teacher_that_finds_nothing_has_no_retention(carded, monkeypatch):
    monkeypatch.setattr(Retention, "mean", lambda *_: 0.0)
    card = carded("a", gate=0.5)
    assert not card.passes
    assert card.to_json()["retention"] is None
