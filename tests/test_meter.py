"""The meter and the progress listener."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor

from limbeck.agents.pointwise import Pointwise
from limbeck.llm.model import LLM
from limbeck.meter import Usage, charge, metered, note
from limbeck.progress import listening, track
from limbeck.retrieval.fusion import Fuse
from tests.fakes import Listed


def test_every_open_meter_sees_a_charge():
    with metered() as outer:
        charge(Usage(calls=1, usd=0.5))
        with metered() as inner:
            charge(Usage(calls=2, saved_calls=1))
        charge(Usage(calls=4))
    charge(Usage(calls=8))
    assert outer.usage == Usage(calls=7, usd=0.5, saved_calls=1)
    assert inner.usage == Usage(calls=2, saved_calls=1)


def test_charges_from_many_threads_are_all_counted():
    with metered() as meter, ThreadPoolExecutor(8) as pool:
        for _ in range(200):
            pool.submit(contextvars.copy_context().run, charge, Usage(calls=1, prompt_tokens=3))
            pool.submit(contextvars.copy_context().run, note, "kept")
    assert (meter.usage.calls, meter.usage.prompt_tokens) == (200, 600)
    assert meter.notes == {"kept": 200}


def test_notes_of_a_pipeline_that_nobody_hears_are_logged_once_each(caplog):
    """Calls that failed left no trace in Python: the hits looked like any others."""
    llm = LLM("scripted:mute", replies=("Hard to say.",))
    judged = Listed(("d3", "d1", "d2")) >> Pointwise(llm, read="text")
    judged(["what", "why"])
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("limbeck", "WARNING")
    said = "pointwise: a hit kept its rank (no label in the answer)"
    assert record.message == f"{said} (6 times)"
    caplog.clear()
    with metered() as meter:
        judged(["what", "why"])
    assert meter.notes == {said: 6}
    assert not caplog.records


def test_notes_of_a_fusions_branches_are_logged_too(caplog):
    llm = LLM("scripted:mute", replies=("Hard to say.",))
    judged = Listed(("d3", "d1")) >> Pointwise(llm, read="text")
    Fuse((judged, Listed(("d1",))), method="rrf")("what")
    assert [record.name for record in caplog.records] == ["limbeck"]


def test_progress_reaches_the_listener_and_nobody_else():
    heard = []
    with listening(lambda *event: heard.append(event)):
        assert list(track("ab", label="read", total=2)) == ["a", "b"]
    assert list(track("cd", label="read", total=2)) == ["c", "d"]
    assert heard == [("read", done, 2, "") for done in range(3)]
