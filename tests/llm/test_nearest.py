from __future__ import annotations

from limbeck.llm.nearest import difference
from tests.llm.layers import request


def test_nearest_and_only_what_differs():
    asked = request("what is the boiling point of water", temperature=0.0).plain()
    near = request("what is the melting point of water", temperature=0.5).plain()
    far = request("name a colour", temperature=0.0).plain()
    told = difference(asked, [far, near])
    assert "-user: what is the melting point of water" in told
    assert "+user: what is the boiling point of water" in told
    assert "-temperature: 0.5" in told
    assert "+temperature: 0.0" in told
    assert "colour" not in told
    assert "max_tokens" not in told


def test_long_differences_are_cut():
    asked = request("\n".join(f"line {n} {'x' * 400}" for n in range(50))).plain()
    lines = difference(asked, [request("other").plain()]).split("\n")
    assert len(lines) < 20
    assert max(map(len, lines)) < 200
    assert "lines more" in lines[-1]


def test_empty():
    assert difference(request().plain(), []) == "the cassette is empty"
