"""doc2query with an LLM: what is sent, what is read, what happens when calls fail."""

from __future__ import annotations

import dataclasses
import json

import pytest

from limbeck.agents.doc2query import Doc2Query
from limbeck.corpus import Corpus
from limbeck.errors import LLMError, UsageError
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed
from limbeck.meter import metered
from limbeck.retrieval.bm25 import BM25

CORPUS = Corpus.from_documents(
    [
        {"_id": "a", "title": "Stemming", "text": "A stemmer maps runs to run.\n\nSo both match."},
        {"_id": "b", "text": "Postings are sorted."},
        {"_id": "c", "text": " "},
    ]
)


class Writer:
    """Writes numbered queries about the first word of the document, and keeps the prompts."""

    def __init__(self, *, fails=""):
        self.prompts = []
        self.fails = fails

    def __call__(self, messages, sample):
        self.prompts.append(messages[-1].content)
        word = messages[-1].content.removeprefix("Document: ").split()[0]
        if word == self.fails:
            raise Failed("http 500", retry=False)
        return f"Sure! Here is a query:\n\n1. what about {word.lower()} {sample}?"


def _llm(writer, **fields):
    return dataclasses.replace(LLM.scripted(writer), retries=0, **fields)


def _texts(node, corpus=CORPUS):
    written = node.write(corpus)
    return {doc_id: each.texts for doc_id, each in zip(corpus.doc_ids, written, strict=True)}


def test_each_sample_is_a_query_and_a_blank_document_gets_none():
    writer = Writer()
    assert _texts(Doc2Query(_llm(writer), n=2)) == {
        "a": ("what about stemming 0?", "what about stemming 1?"),
        "b": ("what about postings 0?", "what about postings 1?"),
        "c": (),
    }
    assert len(writer.prompts) == 4


def test_the_prompt_holds_title_and_text_on_one_line_cut_to_size():
    whole, cut = Writer(), Writer()
    _texts(Doc2Query(_llm(whole), n=1, template="{document}"))
    assert sorted(whole.prompts) == [
        "Postings are sorted.",
        "Stemming A stemmer maps runs to run. So both match.",
    ]
    _texts(Doc2Query(_llm(cut), n=1, template="{document}", document_tokens=3))
    assert all(
        prompt in text and prompt.strip() != text
        for prompt, text in zip(sorted(cut.prompts), sorted(whole.prompts), strict=True)
    )


def test_it_has_the_defaults_it_states():
    node = Doc2Query(_llm(Writer()))
    assert (node.n, node.temperature, node.top_p, node.max_tokens) == (20, 1.0, 1.0, 64)


def test_a_document_whose_calls_fail_stops_the_build():
    llm = _llm(Writer(fails="Postings"))
    with pytest.raises(LLMError, match=r"1 of 2 documents have fewer.*http 500.*tolerate"):
        Doc2Query(llm, n=2).write(CORPUS)
    with metered() as meter:
        assert _texts(Doc2Query(llm, n=2, tolerate=0.5))["b"] == ()
    assert meter.notes["doc2query: fewer than 2 queries of a document (http 500)"] == 1


def test_a_document_with_half_its_samples_stops_the_build_too():
    """An index of half the queries was built and kept for good, and nothing filled it later."""
    whole = Writer()

    def half(messages, sample):
        if sample % 2:
            raise Failed("http 503", retry=False)
        return whole(messages, sample)

    llm = _llm(half, samples_per_call=1)
    with pytest.raises(LLMError, match=r"4 answers.*2 of 2 documents have fewer.*http 503"):
        Doc2Query(llm, n=4).write(CORPUS)
    assert len(_texts(Doc2Query(llm, n=4, tolerate=1.0))["a"]) == 2


def test_no_query_in_an_answer_is_a_note_and_no_failure():
    with metered() as meter:
        written = Doc2Query(_llm(lambda messages, sample: "..."), n=1).write(CORPUS)
    assert not any(each.texts for each in written)
    assert meter.notes["doc2query: fewer than 1 queries of a document (no query in the answer)"]


def test_a_build_that_was_stopped_goes_on_from_the_cassette(tmp_path):
    failing, writing = Writer(fails="Postings"), Writer()
    node = Doc2Query(_llm(failing, cassette=tmp_path / "tape"), n=2)
    with pytest.raises(LLMError):
        node.write(CORPUS)
    node.llm.close()
    again = Doc2Query(_llm(writing, cassette=tmp_path / "tape"), n=2)
    assert len(_texts(again)["a"]) == 2
    assert {prompt.split()[1] for prompt in writing.prompts} == {"Postings"}


def test_what_is_written_for_a_document_depends_on_no_other_one():
    alone = Corpus.from_documents([CORPUS.document(CORPUS.row("b"))])
    node = Doc2Query(_llm(Writer()), n=3)
    assert _texts(node, alone)["b"] == _texts(node)["b"]


def test_the_fingerprint_sees_what_changes_the_queries_and_with_it_the_index():
    llm = _llm(Writer())
    base = Doc2Query(llm, n=2)
    others = [
        dataclasses.replace(base, llm=dataclasses.replace(llm, revision="2")),
        dataclasses.replace(base, template="Ask about {document}"),
        dataclasses.replace(base, n=3),
        dataclasses.replace(base, temperature=0.0),
        dataclasses.replace(base, document_tokens=9),
    ]
    prints = {node.fingerprint for node in (base, *others)}
    assert len(prints) == 6
    built = {BM25.index(CORPUS, expansion=node).fingerprint for node in (base, *others)}
    assert len(built) == 6
    asked_elsewhere = dataclasses.replace(llm, concurrency=2)
    assert dataclasses.replace(base, llm=asked_elsewhere).fingerprint == base.fingerprint


def test_check_looks_at_the_llm_and_at_its_context_only_where_an_index_is_to_be_built(tmp_path):
    node = Doc2Query(_llm(Writer(), context_length=120))
    (found,) = BM25(expansion=node).problems(place="here")
    assert found.place == "here.expansion"
    assert "holds 120" in found.message
    fits = dataclasses.replace(node, document_tokens=8, max_tokens=8)
    assert not BM25(expansion=fits).problems()
    no_key = LLM("openai:gpt", api_key="${env:LIMBECK_NO_KEY}")
    unset = BM25(expansion=Doc2Query(no_key), path=tmp_path / "index")
    assert "LIMBECK_NO_KEY" in unset.problems()[0].message
    BM25.index(CORPUS, path=tmp_path / "index")
    assert not unset.problems()


def test_the_estimate_counts_the_calls_that_the_samples_take():
    llm = _llm(Writer(), samples_per_call=8, price=(1.0, 2.0))
    node = Doc2Query(llm, n=20, max_tokens=10, document_tokens=100)
    usage = node.estimate_building(50)
    assert usage.calls == 150
    assert usage.prompt_tokens == 150 * node.max_prompt_tokens()
    assert usage.completion_tokens == 50 * 20 * 10
    assert usage.usd == pytest.approx((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6)
    assert BM25(expansion=node).estimate(1000).calls == 0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"n": 0}, "n of doc2query must be 1 or more; got 0"),
        ({"max_tokens": 0}, "max_tokens of doc2query must be 1 or more"),
        ({"document_tokens": 0}, "document_tokens of doc2query must be 1 or more"),
        ({"temperature": 3.0}, "temperature of doc2query must lie in"),
        ({"tolerate": 1.5}, "tolerate of doc2query must lie in"),
        ({"template": "Write."}, r"must have the places \{document\}"),
        ({"task": "nowhere"}, "task of doc2query must be one of"),
    ],
)
def test_wrong_parameters_are_refused(parameters, said):
    with pytest.raises(UsageError, match=said):
        Doc2Query(_llm(Writer()), **parameters)


@pytest.mark.parametrize("task", ["inpars", "inpars-gbq"])
def test_static_examples_stand_before_the_document(task):
    writer = Writer()
    Doc2Query(_llm(writer), n=1, task=task).write(CORPUS)
    (prompt,) = (prompt for prompt in writer.prompts if "Postings" in prompt)
    assert prompt.count("Document: ") == 4
    assert prompt.rstrip().endswith("query:" if task == "inpars" else "question:")


def test_a_query_that_only_repeats_an_example_is_dropped():
    """InPars' models copied the questions of the prompt."""

    def copies(messages, sample):
        is_b = "Postings" in messages[-1].content
        return "marmot heart rate" if is_b else "Marmot heart rate during hibernation"

    node = Doc2Query(_llm(copies), n=1, task="inpars")
    with metered() as meter:
        written = [texts for texts in _texts(node).values() if texts]
    assert written == [("marmot heart rate",)], "a part of an example is a query like others"
    assert meter.notes == {
        "doc2query: fewer than 1 queries of a document (no query in the answer)": 1
    }


def test_examples_of_the_collection_are_drawn_once_and_shown_to_all(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        "".join(
            json.dumps({"query": f"ask {n}", "passage": f"passage {n} " * 3}) + "\n"
            for n in range(9)
        )
    )
    writer = Writer()
    node = Doc2Query(_llm(writer), n=1, task="examples", examples=file, shots=2, document_tokens=9)
    node.write(CORPUS)
    first, second = writer.prompts
    assert first.split("Document: ")[:3] == second.split("Document: ")[:3]
    assert first.count("\nQuery: ask ") == 2
    other = dataclasses.replace(node, seed=1)
    assert other.fingerprint != node.fingerprint
    plain = Doc2Query(_llm(Writer()), n=1, document_tokens=9)
    assert node.estimate_building(10).prompt_tokens > plain.estimate_building(10).prompt_tokens


@pytest.mark.parametrize("given", [{"task": "examples"}, {"examples": "pairs.jsonl"}])
def test_examples_and_a_template_that_shows_them_belong_together(given):
    with pytest.raises(UsageError, match="examples of doc2query must be given with a template"):
        Doc2Query(_llm(Writer()), **given)


def test_a_file_of_examples_that_is_not_there_is_told_before_anything_is_built(tmp_path):
    node = Doc2Query(_llm(Writer()), task="examples", examples=tmp_path / "none.jsonl")
    problems = []
    node.examine_inside("here", problems)
    assert [problem.message for problem in problems] == [
        f"doc2query reads {tmp_path / 'none.jsonl'}, which is no file"
    ]
