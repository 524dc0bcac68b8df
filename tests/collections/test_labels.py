"""Recorded labels of an LLM as a teacher; skipped where ../shared is absent."""

from __future__ import annotations

import pytest

from limbeck import RecordedRun
from limbeck.corpus import Corpus
from limbeck.eval.datasets import Dataset
from limbeck.training.agreement import agreement
from limbeck.training.asking import asked
from limbeck.training.lesson import Lesson
from limbeck.training.questions import Split
from limbeck.training.teaching import taught

pytestmark = pytest.mark.collections


def test_umbrelas_labels_agree_with_people_as_published(shared, tmp_path):
    """.80 at grades of 2 and more (arXiv 2406.06519, GPT-4, TREC DL 2019)."""
    folder = shared / "data" / "beir" / "trec-dl19-judged"
    corpus = Corpus.load(folder)
    lesson = Lesson(
        teacher=RecordedRun(shared / "data" / "judgments" / "umbrela-gpt4.dl19.qrels"),
        queries=(Split(split="test"),),
        depth=1000,
        apart=(),
    )
    labels = taught(lesson, asked(lesson, folder, corpus), corpus, tmp_path)
    assert len(labels.run.rows) == 9260
    said = {query_id: dict(hits) for query_id, hits in labels.candidates.items()}
    people = Dataset.load(folder, corpus=corpus).qrels
    found = agreement(said, people, at=2, labels_at=2)
    assert found.n == 9260
    assert found.share == pytest.approx(0.80, abs=0.005)
    assert found.kappa == pytest.approx(0.51, abs=0.01)
