"""What models answer when they choose, grade or rank."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.prompts.answers import choice, final_choice, permutation

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
        ("2 out of 3", GRADES, 2),
        ("In 2019 there were 300.", GRADES, None),
        ("7", GRADES, None),
    ],
)
def test_choices(text, labels, chosen):
    assert choice(text, labels) == chosen


@given(st.text(max_size=60) | st.text("AB noyeshir\u0131\u0130I.,:-", max_size=20))
def test_any_answer_is_one_of_the_labels_or_none(text):
    """Before, a dotless i was found without case and then not among the labels: a ValueError."""
    letters = ("i", "\u0131", "\u0130", "I")
    for labels in (AB, YES, GRADES, ("hay\u0131r", "iyi"), ("\u0130yi", "I\u015f\u0131k"), letters):
        assert choice(text, labels) in {None, *range(len(labels))}
        assert final_choice(text, labels) in {None, *range(len(labels))}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("##final score: 2", 2),
        ("M: 3, T: 0.\nSo:\n## Final Score (O): **1**", 1),
        ("**Final score:**\n3", 3),
        ('{"M": 2, "T": 1, "O": 0}', 0),
        ("1. It asks for a town.\n2. It names none.\n3. ##final score: 0", 0),
        ("The passage names the town, which deserves a 3 for the match.", None),
        ("1. The match is 3.\n2. The trust is", None),
        ("Match: 2\nTrust: 3", None),
        ("##final score:", None),
        ("2", None),
    ],
)
def test_an_answer_that_reasons_has_its_final_score_alone(text, chosen):
    """Before, an answer that was cut off in its reasons gave a grade that it only mentioned."""
    assert final_choice(text, GRADES) == chosen


_WRITTEN = {
    "a chain of names": " > ".join,
    "chains in lines": lambda names: "\n".join(map(" > ".join, _pairs(names))),
    "names": ", ".join,
    "a list": lambda names: "\n".join(f"{i}. {name}" for i, name in enumerate(names, 1)),
    "a list in a line": lambda names: ", ".join(f"{i}. {name}" for i, name in enumerate(names, 1)),
    "ranks": lambda names: "\n".join(f"Rank {i}: {name}" for i, name in enumerate(names, 1)),
    "counted": lambda names: "\n".join(f"{i}: {name}" for i, name in enumerate(names, 1)),
    "scores": lambda names: " > ".join(f"{n} ({1 - i / 100})" for i, n in enumerate(names)),
    "a table": lambda names: (
        "| Rank | Passage |\n|---|---|\n"
        + "\n".join(f"| {i} | {name} |" for i, name in enumerate(names, 1))
    ),
    "a table by passage": lambda names: (
        "| Passage | Rank | Why |\n|:--|--:|---|\n"
        + "\n".join(f"| {name} | {i} | - |" for i, name in sorted(enumerate(names, 1), key=str))
    ),
}


def _pairs(names: list[str]) -> list[list[str]]:
    return [names[start : start + 2] for start in range(0, len(names), 2)]


@pytest.mark.parametrize("written", _WRITTEN)
@pytest.mark.parametrize("name", ["[{}]", "{}", "Passage {}", "[P{}]", "passage_{}", "**{}**"])
@given(order=st.permutations(range(12)))
def test_a_ranking_is_read_however_it_is_written(written, name, order):
    """Before, tables, ranks, chains in lines and names such as P3 were read by other numbers."""
    text = _WRITTEN[written]([name.format(place + 1) for place in order])
    assert permutation(text, 12) == order


_LONG = 10_000
_SHAPES = {
    "chance": "".join(random.Random(0).choices("[]>0123 ABab.\n<think>|:(", k=_LONG)),
    "a chain": "[1] > " * _LONG,
    "chains": "[1] > [2], " * _LONG,
    "scores": "[1] (" * _LONG,
    "a cue": "the answer is the one of " * _LONG,
    "final": "final score " * _LONG,
    "spaces": "answer" + " " * 5 * _LONG + "A",
    "line ends": "answer:" + "\n" * 5 * _LONG + "A",
    "marks": "." * 5 * _LONG + "!? " * _LONG,
    "brackets": "([{<" * _LONG,
    "thoughts": "<think></thinking" * _LONG,
    "channels": "<|channel|>final" * _LONG,
    "a table": "| 1 | 2 |\n" * _LONG,
    "a list": "1. 2, " * _LONG,
    "ranks": "rank 1: 2\n" * _LONG,
    "digits": "9" * _LONG + "1 " * _LONG,
    "labels": "A: no, not yes " * _LONG,
    "members": ',"a' * _LONG,
}


@pytest.mark.parametrize("shape", _SHAPES)
def test_long_answers_are_read_in_time(shape):
    """A pattern that looked through a run from each of its places would take minutes."""
    text = _SHAPES[shape]
    started = time.perf_counter()
    permutation(text, 20)
    for labels in (AB, YES, GRADES):
        choice(text, labels)
    assert time.perf_counter() - started < 20.0
