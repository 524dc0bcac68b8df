"""Pointwise: what each method sends, reads and scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from limbeck.agents.doc2query import Doc2Query
from limbeck.agents.pointwise import Pointwise
from limbeck.errors import LLMError
from limbeck.llm.backend import Completion
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed, Token
from limbeck.meter import metered
from limbeck.retrieval.cutoff import Cutoff
from limbeck.retrieval.expansion import Written
from limbeck.retrieval.filtered_queries import FilteredQueries
from limbeck.types import Query
from tests.agents.oracle import CORPUS, llm, shown, shuffled, silent, worths
from tests.fakes import Listed
from tests.retrieval.test_expansion import Known


def test_yes_is_a_probability_beside_no():
    top = (("Yes", math.log(0.6)), (" no", math.log(0.2)), ("It", math.log(0.2)))
    node = Pointwise(llm(lambda m, s: Completion("Yes", "stop", (Token(*top[0], top),))))
    (hit,) = node(["what"], run=shuffled(1)).hits(0)
    assert hit.score == pytest.approx(0.75)
    assert node.kind == "probability"


def test_a_grade_is_the_sum_of_labels_times_probabilities():
    top = (("3", math.log(0.5)), (" 2", math.log(0.3)), ("0", math.log(0.2)))
    node = Pointwise(
        llm(lambda m, s: Completion("3", "stop", (Token(*top[0], top),))), method="graded"
    )
    (hit,) = node(["what"], run=shuffled(1)).hits(0)
    assert hit.score == pytest.approx(3 * 0.5 + 2 * 0.3, abs=1e-5)
    assert node.kind == "grade"


def test_a_query_is_scored_as_the_answer_to_a_prompt_without_it():
    sent = []

    def script(messages, sample):
        sent.append(messages)
        words = messages[-1].content.split()
        return Completion(" ".join(words), "stop", tuple(Token(w, -2.0) for w in words))

    node = Pointwise(llm(script), method="query-likelihood")
    (hit,) = node(["what is it"], run=shuffled(1)).hits(0)
    assert hit.score == -2.0  # the mean over tokens, however many there are
    assert [message.role for message in sent[0]] == ["user", "assistant"]
    assert sent[0][1].content == "what is it"
    assert "what is it" not in sent[0][0].content
    assert node.kind == "log-likelihood"


def test_labels_of_ones_own_language():
    node = Pointwise(
        llm(lambda m, s: "Ja." if 47 in shown(m) else "Nein."),
        read="text",
        labels=("nein", "ja"),
        template="{query} {passage} ja/nein?",
    )
    assert worths(node(["was"], run=shuffled(5)))[0] == 47


def test_a_hit_whose_call_failed_keeps_its_rank_and_is_counted():
    run = shuffled(6)
    lost = worths(run)[2]

    def script(messages, sample):
        (worth,) = shown(messages)
        if worth == lost:
            raise Failed("content filter", retry=False)
        return str(worth % 4)

    with metered() as meter:
        found = Pointwise(llm(script), method="graded", read="text")(["what"], run=run)
    assert worths(found)[2] == lost
    others = [worth for worth in worths(found) if worth != lost]
    assert [w % 4 for w in others] == sorted((w % 4 for w in others), reverse=True)
    assert meter.notes["pointwise: a hit kept its rank (content filter)"] == 1


@pytest.mark.parametrize(
    ("method", "least"), [("yes-no", 0.5), ("graded", 1.5), ("query-likelihood", math.log(0.5))]
)
def test_where_every_call_fails_no_hit_is_told_no(method, least):
    """Hits of which nothing was known had a probability of 0: a threshold dropped them all."""
    node = Pointwise(llm(silent), method=method)
    run, read = node(["what"], run=shuffled(40)), shuffled(40)
    assert worths(run) == worths(read)
    assert run.scores.min() == np.float32(least)
    assert run.scores.max() < least + 1e-3
    kept = Cutoff(least=float(np.float32(least)), kind=node.kind)(["what"], run=run)
    assert worths(kept) == worths(read)


def test_an_answer_without_a_label_is_counted_not_made_a_grade():
    with metered() as meter:
        Pointwise(llm(lambda m, s: "Hard to say."), read="text")(["what"], run=shuffled(3))
    assert meter.notes == {"pointwise: a hit kept its rank (no label in the answer)": 3}


def test_reading_the_first_token_asks_for_few():
    llm_ = LLM("scripted:x", replies=("yes",), supports=("logprobs",))
    assert Pointwise(llm_).estimate(1).completion_tokens == 100 * 4
    assert Pointwise(llm_, read="text").estimate(1).completion_tokens == 100 * 512


def test_it_stands_in_a_pipeline_after_any_run():
    node = Pointwise(llm(lambda m, s: "2"), method="graded", read="text", depth=2)
    run = (Listed(("d3", "d1", "d2")) >> node)("what")
    assert [hit.doc_id for hit in run.hits(0)] == ["d3", "d1"]
    assert run.kind == "grade"


def test_it_filters_the_queries_of_documents():
    """doc2query-- took any reranker that scores each hit by itself, but none that asks an LLM."""
    texts = (("d47", ("of worth", "of sand")), ("d46", ("of sand", "of worth")))
    judge = Pointwise(
        llm(lambda m, s: "3" if "of worth" in m[-1].content.split("Passage", 1)[0] else "1"),
        method="graded",
        read="text",
        template="{query} Passage: {passage}",
    )
    node = FilteredQueries(Known(texts), judge, keep=0.5)
    kept = {d: w for d, w in zip(CORPUS.doc_ids, node.write(CORPUS), strict=True) if w.texts}
    assert kept == {d: Written(("of worth",), (3.0,)) for d in ("d46", "d47")}
    writer = Doc2Query(llm(lambda m, s: "what"), n=3)
    assert FilteredQueries(writer, judge).estimate_building(10).calls == 10 + 30


def test_a_score_that_is_kept_is_no_guess():
    node = Pointwise(llm(lambda m, s: "Hard to say."), read="text")
    with pytest.raises(LLMError, match="3 of 3 have no readable answer"):
        node.scores([Query("1", "what")], shuffled(3))


def test_reasons_that_are_cut_off_are_no_grade():
    """Before, a grade that was mentioned on the way to a final score was taken for it."""
    said = "The query asks for a town. The passage names it, which would be a 3. The trust is 1"
    node = Pointwise(llm(lambda m, s: Completion(said, "length")), method="graded", read="steps")
    run = shuffled(3)
    with metered() as meter:
        assert worths(node(["what"], run=run)) == worths(run)
    assert meter.notes == {"pointwise: a hit kept its rank (no label in the answer)": 3}


def test_an_answer_that_denies_a_label_is_not_that_label():
    run = shuffled(3)
    for said in ("I would not say yes.", "Not a yes.", "It would be yes if it named the town."):
        with metered() as meter:
            Pointwise(llm(lambda m, s, said=said: said), read="text")(["what"], run=run)
        assert meter.notes == {"pointwise: a hit kept its rank (no label in the answer)": 3}
