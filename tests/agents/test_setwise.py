"""Setwise: what is shown, what is picked."""

from __future__ import annotations

import pytest

from limbeck.agents.pairwise import Pairwise
from limbeck.agents.setwise import Setwise
from limbeck.llm.backend import Completion
from limbeck.llm.request import Token
from limbeck.llm.tokenizer import FALLBACK
from tests.agents.oracle import Heard, llm, picks, shuffled, worths


def test_sets_are_lettered_and_in_first_stage_order():
    heard = Heard(picks)
    run = shuffled(3)
    Setwise(llm(heard), set_size=3, best=1)(["what"], run=run)
    lines = "\n".join(
        f"Passage {letter}: A passage of worth {worth}."
        for letter, worth in zip("ABC", worths(run), strict=True)
    )
    assert lines in heard.prompts[0]


@pytest.mark.parametrize("method", ["heap", "bubble"])
def test_larger_sets_take_fewer_calls_and_none_is_asked_twice(method):
    calls = []
    for size in (2, 4, 8):
        heard = Heard(picks)
        node = Setwise(llm(heard), method=method, set_size=size)
        assert worths(node(["what"], run=shuffled(48)))[:10] == list(range(47, 37, -1))
        assert len(set(heard.prompts)) == len(heard.prompts) <= node.max_prompts()
        calls.append(len(heard.prompts))
    assert calls == sorted(calls, reverse=True)
    assert calls[0] > calls[2]


def test_the_likeliest_letter_is_taken_where_log_probabilities_are_read():
    def mumbles(messages, sample):
        letter = picks(messages, sample).text
        return Completion("The", "length", (Token("The", -0.1, (("The", -0.1), (letter, -3.0))),))

    run = shuffled(9)
    by_text = Setwise(llm(mumbles), best=9)(["what"], run=run)
    assert worths(by_text) == worths(run)  # no letter was said
    by_letter = Setwise(llm(mumbles), best=9, read="logprobs")(["what"], run=run)
    assert worths(by_letter) == sorted(worths(run), reverse=True)


def test_a_letter_that_was_not_shown_is_no_choice():
    run = shuffled(4)
    assert worths(Setwise(llm(lambda m, s: "E"), best=4)(["what"], run=run)) == worths(run)


def test_the_pronoun_i_is_no_passage():
    """Before, the ninth passage was I, and "I cannot say." picked it."""
    run = shuffled(24)
    node = Setwise(llm(lambda m, s: "I cannot say."), set_size=24, best=3)
    assert worths(node(["what"], run=run)) == worths(run)


def test_the_largest_set_has_a_letter_for_each_passage():
    node = Setwise(llm(picks), set_size=24, best=2, depth=24)
    assert worths(node(["what"], run=shuffled(24)))[:2] == [47, 46]


@pytest.mark.parametrize("node", [Setwise, Pairwise])
def test_room_is_reserved_for_a_letter_in_a_sentence(node):
    """64 tokens were: small models fill them, and on a CPU each takes as long as the prompt's."""
    said = "Based on the text, the passage that would best answer the query is Passage B."
    assert node(llm(picks)).estimate(1).completion_tokens == 24 * node(llm(picks)).estimate(1).calls
    assert FALLBACK.count(said) <= 24
