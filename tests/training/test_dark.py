"""Dark examples: so much of one text in another, so much of a text gone, and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import UsageError
from limbeck.training.dark import MASK, Dark, noisy, reinforced
from limbeck.types import Document

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=40)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(own=WORDS, other=WORDS, share=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_a_reinforced_negative_has_its_length_and_so_many_words_of_the_positive(
    own, other, share, seed
):
    negative = " ".join(f"n{place}{word}" for place, word in enumerate(own))
    positive = " ".join(f"p{place}{word}" for place, word in enumerate(other))
    made = reinforced(negative, positive, share, "word", rng(seed)).split()
    assert len(made) == len(own)
    taken = [place for place, word in enumerate(made) if word.startswith("p")]
    assert len(taken) == (min(max(1, round(share * len(own))), len(own) - 1) if own[1:] else 0)
    kept = [word for word in made if word.startswith("n")]
    assert all(word == negative.split()[made.index(word)] for word in kept), "the rest stays put"


def test_spans_of_the_positive_stay_together():
    negative, positive = " ".join(["n"] * 100), " ".join(f"p{i}" for i in range(100))
    made = reinforced(negative, positive, 0.4, "word", rng()).split()
    numbers = [int(word[1:]) for word in made if word != "n"]
    broken = sum(b != a + 1 for a, b in itertools.pairwise(numbers))
    assert len(numbers) == 40
    assert broken <= 6, "40 words in spans of 8"


def test_sentences_are_taken_whole():
    negative = "One is here. Two is here. Three is here. Four is here."
    positive = "Alpha goes there. Beta goes there."
    made = reinforced(negative, positive, 0.5, "sentence", rng())
    assert sum(sentence in made for sentence in ("Alpha goes there.", "Beta goes there.")) >= 1
    assert made.count(".") == 4
    left = noisy(negative, 0.5, "sentence", rng(), masking="delete")
    assert left.count(".") == 2
    assert all(sentence + "." in negative for sentence in left.rstrip(".").split(". "))


@given(own=WORDS, share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_a_noisy_positive_has_so_many_masks_and_a_word_left(own, share, seed):
    text = " ".join(own)
    masked = noisy(text, share, "word", rng(seed)).split()
    n = min(max(1, round(share * len(own))), len(own) - 1)
    assert masked.count(MASK) == n
    assert [word for word, was in zip(masked, own, strict=True) if word != MASK] == [
        was for word, was in zip(masked, own, strict=True) if word != MASK
    ]
    gone = noisy(text, share, "word", rng(seed), masking="delete").split()
    assert gone == [word for word in masked if word != MASK]


def test_a_text_of_one_sentence_is_no_example():
    """A negative became the positive itself, and a positive "noisy" without a change."""
    dark = Dark(reinforced=2, noisy=2, unit="sentence")
    one, other = Document("p", "Alpha goes there."), Document("n", "One is here.")
    assert dark.of("q", "x", [one], [other], rng()) == []
    two = Document("n", "One is here. Two is here. Three is here.")
    made = dark.of("q", "x", [one], [two], rng())
    assert [text.metadata["share"] for text in made] == [0.3333, 0.3333]
    assert all(text.text.count("Alpha goes there.") == 1 for text in made)


def test_words_of_the_query_go_first():
    text = "red fish swim in the blue sea"
    made = noisy(text, 2 / 7, "word", rng(), first=frozenset({"blue", "fish"}))
    assert made == f"red {MASK} swim in the {MASK} sea"


def test_what_is_made_says_what_it_was_made_of():
    positives = [Document("p", "one two three four", "Title of p")]
    negatives = [Document("n", "five six seven eight", "Title of n")]
    made = Dark(reinforced=2, noisy=1).of("q", "two", positives, negatives, rng())
    assert [text.doc_id for text in made] == ["dark-q-r0", "dark-q-r1", "dark-q-n0"]
    assert [text.title for text in made] == ["Title of n", "Title of n", "Title of p"]
    assert made[0].metadata["of"] == ["n", "p"]
    assert 0.2 <= float(str(made[0].metadata["share"])) <= 0.5
    assert made[2].metadata["kind"] == "noisy"
    again = Dark(reinforced=2, noisy=1).of("q", "two", positives, negatives, rng())
    assert again == made
    alone = Dark(reinforced=2, noisy=1).of("q", "two", positives, [], rng())
    assert [text.doc_id for text in alone] == ["dark-q-n0"], "no negative, nothing to reinforce"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"reinforced": 0, "noisy": 0}, "1 or more; got 0 and 0"),
        ({"replaced": (0.5, 0.2)}, "replaced must be two shares"),
        ({"masked": (0.5, 1.0)}, "masked must be two shares"),
        ({"unit": "letter"}, "unit must be one of word, sentence"),
        ({"masking": "swap"}, "masking must be one of mask, delete"),
    ],
)
def test_parameters_out_of_range_are_refused(given, why):
    with pytest.raises(UsageError, match=why):
        Dark(**given)
