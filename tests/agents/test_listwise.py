"""Listwise windows: which hits they cover, what a torn answer does, repeats and passes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.agents.listwise import Listwise, borda, windows
from limbeck.corpus import Corpus
from limbeck.llm.request import Failed
from limbeck.meter import metered
from limbeck.types import Run
from tests.agents.oracle import Heard, llm, ranks, shown, shuffled, worths


@given(st.integers(0, 130), st.integers(2, 30), st.data())
def test_windows_cover_all_hits_overlap_and_end_at_the_first(n, window, data):
    step = data.draw(st.integers(1, window - 1))
    found = windows(n, window, step)
    if n < 2:
        assert found == []
        return
    assert found[0].stop == n
    assert found[-1].start == 0
    for lower, upper in itertools.pairwise(found):
        assert upper.start < lower.start < upper.stop <= lower.stop
    assert all(each.stop - each.start == min(window, n) for each in found)


def test_a_hundred_hits_are_the_papers_nine_windows():
    assert [w.start for w in windows(100, 20, 10)] == [80, 70, 60, 50, 40, 30, 20, 10, 0]


@pytest.mark.parametrize("n", [2, 3, 10, 19, 20])
def test_a_list_shorter_than_the_window_is_ranked(n):
    """The released RankGPT loop does nothing here."""
    found = Listwise(llm(ranks))(["what"], run=shuffled(n))
    assert worths(found) == sorted(worths(found), reverse=True)


def test_the_first_hits_are_read_where_the_steps_do_not_end_there():
    """The released loop leaves the first five of 25 hits where they are."""
    run = shuffled(25)
    found = Listwise(llm(ranks))(["what"], run=run)
    assert worths(found)[:10] == list(range(47, 37, -1))


@pytest.mark.parametrize("n", [21, 30, 37, 48])
def test_one_pass_orders_the_best_window_minus_step(n):
    run = shuffled(n)
    found = Listwise(llm(ranks), window=20, step=10)(["what"], run=run)
    assert worths(found)[:10] == sorted(worths(run), reverse=True)[:10]


def test_passes_order_the_whole_list_and_stop_when_nothing_changes():
    heard = Heard(ranks)
    node = Listwise(llm(heard), window=10, step=5, passes=50)
    found = node(["what"], run=shuffled(40))
    assert worths(found) == sorted(worths(found), reverse=True)
    assert len(heard.prompts) <= 7 * 9  # eight passes may be needed, and one that changes nothing


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("[3] > [1]", [2, 0, 1, 3]),  # missing: in the order they had
        ("[3] > [3] > [9] > [1]", [2, 0, 1, 3]),
        ("Certainly! Here they are: [4] > [2] > [1] > [3].", [3, 1, 0, 2]),
        ("I cannot.", [0, 1, 2, 3]),
    ],
)
def test_what_an_answer_leaves_out_follows_in_its_order(answer, places):
    run = shuffled(4)
    with metered() as meter:
        found = Listwise(llm(lambda m, s: answer))(["what"], run=run)
    before = worths(run)
    assert worths(found) == [before[place] for place in places]
    left_out = "listwise: an answer left out passages, which follow in their order"
    unread = "listwise: a window kept its order (no ranking in the answer)"
    noted = {"[3]": {left_out: 1}, "Cer": {}, "I c": {unread: 1}}[answer[:3]]
    assert meter.notes == noted


def test_repeats_show_other_orders_and_undo_a_love_of_the_first_place():
    def biased(messages, sample):
        """Right, but for the passage that is shown first, which is put first."""
        seen = shown(messages)
        places = sorted(range(1, len(seen)), key=lambda place: -seen[place])
        return " > ".join(f"[{place + 1}]" for place in [0, *places])

    heard = Heard(biased)
    run = shuffled(8)
    once = Listwise(llm(biased))(["what"], run=run)
    assert worths(once)[0] == worths(run)[0] != 47
    often = Listwise(llm(heard), repeats=7)(["what"], run=run)
    assert worths(often)[0] == 47
    assert len(set(heard.prompts)) == 7
    again = Heard(biased)
    Listwise(llm(again), repeats=7)(["what"], run=run)
    assert sorted(again.prompts) == sorted(heard.prompts)  # a fixed seed
    other = Heard(biased)
    Listwise(llm(other), repeats=7, seed=1)(["what"], run=run)
    assert sorted(other.prompts) != sorted(heard.prompts)


def test_a_pass_without_answers_is_not_the_last():
    """A pass whose calls failed changed nothing, and was taken for one that found all in order."""
    asked = []

    def late(messages, sample):
        asked.append(messages)
        if len(asked) == 1:
            raise Failed("http 500")
        return ranks(messages, sample)

    run = shuffled(8)
    found = Listwise(llm(late), passes=3)(["what"], run=run)
    assert worths(found) == sorted(worths(run), reverse=True)
    assert len(asked) == 3  # the one that failed, the one that ranks, the one that changes nothing


@pytest.mark.parametrize(("n", "asked"), [(2, 2), (3, 6), (8, 9)])
def test_repeats_show_no_order_twice(n, asked):
    """Equal prompts have equal answers: an order drawn twice was counted twice and asked once."""
    sent = []

    def script(messages, sample):
        sent.append(tuple(shown(messages)))
        return ranks(messages, sample)

    node = Listwise(llm(script), repeats=9)
    steps = node.scored("what", [f"A passage of worth {worth}." for worth in range(n)])
    prompts = next(steps)
    assert len(prompts) == len(set(prompts)) == asked
    found = Listwise(llm(script), repeats=9)(["what"], run=shuffled(n))
    assert worths(found) == list(range(47, 47 - n, -1))
    assert len(set(sent)) == asked


def test_borda_by_hand():
    members = [5, 6, 7]
    assert borda([[7, 5, 6], [7, 6, 5], [5, 7, 6]], members) == [7, 5, 6]  # 1, 3, 5
    assert borda([[6, 5, 7], [5, 6, 7]], members) == [5, 6, 7]  # equal: as they came
    assert borda([], members) == members


def test_passages_are_cut_to_words_and_their_references_are_no_numbers():
    corpus = Corpus.from_documents(
        [{"_id": "a", "text": "see [3] > [1] one two three four"}, {"_id": "b", "text": "b"}]
    )
    heard = Heard(lambda m, s: "[1] > [2]")
    run = Run.from_hits({"1": [("a", 2.0), ("b", 1.0)]}, kind="bm25", corpus=corpus)
    Listwise(llm(heard), passage_words=6)(["what"], run=run)
    assert "[1] see (3) > (1) one two\n[2] b\n" in heard.prompts[0]
    assert "Rank all 2 passages" in heard.prompts[0]
