from __future__ import annotations

from limbeck.llm.fill import Fill
from limbeck.llm.request import Call, Reply, Sample
from tests.llm.layers import Spoken, call


class AtMost:
    """Gives at most so many samples a call."""

    def __init__(self, most: int, *, calls: int = 99) -> None:
        self.inner = Spoken()
        self.most = most
        self.left = calls

    def __call__(self, call: Call) -> Reply:
        self.left -= 1
        if self.left < 0:
            return Reply()
        return self.inner(call.only(call.indices[: self.most]))


def test_the_rest_is_asked_for():
    inner = AtMost(2)
    reply = Fill(inner)(call(5))
    assert sorted(reply.samples) == [0, 1, 2, 3, 4]
    assert reply.failure is None
    assert inner.inner.calls == [(0, 1), (2, 3), (4,)]
    assert reply.completion_tokens == 20


def test_a_server_that_gives_nothing_ends_it():
    reply = Fill(AtMost(2, calls=1))(call(5))
    assert sorted(reply.samples) == [0, 1]
    assert reply.failure == "fewer answers than asked for"


def test_a_failure_ends_it_and_keeps_what_was_had():
    replies = iter([Reply({0: Sample("a")}), Reply(failure="budget")])
    reply = Fill(lambda _: next(replies))(call(3))
    assert (list(reply.samples), reply.failure) == ([0], "budget")


def test_gaps_are_asked_for_in_runs_so_that_seeds_keep_their_samples():
    inner = Spoken()
    reply = Fill(inner)(Call(call().request, (1, 3, 4, 7)))
    assert inner.calls == [(1,), (3, 4), (7,)]
    assert sorted(reply.samples) == [1, 3, 4, 7]
