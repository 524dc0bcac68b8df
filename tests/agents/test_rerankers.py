"""What all rerankers that ask an LLM keep: the planted order, ties, failures, rounds, bounds."""

from __future__ import annotations

import dataclasses
import types
from functools import partial

import numpy as np
import pytest

from limbeck.agents.doc2query import Doc2Query
from limbeck.agents.hyde import HyDE
from limbeck.agents.listwise import Listwise
from limbeck.agents.pairwise import Pairwise
from limbeck.agents.pointwise import Pointwise
from limbeck.agents.reranker import LLMReranker
from limbeck.agents.setwise import Setwise
from limbeck.errors import CheckError, UsageError
from limbeck.llm.backend import Completion, Completions
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed
from limbeck.meter import metered
from limbeck.pipeline import Pipeline
from limbeck.retrieval.bm25 import BM25
from limbeck.types import Message, Query
from tests.agents.oracle import (
    ALL,
    Heard,
    Noisy,
    asks_for_it,
    grades,
    llm,
    picks,
    ranks,
    reasons,
    says_yes,
    shown,
    shuffled,
    silent,
    worths,
)
from tests.fakes import Listed, same

# How a method orders a whole list; what it is told; where its order may end in ties.
MODES = {
    "yes-no": (lambda llm, n: Pointwise(llm, depth=n), says_yes),
    "graded": (lambda llm, n: Pointwise(llm, method="graded", depth=n), grades),
    "query-likelihood": (
        lambda llm, n: Pointwise(llm, method="query-likelihood", depth=n),
        asks_for_it,
    ),
    "all-pairs": (lambda llm, n: Pairwise(llm, method="all-pairs", depth=n), picks),
    "pair heap": (lambda llm, n: Pairwise(llm, method="heap", best=n, depth=n), picks),
    "sliding": (lambda llm, n: Pairwise(llm, method="sliding", best=n, depth=n), picks),
    "set heap": (lambda llm, n: Setwise(llm, method="heap", best=n, depth=n), picks),
    "set bubble": (lambda llm, n: Setwise(llm, method="bubble", best=n, depth=n), picks),
    "set logprobs": (lambda llm, n: Setwise(llm, read="logprobs", best=n, depth=n), picks),
    "set of two": (lambda llm, n: Setwise(llm, set_size=2, best=n, depth=n), picks),
    "listwise": (lambda llm, n: Listwise(llm, window=10, step=5, passes=9, depth=n), ranks),
    "listwise repeated": (
        lambda llm, n: Listwise(llm, window=10, step=5, passes=9, repeats=3, depth=n),
        ranks,
    ),
}
TEXT = {
    "yes-no text": Pointwise(llm(says_yes), read="text"),
    "graded text": Pointwise(llm(grades), method="graded", read="text"),
    "graded steps": Pointwise(llm(reasons), method="graded", read="steps"),
}


@pytest.fixture(params=MODES)
def mode(request):
    """A mode: how its node is made for a depth, and an LLM that knows."""
    return MODES[request.param]


@pytest.mark.parametrize("n", [0, 1, 2, 9, 10, 11, 14, 15, 33])
def test_every_mode_orders_a_planted_list_rightly(mode, n):
    make, script = mode
    run = shuffled(n)
    found = make(llm(script), max(n, 1))(["what is it"], run=run)
    assert worths(found) == sorted(worths(run), reverse=True)
    assert found.kind == make(llm(script), 1).kind
    assert (np.diff(found.scores) < 0).all()


def test_deeper_hits_are_dropped(mode):
    make, script = mode
    run = shuffled(12)
    found = make(llm(script), 7)(["what is it"], run=run)
    assert worths(found) == sorted(worths(run)[:7], reverse=True)


def test_the_order_that_was_read_changes_nothing_else_than_ties(mode):
    make, script = mode
    orders = [shuffled(12, seed=seed) for seed in range(4)]
    found = [make(llm(script), 12)(["what"], run=run) for run in orders]
    assert len({tuple(worths(run)) for run in found}) == 1


@pytest.mark.parametrize("name", TEXT)
def test_equal_grades_keep_the_order_of_the_first_stage(name):
    node, run = TEXT[name], shuffled(20)
    grade = {w: _said(node, w) for w in worths(run)}
    found = node(["what is it"], run=run)
    assert worths(found) == sorted(worths(run), key=lambda w: -grade[w])  # sorted is stable
    assert len(set(grade.values())) < 5
    for worth, hit in zip(worths(found), found.hits(0), strict=True):
        assert hit.score == pytest.approx(grade[worth], abs=1e-4)
    assert (np.diff(found.scores) < 0).all()
    assert node.kind != "probability" or (0 <= found.scores.min() <= found.scores.max() <= 1)


def _said(node: Pointwise, worth: int) -> float:
    share = (worth + 1) / 50
    return float(share > 0.5) if node.method == "yes-no" else float(round(3 * share))


@pytest.mark.parametrize(
    "script", [silent, lambda m, s: "I cannot say.", lambda m, s: "[99] > [0]"]
)
def test_an_llm_that_says_nothing_leaves_the_order_and_is_counted(mode, script):
    make, _ = mode
    run = shuffled(15)
    with metered() as meter:
        found = make(llm(script), 15)(["what"], run=run)
    assert worths(found) == worths(run)
    assert any("kept" in message or "equal" in message for message in meter.notes), meter.notes


def test_a_noisy_llm_stops_nothing_and_loses_nothing(mode):
    make, _ = mode
    for seed in range(5):
        run = shuffled(23, queries=("1", "2"))
        found = make(llm(Noisy(seed)), 23)(["what", "why"], run=run)
        for query in (0, 1):
            assert sorted(worths(found, query)) == sorted(worths(run, query))
        assert (np.diff(found.scores[:23]) < 0).all()


def test_one_failed_call_costs_its_own_answer_alone(mode):
    make, script = mode
    failed = []

    def once(messages, sample):
        if not failed and 47 in shown(messages):
            failed.append(True)
            raise Failed("timeout")
        return script(messages, sample)

    run = shuffled(15, queries=("1", "2"))
    with metered() as meter:
        found = make(llm(once, concurrency=1), 15)(["what", "why"], run=run)
    assert worths(found, 1) == sorted(worths(run, 1), reverse=True)
    assert sum(times for message, times in meter.notes.items() if "(timeout)" in message) == 2


def test_a_batch_is_as_its_queries_alone(mode):
    make, script = mode
    ids = ("a", "b", "c")
    run = shuffled(13, queries=ids)
    queries = [Query(name, f"what is {name}") for name in ids]
    node = make(llm(script), 13)
    whole = node(queries, run=run)
    for position, query in enumerate(queries):
        alone = type(run)(
            (query.query_id,),
            np.array([0, 13]),
            run.rows[run.segment(position)],
            run.scores[run.segment(position)],
            run.kind,
            run.corpus,
        )
        assert node([query], run=alone).hits(0) == whole.hits(position)


def test_all_queries_advance_in_the_same_rounds(mode, monkeypatch):
    make, script = mode
    sizes: list[int] = []
    monkeypatch.setattr(Pointwise, "ask", _counting(Pointwise.ask, sizes))
    for cls in (Listwise, Pairwise, Setwise):
        monkeypatch.setattr(cls, "ask", _counting(LLMReranker.ask, sizes))
    make(llm(script), 13)(["what"], run=shuffled(13))
    alone = len(sizes)
    sizes.clear()
    texts = [f"what {n}" for n in range(12)]
    make(llm(script), 13)(texts, run=shuffled(13, queries=[str(n) for n in range(1, 13)]))
    assert len(sizes) <= 2 * alone  # queries differ in how many rounds they need, not in turns


def _counting(ask, sizes):
    def counted(self, prompts):
        sizes.append(len(prompts))
        return ask(self, prompts)

    return counted


def test_listwise_windows_of_many_queries_are_nine_rounds(monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(LLMReranker, "ask", _counting(LLMReranker.ask, sizes))
    node = Listwise(llm(ranks), window=8, step=4)
    node([f"q{n}" for n in range(43)], run=shuffled(40, queries=[str(n) for n in range(1, 44)]))
    assert sizes == [43] * 9


def test_the_estimate_bounds_what_is_charged(mode):
    make, script = mode
    for n in (1, 2, 7, 20):
        node = make(llm(script, price=(1.0, 2.0)), n)
        estimate = node.estimate(2)
        with metered() as meter:
            node(["a question", "another"], run=shuffled(n, queries=("1", "2")))
        assert meter.usage.calls <= estimate.calls
        assert meter.usage.prompt_tokens <= estimate.prompt_tokens
        assert meter.usage.completion_tokens <= estimate.completion_tokens
        assert meter.usage.usd <= estimate.usd


def test_a_blank_query_is_not_sent_and_keeps_its_order(mode):
    make, script = mode
    heard = Heard(script)
    run = shuffled(9, queries=("1", "2"))
    found = make(llm(heard), 9)([Query("1", " \n"), Query("2", "what")], run=run)
    assert worths(found, 0) == worths(run, 0)
    assert worths(found, 1) == sorted(worths(run, 1), reverse=True)
    assert all("what" in prompt for prompt in heard.prompts)


def test_the_users_own_text_is_shown_not_its_expansions(mode):
    from limbeck.types import Expansion

    make, script = mode
    heard = Heard(script)
    query = Query("1", "what is it").expanded(Expansion(("a hypothetical document",)))
    make(llm(heard), 5)([query], run=shuffled(5))
    assert not any("hypothetical" in prompt for prompt in heard.prompts)


def test_queries_and_passages_are_cut():
    heard = Heard(lambda messages, sample: "A")
    node = Pairwise(llm(heard), query_tokens=3, passage_tokens=2, method="all-pairs")
    node(["one two three four"], run=shuffled(2))
    assert all("one two four" not in prompt and "three" not in prompt for prompt in heard.prompts)
    assert all("worth" not in prompt for prompt in heard.prompts)


@pytest.mark.parametrize(
    ("node", "needed"),
    [
        (Pointwise(LLM("ollama:m")), "logprobs"),
        (Pointwise(LLM("ollama:m"), method="graded"), "logprobs"),
        (Pointwise(LLM("llamacpp:smollm2"), method="query-likelihood"), "prompt_logprobs"),
        (Setwise(LLM("ollama:m"), read="logprobs"), "logprobs"),
    ],
)
def test_log_probabilities_are_missed_by_the_check_before_any_call(node, needed):
    with pytest.raises(CheckError, match=r"log-probabilities of .* does not support") as caught:
        (Listed(("d1",)) >> node).check()
    assert needed in str(caught.value)
    can = dataclasses.replace(node.llm, supports=ALL, context_length=100_000)
    found = (Listed(("d1",)) >> dataclasses.replace(node, llm=can)).problems()
    assert not [p for p in found if "log-probabilities" in str(p)]


@pytest.mark.parametrize("model", ["openai:m", "azure:m"])
def test_more_alternatives_than_a_server_tells_are_found_before_any_call(model, monkeypatch):
    """The check was passed, and the first call refused."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    address = {"base_url": "http://127.0.0.1:1/v1"}
    asked = LLM(model, **(address if model == "azure:m" else {}))
    for node in (
        Pointwise(asked, top_logprobs=100),
        Setwise(asked, read="logprobs", top_logprobs=100),
    ):
        with pytest.raises(CheckError, match=r"asks for 100 alternatives .* tells 20 at most"):
            (Listed(("d1",)) >> node).check()
        (Listed(("d1",)) >> dataclasses.replace(node, top_logprobs=20)).check()
        other = dataclasses.replace(node, llm=LLM("openai:m", **address))
        (Listed(("d1",)) >> other).check()
    with pytest.raises(UsageError, match=r"top_logprobs must lie in \[0, 20\]; got 21"):
        asked.generate([[Message("user", "hi")]], top_logprobs=21)


def test_reading_text_needs_no_log_probabilities():
    bare = dataclasses.replace(LLM.scripted(grades), supports=())
    for node in (
        Pointwise(bare, read="text"),
        Pointwise(bare, method="graded", read="steps"),
        Setwise(bare),
        Pairwise(bare),
        Listwise(bare),
    ):
        (Listed(("d1",)) >> node).check()


def test_a_window_that_cannot_fit_the_context_is_found_before_any_call():
    small = llm(ranks, context_length=4000)
    with pytest.raises(CheckError, match="context of scripted:script holds 4000"):
        (Listed(("d1",)) >> Listwise(small)).check()
    (Listed(("d1",)) >> Listwise(small, window=8, step=4, passage_tokens=300)).check()


def test_no_prompt_is_longer_than_the_check_reckons(mode):
    make, script = mode
    heard = Heard(script)
    node = dataclasses.replace(make(llm(heard), 20), query_tokens=20, passage_tokens=7)
    node(["antidisestablishmentarianism " * 50], run=shuffled(20))
    assert max(map(node.llm.tokenizer.count, heard.prompts)) <= node.max_prompt_tokens()


def test_a_template_of_ones_own_is_used_and_fingerprinted(mode):
    make, script = mode
    heard = Heard(script)
    node = make(llm(heard), 4)
    places = " ".join(f"{{{name}}}" for name in sorted(node.prompt.fields))
    own = dataclasses.replace(node, template=f"Frage: {places}")
    assert worths(own(["was"], run=shuffled(4))) == [47, 46, 45, 44]
    assert own.fingerprint != node.fingerprint
    with pytest.raises(UsageError, match=r"the template of .* must have the places"):
        dataclasses.replace(node, template="{colour}")


def test_a_task_changes_the_words_and_the_fingerprint(mode):
    make, script = mode
    node = make(llm(script), 4)
    claim = dataclasses.replace(node, task="scifact")
    assert "claim" in claim.prompt.user
    assert claim.fingerprint != node.fingerprint
    with pytest.raises(UsageError, match=r"task of .* must be one of web.*got 'sci'"):
        dataclasses.replace(node, task="sci")


def test_the_fingerprint_sees_how_answers_are_read(mode, monkeypatch):
    make, script = mode
    before = make(llm(script), 4).fingerprint
    assert make(llm(script), 4).fingerprint == before
    monkeypatch.setattr("limbeck.prompts.answers.VERSION", 0)
    assert make(llm(script), 4).fingerprint != before


@pytest.mark.parametrize("node", [Pairwise(llm(picks)), Setwise(llm(picks), best=3)])
def test_a_cut_sorts_no_more_than_is_returned(node):
    cut = node.top(2)
    assert isinstance(cut, Pipeline)
    assert cut.steps[0].best == 2
    assert worths(cut(["what"], run=shuffled(12))) == [47, 46]
    assert cut.estimate(1).calls < node.estimate(1).calls
    assert same(cut(["what"], run=shuffled(12)), node(["what"], run=shuffled(12)).top(2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda m: Pointwise(m, depth=0), "depth of pointwise must be 1 or more"),
        (lambda m: Pointwise(m, passage_tokens=0), "passage_tokens of pointwise"),
        (lambda m: Pointwise(m, method="maybe"), "method of pointwise must be one of yes-no"),
        (lambda m: Pointwise(m, read="steps"), "read of pointwise with yes-no must be one of"),
        (
            lambda m: Pointwise(m, method="query-likelihood", read="text"),
            "read of pointwise with query-likelihood must be one of logprobs",
        ),
        (lambda m: Pointwise(m, labels=("a",)), "labels of pointwise must be two words"),
        (lambda m: Pointwise(m, labels=("a", "A")), "all different"),
        (lambda m: Pointwise(m, labels=("a", " ")), "all different"),
        (lambda m: Pointwise(m, method="query-likelihood", labels=("a", "b")), "none with"),
        (
            lambda m: Pointwise(m, labels=(False, True)),
            r"must be texts; got \(False, True\); write them in quotes, as \('no', 'yes'\), or",
        ),
        (lambda m: Pointwise(m, top_logprobs=0), "top_logprobs of pointwise"),
        (lambda m: Pairwise(m, method="quick"), "method of pairwise must be one of heap"),
        (lambda m: Pairwise(m, best=0), "best of pairwise must be 1 or more"),
        (lambda m: Setwise(m, method="quick"), "method of setwise must be one of heap"),
        (lambda m: Setwise(m, read="steps"), "read of setwise must be one of text"),
        (lambda m: Setwise(m, set_size=1), "set_size of setwise must lie in"),
        (lambda m: Setwise(m, set_size=25), r"must lie in \[2, 24\]; got 25"),
        (lambda m: Listwise(m, window=1), "window of listwise must be 2 or more"),
        (lambda m: Listwise(m, step=20), "so that windows overlap; got 20 and 20"),
        (lambda m: Listwise(m, repeats=0), "repeats of listwise must be 1 or more"),
        (lambda m: Listwise(m, max_tokens=64), "room for 20 numbers; got 64; give 100"),
        (lambda m: Listwise(m, temperature=3.0), "temperature of listwise must lie in"),
    ],
)
def test_wrong_parameters_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make(llm(ranks))


@pytest.mark.parametrize("cls", [Pointwise, Pairwise, Setwise, Listwise, HyDE, Doc2Query])
def test_an_llm_that_is_a_text_is_refused_with_its_mend(cls):
    """It was taken, and the first use of it ended in an AttributeError."""
    with pytest.raises(UsageError, match=r"must be an LLM; got 'vllm:m'; write LLM\('vllm:m'\)"):
        cls("vllm:m")
    with pytest.raises(UsageError, match=f"llm of {cls.name} must be an LLM; got None; give one"):
        cls(None)


@pytest.mark.parametrize(
    "node",
    [
        Pointwise(llm(lambda m, s: "<think>\nOkay, the")),
        Pointwise(llm(lambda m, s: "<think> yes and no"), read="text"),
        Pairwise(llm(lambda m, s: "<think>\nPassage A is about")),
        Setwise(llm(lambda m, s: "<think>\nThe user")),
        Listwise(llm(lambda m, s: "<think>\n[2] > [1]\n</think>\n")),
    ],
    ids=lambda node: f"{node.name} {getattr(node, 'read', '')}",
)
def test_answers_that_hold_thinking_alone_are_said_to(node):
    """A note said "no label in the answer", and nothing that the model had thought aloud."""
    with metered() as meter:
        node(["what"], run=shuffled(4))
    (message,) = meter.notes
    assert "nothing but <think> in the answer; switch thinking off by `extra`" in message


def test_thinking_before_an_unreadable_answer_is_not_blamed():
    node = Pointwise(llm(lambda m, s: "<think>hm</think> Hard to say."), read="text")
    with metered() as meter:
        node(["what"], run=shuffled(2))
    assert meter.notes == {"pointwise: a hit kept its rank (no label in the answer)": 2}


@pytest.mark.parametrize(
    ("node", "labels"),
    [
        (partial(Pointwise, read="choice"), ("no", "yes")),
        (partial(Pointwise, method="graded", read="choice"), ("0", "1", "2", "3")),
        (partial(Pairwise, read="choice"), ("A", "B")),
    ],
)
def test_an_answer_can_be_held_to_the_labels(node, labels):
    """A small model that chats around its answer is read for each hit all the same."""
    heard = []

    def complete(request, first, n, listen):
        heard.append(request)
        return Completions((Completion(request.choices[-1]),), 1, 1)

    backend = types.SimpleNamespace(complete=complete, close=lambda: None)
    able = LLM("scripted:able", backend=backend, supports=("choices",))
    with metered() as meter:
        node(able, depth=3)(["what"], run=shuffled(3))
    assert meter.notes == {}
    assert {request.choices for request in heard} == {labels}
    assert {request.max_tokens for request in heard} == {16}
    (found,) = (BM25(k=3) >> node(LLM("openai:m", base_url="http://127.0.0.1:9/v1"))).problems()
    assert "held to" in found.message
    assert "read: text" in found.mend
