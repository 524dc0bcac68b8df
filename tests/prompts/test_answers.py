"""What models answer when they choose, grade or rank."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.prompts.answers import choice, permutation

AB, YES, GRADES = ("A", "B"), ("no", "yes"), ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("text", "ranked"),
    [
        ("[2] > [1] > [3]", [1, 0, 2]),
        ("[2]>[1]>[3]", [1, 0, 2]),
        ("2 > 1 > 3", [1, 0, 2]),
        ("**[2]** > **[1]** > **[3]**", [1, 0, 2]),
        ("【2】\uff1e【1】\uff1e【3】", [1, 0, 2]),
        ("[2] &gt; [1] &gt; [3]", [1, 0, 2]),
        ("Passage 2 > Passage 1 > Passage 3", [1, 0, 2]),
        ("[2] > [2] > [1]", [1, 0]),  # repeated
        ("[9] > [2] > [0] > [1] > [77777]", [1, 0]),  # invented
        ("[3]", [2]),  # missing
        (
            "Here are the 3 passages, ranked:\n[2] > [1] > [3]\nI hope this helps 1 of us!",
            [1, 0, 2],
        ),
        ("As in [1] > [2], I rank: [3] > [2] > [1]", [2, 1, 0]),  # the longest chain
        ("[1] > [2]\nNo, rather:\n[2] > [1]", [1, 0]),  # of equal ones the last
        ("<think>[1] > [2] > [3]</think>[3] > [1] > [2]", [2, 0, 1]),
        ("maybe [1] first</think>[3], [1], [2]", [2, 0, 1]),
        ("```json\n[3, 1, 2]\n```", [2, 0, 1]),
        ("1. Passage 3\n2. Passage 1\n3. Passage 2", [2, 0, 1]),
        ("1) [3]\n2) [1]", [2, 0]),
        ("best is 2 (score 0.91), then 3 (0.5)", [1, 2]),
        ("[2] > [1", [1, 0]),
        ("", []),
        ("I cannot rank these.", []),
        ("I cannot rank these 3 passages.", []),
        ("There are 3 here, all off the subject.", []),
        ("Of the 3 passages I put first 2, then 1", [1, 0]),
        ("2", [1]),
        ("[2] = [1] > [3]", [1, 0, 2]),
        ("[0] > [4]", []),
        ("9" * 5000, []),
        ("<think>[1] > [2]", []),
    ],
)
def test_permutations(text, ranked):
    assert permutation(text, 3) == ranked


@given(
    st.text(alphabet=st.sampled_from("0123456789[]>【, \nab(.)-"), max_size=80), st.integers(0, 9)
)
def test_any_answer_gives_places_that_were_shown_each_once(text, n):
    found = permutation(text, n)
    assert len(set(found)) == len(found)
    assert set(found) <= set(range(n))


@given(st.permutations(range(20)), st.sampled_from([" > ", ">", ", ", "\n"]))
def test_a_whole_permutation_is_read_as_it_was_written(order, between):
    assert permutation(between.join(f"[{place + 1}]" for place in order), 20) == order


@pytest.mark.parametrize(
    ("text", "labels", "chosen"),
    [
        ("A", AB, 0),
        ("b", AB, 1),
        (" **B**.", AB, 1),
        ("(B)", AB, 1),
        ("Passage B", AB, 1),
        ("The answer is B", AB, 1),
        ("The more relevant passage is: B", AB, 1),
        ("Passage A names a town. Passage B answers it. Answer: B", AB, 1),
        ("I would choose A because Passage B is off the subject.", AB, 0),
        ("B: since A is about something else", AB, 1),
        ("B\n\nPassage A does not say.", AB, 1),
        ("Passage A is more relevant than Passage B.", AB, 0),
        ("Between A and B, Passage B is the better one.", AB, 1),
        ("Passage B: unlike Passage A it answers.", AB, 1),
        ("Passage A is less relevant than Passage B.", AB, None),
        ("A passage such as B would answer it.", AB, 1),  # an article, no label
        ("A", ("A", "B", "C"), 0),
        ("<think>A or B?</think>\nB", AB, 1),
        ("Passage A and Passage B both answer.", AB, None),
        ("It is a good passage by any measure.", AB, None),
        ("", AB, None),
        ("C", AB, None),
        ("Yes", YES, 1),
        ("NO.", YES, 0),
        ("Yes, the passage does; there is no doubt.", YES, 1),
        ("No, it does not.", YES, 0),
        ("The answer is yes.", YES, 1),
        ("I know nothing.", YES, None),
        ("ja", ("nein", "ja"), 1),
        ("2", GRADES, 2),
        ("##final score: 3", GRADES, 3),
        ("## Final Score : 3", GRADES, 3),
        ("M: 2, T: 1. O must be 0 to 3.\n##final score: 1", GRADES, 1),
        ("score: 0\nNo, I correct myself. Final score: **2**", GRADES, 2),
        ("Relevance: 1", GRADES, 1),
        ("I give it a 2.", GRADES, 2),
        ("A score of 2.5", GRADES, None),
        ("2 out of 3", GRADES, None),
        ("In 2019 there were 300.", GRADES, None),
        ("7", GRADES, None),
    ],
)
def test_choices(text, labels, chosen):
    assert choice(text, labels) == chosen


@given(st.text(max_size=60))
def test_any_answer_is_one_of_the_labels_or_none(text):
    for labels in (AB, YES, GRADES):
        assert choice(text, labels) in {None, *range(len(labels))}


def test_long_answers_are_read_in_time():
    draw = random.Random(0)
    text = "".join(draw.choice("[]>0123 ABab.\n<think>") for _ in range(20_000))
    assert permutation(text, 20) is not None
    choice(text, AB)
    permutation("[1] > " * 5000, 3)
    choice("the answer is the one of " * 2000, AB)
