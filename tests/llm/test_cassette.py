from __future__ import annotations

import pytest

from limbeck.errors import CassetteError
from limbeck.llm.cassette import Recorder, Replay, Strict, unrecorded
from limbeck.llm.request import Call, Reply
from limbeck.llm.tape import Tape
from limbeck.meter import Usage, metered
from tests.llm.layers import Spoken, call, request

PRICE = (2.0, 8.0)


@pytest.fixture
def tape(tmp_path) -> Tape:
    return Tape(tmp_path / "x", recorded=True)


def _texts(reply: Reply) -> list[str]:
    return [reply.samples[index].text for index in sorted(reply.samples)]


def test_recorded_samples_are_replayed_in_order_and_not_called_for(tape):
    spoken = Spoken()
    auto = Replay(Recorder(spoken, tape=tape), tape=tape, price=PRICE)
    first = auto(call(5, temperature=1.0))
    again = auto(call(5, temperature=1.0))
    assert _texts(first) == _texts(again) == [f"{i} of hello" for i in range(5)]
    assert spoken.calls == [(0, 1, 2, 3, 4)]


def test_more_samples_call_for_the_missing_ones_only(tape):
    spoken = Spoken()
    auto = Replay(Recorder(spoken, tape=tape), tape=tape, price=PRICE)
    auto(call(5))
    assert _texts(auto(call(8))) == [f"{i} of hello" for i in range(8)]
    assert spoken.calls == [(0, 1, 2, 3, 4), (5, 6, 7)]
    assert _texts(auto(call(3))) == [f"{i} of hello" for i in range(3)]
    assert len(spoken.calls) == 2


def test_hits_are_charged_as_saved_with_what_they_cost(tape):
    auto = Replay(Recorder(Spoken(), tape=tape), tape=tape, price=PRICE)
    auto(call(2))
    with metered() as meter:
        auto(call(2))
    assert meter.usage == Usage(
        saved_calls=1,
        saved_prompt_tokens=3,
        saved_completion_tokens=8,
        saved_usd=pytest.approx((3 * 2 + 8 * 8) / 1e6),
    )


def test_recording_calls_always_and_overwrites(tape):
    texts = iter(["old", "new"])
    record = Recorder(Spoken(lambda _: next(texts)), tape=tape)
    record(call())
    record(call())
    assert tape.samples(request(), [0])[0].text == "new"


def test_failures_are_not_recorded(tape):
    Recorder(lambda _: Reply(failure="timeout"), tape=tape)(call())
    assert tape.samples(request(), [0]) == {}


def test_replay_misses_are_failures(tape):
    Recorder(Spoken(), tape=tape)(call(2))
    replay = Replay(unrecorded, tape=tape, price=None)
    reply = replay(call(3))
    assert (_texts(reply), reply.failure) == (["0 of hello", "1 of hello"], "not in the cassette")
    assert replay(call(2)).failure is None


def test_strict_misses_show_what_differs(tape):
    Recorder(Spoken(), tape=tape)(call(2, "what is water", temperature=0.5))
    strict = Replay(Strict(tape), tape=tape, price=None)
    assert strict(call(2, "what is water", temperature=0.5)).samples
    with pytest.raises(CassetteError) as error:
        strict(call(1, "what is fire", temperature=0.5))
    told = str(error.value)
    assert "-user: what is water" in told
    assert "+user: what is fire" in told
    assert "temperature" not in told.replace("cassette_mode", "")
    assert "x.jsonl" in told
    assert "cassette_mode='auto'" in told


def test_strict_misses_of_a_sample_say_which_are_held(tape):
    Recorder(Spoken(), tape=tape)(call(2))
    with pytest.raises(CassetteError, match=r"samples \[2\] .* the samples \[0, 1\] are held"):
        Replay(Strict(tape), tape=tape, price=None)(call(3))


def test_a_hit_is_heard_whole(tape):
    auto = Replay(Recorder(Spoken(), tape=tape), tape=tape, price=None)
    auto(call())
    heard: list[str] = []
    auto(Call(request(), (0,), heard.append))
    assert heard == ["0 of hello"]
