"""The rewriters that ask an LLM: prompts, weights, what happens when an answer cannot be had."""

from __future__ import annotations

import dataclasses

import pytest

from limbeck.agents.hyde import HyDE
from limbeck.agents.lamer import LameR
from limbeck.agents.mugi import MuGI
from limbeck.agents.query2doc import Query2Doc
from limbeck.errors import CheckError, DataError, UsageError
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed
from limbeck.meter import metered
from limbeck.types import Query
from tests.fakes import Listed, run_of

RETRIEVER = Listed(("d3", "d1", "d2"))


def _numbered(messages, sample):
    return f"Certainly! Here is a passage:\n\nanswer {sample} of the model"


def _llm(script=_numbered):
    return dataclasses.replace(LLM.scripted(script), retries=0)


def _expansion(node, query="what is it", run=None):
    (expanded,) = node(query, run=run)
    (expansion,) = expanded.expansions
    return expansion


def _texts(n):
    return tuple(f"answer {sample} of the model" for sample in range(n))


class Heard:
    """Keeps the prompts that were sent."""

    def __init__(self):
        self.prompts = []

    def __call__(self, messages, sample):
        self.prompts.append([tuple(message) for message in messages])
        return "an answer of the model"


def test_hyde_weighs_the_query_as_one_of_n_plus_one():
    expansion = _expansion(HyDE(_llm(), n=3))
    assert expansion.texts == _texts(3)
    assert expansion.vector_weight == pytest.approx(1 / 4)


def test_hyde_has_the_papers_defaults():
    node = HyDE(_llm())
    assert (node.n, node.temperature, node.max_tokens, node.top_p) == (8, 0.7, 512, 1.0)
    assert node.stop == ("\n\n\n",)


def test_lamer_counts_the_query_once_an_answer_and_half_of_the_vector():
    run = run_of({"1": {"d1": 1.0}})
    expansion = _expansion(LameR(_llm()), run=run)
    assert (len(expansion.texts), expansion.term_weight, expansion.vector_weight) == (5, 5.0, 0.5)


def test_lamer_shows_the_candidates_in_order_numbered_and_cut():
    heard = Heard()
    node = LameR(_llm(heard), n=1, depth=2, passage_tokens=2)
    (RETRIEVER >> node >> RETRIEVER)("what")
    ((_, prompt),) = heard.prompts[0]
    assert "1.text 3\n2.text 1\n" in prompt
    assert "text 2" not in prompt
    assert "Question: what\n" in prompt


def test_lamer_asks_without_candidates_where_there_are_none():
    heard = Heard()
    node = LameR(_llm(heard), n=1)
    node([Query("a", "x"), Query("b", "y")], run=run_of({"a": {"d1": 1.0}, "b": {}}))
    first, second = sorted((prompt[-1][1] for prompt in heard.prompts), key="wrong".__contains__)
    prompts = {("1.text 1" in p, "wrong" in p) for p in (first, second)}
    assert prompts == {(True, True), (False, False)}


def test_lamer_may_read_the_run_of_any_pipeline():
    from limbeck.retrieval.fusion import Fuse

    heard = Heard()
    fused = Fuse((RETRIEVER, Listed(("d9",)))).top(1)
    (fused >> LameR(_llm(heard), n=1) >> RETRIEVER)("what")
    assert "1.text 9" in heard.prompts[0][-1][1]


def test_queries_and_passages_are_cut_by_tokens():
    heard = Heard()
    query = " ".join(f"w{n}" for n in range(500))
    HyDE(_llm(heard), n=1, query_tokens=10)(query)
    sent = heard.prompts[0][-1][1]
    assert "w0 w1" in sent
    assert "w50" not in sent


def test_query2doc_counts_the_query_five_times_and_joins_it_to_the_passage():
    expansion = _expansion(Query2Doc(_llm()))
    assert (len(expansion.texts), expansion.term_weight, expansion.joined) == (1, 5.0, True)


def test_query2doc_shows_the_same_examples_to_every_query(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text(
        "".join(f'{{"query": "q{n}", "passage": "p{n} {{query}}"}}\n' for n in range(9))
    )
    heard = Heard()
    node = Query2Doc(_llm(heard), examples=path, shots=2)
    node(["x", "y"])
    first, second = sorted(prompt[-1][1] for prompt in heard.prompts)  # they are sent side by side
    assert first.count("Passage: p") == 2
    assert first.split("Query: x")[0] == second.split("Query: y")[0]  # a shared prefix
    assert "{query}" in first  # what is filled in is not filled again
    assert dataclasses.replace(node, examples=str(path)) == node
    other = dataclasses.replace(node, seed=1)
    assert other.fingerprint != node.fingerprint
    with pytest.raises(DataError, match="must hold 20 examples or more; it has 9"):
        dataclasses.replace(node, shots=20)("x")


def test_examples_that_are_missing_are_found_by_the_check(tmp_path):
    (problem,) = Query2Doc(_llm(), examples=tmp_path / "no.jsonl").problems()
    assert "no.jsonl, which is no file" in str(problem)


def test_mugi_repeats_the_query_by_the_length_of_the_texts():
    expansion = _expansion(MuGI(_llm(lambda m, s: "a" * 60), n=2, beta=4.0), query="q" * 5)
    assert expansion.term_weight == 6.0  # floor(floor(121 / 5) / 4)
    assert expansion.vector_weight == 0.5


def test_mugi_keeps_a_long_query_once():
    expansion = _expansion(MuGI(_llm(lambda m, s: "short text here"), n=1), query="q" * 500)
    assert expansion.term_weight == 1.0


def test_an_empty_query_is_not_sent():
    heard = Heard()
    queries = HyDE(_llm(heard), n=1)([Query("a", "  "), Query("b", "x")])
    assert len(heard.prompts) == 1
    assert queries[0].expansions == ()
    assert len(queries[1].expansions) == 1


def test_no_queries_ask_nothing():
    heard = Heard()
    assert HyDE(_llm(heard))([]) == ()
    assert heard.prompts == []


def test_a_query_whose_call_fails_keeps_its_text_and_the_note_says_so():
    def script(messages, sample):
        if "bad" in messages[-1].content:
            raise Failed("http 500")
        return "a fine answer here"

    with metered() as meter:
        queries = HyDE(_llm(script), n=2)([Query("a", "bad"), Query("b", "good")])
    assert queries[0].expansions == ()
    assert len(queries[1].expansions[0].texts) == 2
    assert meter.notes["hyde: query kept its own text (http 500)"] == 1


@pytest.mark.parametrize("nothing", ["Certainly!", "**", '"'])
def test_an_answer_that_says_nothing_is_no_expansion(nothing):
    with metered() as meter:
        (query,) = HyDE(_llm(lambda m, s: nothing), n=2)("x")
    assert query.expansions == ()
    assert any("kept its own text" in message for message in meter.notes)


def test_fewer_texts_than_asked_are_used_and_noted():
    def script(messages, sample):
        return "Certainly!" if sample == 1 else "a fine answer here"

    with metered() as meter:
        expansion = _expansion(LameR(_llm(script), n=3), run=run_of({"1": {}}))
    assert len(expansion.texts) == 2
    assert expansion.term_weight == 2.0
    assert any("fewer than 3 texts" in message for message in meter.notes)


def test_an_own_template_is_used_and_fingerprinted():
    heard = Heard()
    own = HyDE(_llm(heard), n=1, template="Dis: {query}!")
    own("x")
    assert heard.prompts[0][-1][1] == "Dis: x!"
    assert own.fingerprint != HyDE(own.llm, n=1).fingerprint
    with pytest.raises(UsageError, match=r"must have the places \{passages\}, \{query\}"):
        LameR(_llm(), template="{query}")


@pytest.mark.parametrize(
    "changed",
    [
        {"n": 2},
        {"temperature": 0.0},
        {"max_tokens": 7},
        {"task": "scifact"},
        {"query_tokens": 9},
        {"llm": LLM("scripted:other", replies=("x",))},
        {"llm": LLM("scripted:x", replies=("x",), revision="2")},
    ],
)
def test_the_fingerprint_sees_what_changes_the_texts(changed):
    node = HyDE(LLM("scripted:x", replies=("x",)))
    assert dataclasses.replace(node, **changed).fingerprint != node.fingerprint


@pytest.mark.parametrize(
    "changed",
    [{"concurrency": 2}, {"timeout_s": 3.0}, {"cassette": "tapes/x"}, {"max_calls": 3}],
)
def test_the_fingerprint_does_not_see_how_the_model_is_asked(changed):
    llm = LLM("scripted:x", replies=("x",))
    assert HyDE(dataclasses.replace(llm, **changed)).fingerprint == HyDE(llm).fingerprint


def test_a_prompt_that_cannot_fit_is_found_before_any_call():
    heard = Heard()
    llm = dataclasses.replace(_llm(heard), context_length=800)
    HyDE(llm, max_tokens=100).check()
    with pytest.raises(CheckError, match="context of scripted:script holds 800"):
        (RETRIEVER >> LameR(llm)).check()
    assert heard.prompts == []


def test_no_prompt_is_longer_than_the_check_reckons():
    heard = Heard()
    node = LameR(_llm(heard), n=1, query_tokens=20, passage_tokens=2)
    (RETRIEVER >> node >> RETRIEVER)("antidisestablishmentarianism " * 50)
    sent = node.llm.tokenizer.count(heard.prompts[0][-1][1])
    assert sent <= node.max_prompt_tokens()


@pytest.mark.parametrize("samples_per_call", [None, 2, 1])
def test_the_estimate_is_an_upper_bound_of_what_is_charged(samples_per_call):
    llm = dataclasses.replace(_llm(), price=(1.0, 2.0), samples_per_call=samples_per_call)
    node = LameR(llm, n=3)
    estimate = (RETRIEVER >> node >> RETRIEVER).estimate(2)
    with metered() as meter:
        (RETRIEVER >> node >> RETRIEVER)(["a question", "another one"])
    assert meter.usage.calls == estimate.calls
    assert 0 < meter.usage.prompt_tokens <= estimate.prompt_tokens
    assert 0 < meter.usage.completion_tokens <= estimate.completion_tokens
    assert 0 < meter.usage.usd <= estimate.usd


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda llm: HyDE(llm, n=0), "must be 1 or more"),
        (lambda llm: HyDE(llm, max_tokens=0), "must be 1 or more"),
        (lambda llm: HyDE(llm, temperature=-0.1), "temperature of hyde must lie in"),
        (lambda llm: HyDE(llm, top_p=0.0), "top_p in"),
        (lambda llm: LameR(llm, depth=-1), "depth of lamer"),
        (lambda llm: MuGI(llm, beta=0.0), "beta of mugi"),
        (lambda llm: Query2Doc(llm, shots=0), "shots and passage_tokens"),
    ],
)
def test_wrong_parameters_are_refused(make, said):
    with pytest.raises(UsageError, match=said):
        make(_llm())
