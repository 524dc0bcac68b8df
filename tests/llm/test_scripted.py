from __future__ import annotations

from limbeck.llm.backend import Completion
from limbeck.llm.request import Token
from limbeck.llm.scripted import Scripted, replies_in_turn
from tests.llm.layers import request


def test_replies_by_sample_number_whatever_the_call():
    backend = Scripted(replies_in_turn(("a", "b", "c")))
    assert [c.text for c in backend.complete(request(), 0, 4, None).completions] == list("abca")
    assert [c.text for c in backend.complete(request(), 2, 2, None).completions] == list("ca")


def test_a_listener_is_told_deltas_that_add_up():
    heard: list[str] = []
    made = Scripted(lambda m, i: "  two  words\n").complete(request(), 0, 1, heard.append)
    assert len(heard) > 1
    assert "".join(heard) == made.completions[0].text == "  two  words\n"


def test_log_probabilities_by_script():
    told = Completion("yes", "stop", (Token("yes", -0.1, (("yes", -0.1), ("no", -2.3))),))
    made = Scripted(lambda m, i: told).complete(request(), 0, 1, None)
    assert made.completions == (told,)
