"""Servers of a spec's own: shared within a process, looked at after a failure, released."""

from __future__ import annotations

import pytest

from limbeck.llm.backend import Completion, Completions
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed, Request
from limbeck.llm.serving import managed
from limbeck.llm.serving.command import Served
from limbeck.llm.serving.engine import Engine
from limbeck.llm.serving.managed import Managed, own_servers
from limbeck.progress import listening
from limbeck.types import Message

REQUEST = Request("vllm:m", (Message("user", "a"),), 1)
MODEL = Served("vllm", "m")
OTHER = Served("vllm", "m", engine=Engine(dtype="bfloat16"))


class FakeServer:
    """Remembers what was asked of it."""

    made: list[FakeServer]

    def __init__(self, command, **_):
        self.done, self.address = [], "http://first"
        self.made.append(self)

    def ready(self) -> str:
        self.done.append("ready")
        return self.address

    def suspect(self) -> None:
        self.done.append("suspect")

    def retire(self) -> None:
        self.done.append("retire")


class Starts(FakeServer):
    """Tells its changes."""

    def __init__(self, command, *, changed, **_):
        super().__init__(command)
        self.changed, self.state = changed, ""

    def ready(self) -> str:
        for self.state, why in (("starting", "starting"), ("healthy", "ready")):
            self.changed(self, why)
        return super().ready()


@pytest.fixture(autouse=True)
def servers(monkeypatch):
    """Return the servers that were made."""
    FakeServer.made = []
    monkeypatch.setattr(managed, "Server", FakeServer)
    return FakeServer.made


class Says:
    """Answers, or fails, and remembers where."""

    def __init__(self, base_url: str = "", error: Failed | None = None) -> None:
        self.base_url, self.error, self.closed = base_url, error, False

    def complete(self, request, first, n, listen):
        if self.error:
            raise self.error
        return Completions((Completion(self.base_url),))

    def close(self) -> None:
        self.closed = True


def _asking(made: list[Says] | None = None, error: Failed | None = None) -> Managed:
    def connected(base_url: str, key: str) -> Says:
        says = Says(base_url, error)
        if made is not None:
            made.append(says)
        return says

    return Managed(MODEL, connected)


def test_one_server_serves_all_who_ask_for_the_same_and_the_last_one_stops_it(servers):
    """What is shared, `tests/llm/test_shared.py` tests."""
    one, same, other = own_servers.lease(MODEL), own_servers.lease(MODEL), own_servers.lease(OTHER)
    assert one.held() is same.held() is not other.held()
    assert one.held().key != other.held().key
    for held in (one, same, other):
        held.release()
    assert [server.done for server in servers] == [["retire"], ["retire"]]


def test_that_a_server_starts_is_told(monkeypatch):
    """Before, nothing was said for the minutes that a large model takes."""
    told: list[str] = []
    monkeypatch.setattr(managed, "Server", Starts)
    with listening(lambda *_: None, hear=told.append):
        asking = _asking()
        asking.complete(REQUEST, 0, 1, None)
    asking.close()
    (line,) = told
    assert line.startswith("vLLM of m: starting; its log is ")


@pytest.mark.parametrize(
    ("error", "done"),
    [
        (None, ["ready"]),
        (Failed("timeout"), ["ready", "suspect"]),
        (Failed("prompt too long", retry=False), ["ready"]),
    ],
)
def test_it_is_up_before_a_call_and_looked_at_after_one_that_failed(servers, error, done):
    asking = _asking(error=error)
    if error is None:
        assert asking.complete(REQUEST, 0, 1, None).completions
    else:
        with pytest.raises(Failed):
            asking.complete(REQUEST, 0, 1, None)
    assert servers[0].done == done
    asking.close()
    assert servers[0].done == [*done, "retire"]


def test_a_call_after_close_leases_again(servers):
    """Before, it started the server that was released, which nobody stopped or shared."""
    asking = _asking()
    asking.close()
    assert servers == []
    asking.complete(REQUEST, 0, 1, None)
    asking.close()
    asking.complete(REQUEST, 0, 1, None)
    other = own_servers.lease(MODEL)
    assert other.held().server is servers[1]
    other.release()
    assert [server.done for server in servers] == [["ready", "retire"], ["ready"]]
    asking.close()
    assert servers[1].done == ["ready", "retire"]


def test_connections_follow_a_server_that_was_started_again_elsewhere(servers):
    made: list[Says] = []
    asking = _asking(made)
    asking.complete(REQUEST, 0, 1, None)
    asking.complete(REQUEST, 0, 1, None)
    servers[0].address = "http://second"
    (completion,) = asking.complete(REQUEST, 0, 1, None).completions
    assert completion.text == "http://second/v1"
    assert [says.closed for says in made] == [True, False]
    asking.close()
    assert made[1].closed


def test_an_llm_with_an_engine_leases_with_its_first_call(servers):
    llm = LLM("vllm:m", engine=Engine())
    backend = llm._own_gate._opened()
    assert isinstance(backend, Managed)
    assert servers == []
    llm.close()
