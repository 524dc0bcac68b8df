"""What log-probabilities say, by hand."""

from __future__ import annotations

import math

import pytest

from limbeck.agents.likelihood import FLOOR, label_probabilities, mean_logprob
from limbeck.llm.request import Sample, Token

YES = ("no", "yes")


def _sample(*tokens: Token) -> Sample:
    return Sample("x", logprobs=tokens)


def _told(**shares: float) -> Token:
    top = tuple((text.replace("_", " "), math.log(share)) for text, share in shares.items())
    return Token(*top[0], top)


def test_a_softmax_over_the_two_labels():
    token = Token("Yes", -0.5, (("Yes", -0.5), ("No", -1.5), ("Maybe", -3.0)))
    wanted = math.exp(-0.5) / (math.exp(-0.5) + math.exp(-1.5))
    assert label_probabilities(_sample(token), YES) == pytest.approx([1 - wanted, wanted])


def test_variants_of_a_label_are_added_up():
    token = _told(_Yes=0.3, yes=0.2, YES=0.1, No=0.1, _no=0.1, Nope=0.2)
    assert label_probabilities(_sample(token), YES) == pytest.approx([0.25, 0.75])
    token = Token("▁yes", math.log(0.5), (("Ġno", math.log(0.25)), ("**No**", math.log(0.25))))
    assert label_probabilities(_sample(token), YES) == pytest.approx([0.5, 0.5])


def test_a_label_that_was_not_told_has_the_floor():
    token = Token("Yes", -0.1, (("Yes", -0.1), ("It", -4.0)))
    wanted = math.exp(FLOOR) / (math.exp(FLOOR) + math.exp(-0.1))
    assert label_probabilities(_sample(token), YES) == pytest.approx([wanted, 1 - wanted])


def test_the_floor_is_never_above_what_was_told():
    token = Token("Yes", -0.1, (("Yes", -0.1), ("It", -30.0)))
    wanted = math.exp(-30.0) / (math.exp(-30.0) + math.exp(-0.1))
    assert label_probabilities(_sample(token), YES)[0] == pytest.approx(wanted)


def test_blank_tokens_before_the_answer_are_passed_over():
    blank = Token("\n\n", -0.1, (("\n\n", -0.1), ("Yes", -9.0)))
    assert label_probabilities(_sample(blank, _told(no=0.9, yes=0.1)), YES) == pytest.approx(
        [0.9, 0.1]
    )


def test_single_letters_are_told_apart_by_case():
    token = _told(A=0.5, a=0.3, _B=0.2)
    assert label_probabilities(_sample(token), "AB") == pytest.approx([5 / 7, 2 / 7])


@pytest.mark.parametrize(
    "sample",
    [Sample("yes"), _sample(), _sample(_told(Well=0.9, Hm=0.1)), _sample(Token(" ", -0.1))],
)
def test_no_label_is_no_answer(sample):
    assert label_probabilities(sample, YES) is None


def test_very_unlikely_labels_are_still_compared():
    token = Token("It", -0.0, (("yes", -2000.0), ("no", -2001.0), ("x", -math.inf)))
    share = 1 / (1 + math.exp(-1))
    assert label_probabilities(_sample(token), YES) == pytest.approx([1 - share, share])


def test_the_mean_of_a_text():
    assert mean_logprob(_sample(Token("a", -1.0), Token("b", -2.0))) == -1.5
    assert mean_logprob(_sample()) is None
    assert mean_logprob(Sample("x")) is None
    assert mean_logprob(_sample(Token("a", -math.inf))) is None


def test_alternatives_of_equal_text_are_added_up():
    """Before, " Yes" and " Yes" of two token ids overwrote each other."""
    share = math.log(0.25)
    token = Token("Yes", share, (("Yes", share), ("Yes", share), ("No", share)))
    assert label_probabilities(_sample(token), YES) == pytest.approx([1 / 3, 2 / 3])


def test_the_first_token_of_a_long_label_stands_for_it():
    """Before, "ne" of "nein" was no label, and "ja" had all the probability."""
    token = _told(ne=0.6, Nei=0.1, ja=0.2, Ja=0.1)
    assert label_probabilities(_sample(token), ("nein", "ja")) == pytest.approx([0.7, 0.3])
    token = _told(_not=0.3, relevant=0.6, rel=0.1)
    labels = ("not relevant", "relevant")
    assert label_probabilities(_sample(token), labels) == pytest.approx([0.3, 0.7])


def test_what_several_labels_begin_with_is_no_answer_where_it_is_likelier_than_each():
    labels = ("sehr schwach", "sehr stark", "gar nicht")
    assert label_probabilities(_sample(_told(sehr=0.6, gar=0.4)), labels) is None
    told = label_probabilities(_sample(_told(gar=0.6, sehr=0.4)), labels)
    assert told[2] == pytest.approx(1.0, abs=1e-6)
    labels = ("relevant", "relevant in part")
    assert label_probabilities(_sample(_told(relevant=1.0)), labels) is None


def test_a_token_that_ends_where_a_word_does_begins_no_longer_word():
    token = _told(no=0.6, nothing=0.1, yes=0.3)
    labels = ("no", "nothing", "yes")
    assert label_probabilities(_sample(token), labels) == pytest.approx([0.6, 0.1, 0.3])


def test_a_label_in_turkish_capitals_is_its_label():
    token, no = _told(HAYIR=0.5, hayır=0.25, Evet=0.25), "hay\u0131r"
    assert label_probabilities(_sample(token), (no, "evet")) == pytest.approx([0.75, 0.25])
