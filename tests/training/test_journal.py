"""Numbers of a run reach its log and a tracker, once each, also when it goes on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.errors import MissingExtraError
from limbeck.training.journal import Journal, tracker_named

pytestmark = pytest.mark.torch


def test_lines_after_a_checkpoint_are_forgotten_and_told_again(tmp_path):
    file = tmp_path / "log.jsonl"
    journal = Journal(file)
    for step in (10, 20, 30):
        journal.tell(step, {"loss": float(step)})
    again = Journal(file)
    again.go_on_from(20)
    again.tell(30, {"loss": 0.5})
    assert [(line["step"], line["loss"]) for line in again.lines()] == [
        (10, 10),
        (20, 20),
        (30, 0.5),
    ]


def test_tensorboard_reads_what_was_told(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    journal = Journal(tmp_path / "log.jsonl", tracker_named("tensorboard", tmp_path, "id"))
    journal.tell(1, {"loss": 2.0, "rate": 0.1})
    journal.tell(2, {"loss": 1.5})
    journal.close()
    held = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in held.Scalars("loss")] == [(1, 2.0), (2, 1.5)]
    assert held.Scalars("rate")[0].value == pytest.approx(0.1)


def test_tensorboard_forgets_what_is_done_again(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for losses in ((1.0, 2.0, 3.0), (9.0,)):
        journal = Journal(tmp_path / "log.jsonl", tracker_named("tensorboard", tmp_path, "id"))
        journal.go_on_from(1)
        for step, loss in enumerate(losses, 2):
            journal.tell(step, {"loss": loss})
        journal.close()
    held = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in held.Scalars("loss")] == [(2, 9.0)]


def test_wandb_is_asked_as_its_documentation_says(tmp_path, monkeypatch):
    told = []
    run = SimpleNamespace(
        define_metric=lambda name, step_metric: told.append((name, step_metric)),
        log=told.append,
        finish=lambda: told.append("end"),
    )

    def init(**given):
        told.append(given["id"])
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    journal = Journal(tmp_path / "log.jsonl", tracker_named("wandb", tmp_path, "id"))
    journal.tell(3, {"loss": 1.0})
    journal.close()
    assert told == ["id", ("*", "step"), {"loss": 1.0, "step": 3}, "end"]


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_a_tracker_that_is_not_installed_is_told(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingExtraError, match=name):
        tracker_named(name, tmp_path, "id")
