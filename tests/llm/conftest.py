from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from limbeck.llm.model import LLM
from limbeck.types import Message
from tests.llm.server import Script, Server


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    """Start servers that answer by a script; they are stopped after the test."""
    started: list[Server] = []

    def start(script: Script) -> Server:
        started.append(Server(script))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def ask(serve) -> Iterator[Callable[..., tuple[LLM, Server]]]:
    """Return an LLM and the scripted server that it asks; it waits next to nothing for retries."""
    opened: list[LLM] = []

    def start(script: Script, **fields: object) -> tuple[LLM, Server]:
        server = serve(script)
        fields = {"first_wait_s": 0.01, "timeout_s": 5.0, **fields}
        model = fields.pop("model", "openai:fake")
        opened.append(LLM(model, base_url=server.base_url, **fields))
        return opened[-1], server

    yield start
    for llm in opened:
        llm.close()


def user(text: str) -> tuple[Message, ...]:
    """Return a prompt of one message."""
    return (Message("user", text),)
