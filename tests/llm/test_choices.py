from __future__ import annotations

import pytest

from limbeck.errors import UsageError
from limbeck.llm.choices import chosen_from
from limbeck.llm.model import LLM
from tests.llm.conftest import user
from tests.llm.server import chat


def test_each_kind_of_server_is_told_in_its_own_words():
    assert chosen_from(("yes", "no"), "structured_outputs") == {
        "structured_outputs": {"choice": ["yes", "no"]}
    }
    assert chosen_from(("a.b", "c|d"), "regex") == {"regex": r"(a\.b|c\|d)"}
    assert chosen_from(('say "hi"', "né"), "grammar") == {
        "grammar": r'root ::= "say \"hi\"" | "né"'
    }


def test_choices_go_with_the_request_and_make_another_cassette_entry(ask):
    llm, server = ask(lambda body, _: chat("yes"), model="vllm:fake")
    llm.generate([user("wet?")], choices=("yes", "no"))
    assert server.asked[0]["structured_outputs"] == {"choice": ["yes", "no"]}
    assert "guided_choice" not in server.asked[0]
    free, held = (
        llm._request(user("a"), max_tokens=1, temperature=None, top_p=None, choices=c)
        for c in ((), ("yes", "no"))
    )
    assert free.key != held.key
    assert "choices" not in free.plain(), "keys of older cassettes stay what they were"


def test_wrong_choices_are_refused():
    llm = LLM("vllm:m")
    for choices in ("yes", ("a", "a"), ("a", "")):
        with pytest.raises(UsageError, match="choices must be different texts"):
            llm.generate([user("a")], choices=choices)
    with pytest.raises(UsageError, match="got both"):
        llm.generate([user("a")], choices=("a",), schema={"type": "object"})
    with pytest.raises(UsageError, match="must support choices"):
        LLM("openai:m").generate([user("a")], choices=("a", "b"))
    with pytest.raises(UsageError, match="guided_json"):
        LLM("vllm:m", extra='{"guided_json": {}}')
