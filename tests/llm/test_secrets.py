from __future__ import annotations

import pytest

from limbeck.errors import UsageError
from limbeck.llm.secrets import Scrubber, is_reference, resolve, unset_variables


def test_references_are_resolved_from_the_environment(monkeypatch):
    monkeypatch.setenv("HOST", "h:1")
    assert resolve("http://${env:HOST}/v1", wanted_by="x") == "http://h:1/v1"
    assert is_reference("${env:HOST}")
    assert not is_reference("http://${env:HOST}")
    assert not is_reference("sk-1")


def test_unset_and_empty_variables_are_named_with_the_mend(monkeypatch):
    monkeypatch.delenv("NOPE", raising=False)
    monkeypatch.setenv("EMPTY", "")
    assert unset_variables("${env:NOPE}${env:EMPTY}") == ("NOPE", "EMPTY")
    with pytest.raises(
        UsageError, match=r"openai:m needs .* NOPE; it is not set; run: export NOPE"
    ):
        resolve("${env:NOPE}", wanted_by="openai:m")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key hunter22 is wrong", "key *** is wrong"),
        ("hunter22hunter22", "******"),
        ("Incorrect API key provided: sk-abcd****wxyz.", "Incorrect API key provided: ***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("at http://user:pass@host/v1", "at http://***@host/v1"),
        ("the risk-averse task-oriented desk", "the risk-averse task-oriented desk"),
    ],
)
def test_scrubber(text, clean):
    assert Scrubber(["hunter22", ""])(text) == clean
