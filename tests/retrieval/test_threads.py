"""Work shared out among threads."""

from __future__ import annotations

from limbeck.retrieval import threads
from limbeck.retrieval.threads import n_threads, share


def test_no_more_threads_than_the_work_is_worth(monkeypatch):
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2)
    assert n_threads(0) == n_threads(1) == 1
    assert n_threads(1000) <= 2


def test_ranges_are_consecutive_and_in_order():
    assert share(lambda part: part, 5, 2) == [(0, 2), (2, 5)]
    assert share(lambda part: part, 3, 8) == [(0, 1), (1, 2), (2, 3)]
    assert share(lambda part: part, 0, 4) == [(0, 0)]
