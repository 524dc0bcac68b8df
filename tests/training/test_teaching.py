"""Teaching: who is asked, about what, once; what leaks is not; what is half done goes on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from limbeck.agents.doc2query import Doc2Query
from limbeck.agents.pairwise import Pairwise
from limbeck.agents.pointwise import Pointwise
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, CheckError, DataError, LLMError, UsageError
from limbeck.eval.datasets import Dataset
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed
from limbeck.meter import Usage, charge, note
from limbeck.pipeline import Reranker
from limbeck.progress import listening
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.cutoff import Cutoff
from limbeck.retrieval.expansion import Expander, Written
from limbeck.retrieval.recorded_run import RecordedRun
from limbeck.retrieval.scorer import Scorer
from limbeck.training import teaching
from limbeck.training.asking import asked
from limbeck.training.dark import Dark
from limbeck.training.examples import Examples
from limbeck.training.lesson import Lesson
from limbeck.training.questions import Log, Sentences, Split, Titles
from limbeck.training.questions import Written as WrittenQueries
from limbeck.training.teaching import taught
from limbeck.types import Query, Run

TAUGHT = 47
"""Queries of the tiny world's split train but one, which has the words of one of dev."""


@dataclass(frozen=True)
class Teacher(Scorer):
    """Scores a passage by how many of its words are "tell" of the query's topic, and counts."""

    name: ClassVar[str] = "counting"

    seen: list[str] = field(default_factory=list, compare=False)

    @property
    def kind(self) -> str:
        return "logit"

    def scores(self, queries: Sequence[Query], run: Run) -> np.ndarray:
        self.seen.extend(query.query_id for query in queries)
        charge(Usage(calls=len(run.rows), usd=0.001 * len(run.rows)))
        note("an answer was guessed")
        made = np.zeros(len(run.rows), dtype=np.float32)
        for place, query in enumerate(queries):
            topic = query.text.split()[0].replace("ask", "tell")
            where = run.segment(place)
            texts = [run.corpus.document(row).text.split() for row in run.rows[where].tolist()]
            made[where] = [words.count(topic) - 0.01 * words.count("[MASK]") for words in texts]
        return made


@dataclass(frozen=True)
class Binds(BM25):
    """Candidates that call a function when they are bound."""

    then: Callable[..., None] = field(default=print, compare=False)

    def bind(self, corpus):
        self.then(corpus)
        return super().bind(corpus)


def lesson(**given) -> Lesson:
    usual = {"teacher": Teacher(), "candidates": BM25(k=60), "depth": 5, "apart": ("dev",)}
    return Lesson(**usual | given)


def made(folder, out, given=None):
    of = given or lesson()
    corpus = Corpus.load(folder)
    return taught(of, asked(of, folder, corpus), corpus, out)


def test_candidates_and_positives_are_scored_and_written(folder, tmp_path):
    labels = made(folder, tmp_path)
    assert len(labels) == TAUGHT
    assert set(labels.sources) == {"split"}
    for place, positives in enumerate(labels.positives):
        rows = labels.run.rows[labels.run.segment(place)]
        assert 5 <= len(rows) <= 7
        assert np.isin(positives, rows).all(), "positives that BM25 did not find are scored too"
        scores = labels.of(np.array([place]), positives[None])
        assert (scores == 1.0).all()
    assert labels.run.kind == "logit"
    assert labels.origin.usage.calls == len(labels.run.rows)
    assert labels.origin.usage.usd == pytest.approx(0.001 * len(labels.run.rows))
    assert dict(labels.origin.notes) == {"an answer was guessed": 1}
    assert not (tmp_path / "parts").exists()


def test_a_pipeline_teaches_by_its_own_run_and_what_it_missed_has_no_label(folder, tmp_path):
    """A positive that it did not find had its last score once, which the teacher never gave."""
    labels = made(folder, tmp_path, lesson(teacher=BM25(k=60), candidates=None, depth=4))
    assert labels.run.kind == "bm25"
    n_missed = 0
    for place, positives in enumerate(labels.positives):
        where = labels.run.segment(place)
        found = BM25(k=4).bind(Corpus.load(folder))([labels.queries[place]])
        assert labels.run.rows[where].tolist() == found.rows.tolist()
        missed = np.setdiff1d(positives, found.rows)
        assert np.isnan(labels.of(np.array([place]), missed[None])).all()
        n_missed += len(missed)
    assert n_missed > 10, "BM25 finds documents by chance here"


def log(tmp_path, *texts):
    path = tmp_path / "log.jsonl"
    lines = ({"_id": f"log{n}", "text": text} for n, text in enumerate(texts))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Log(path=path)


def test_of_a_log_the_teacher_says_what_answers_a_query(folder, tmp_path):
    """Its first hit is the positive, or all from a score on; a query without any is not taught."""
    corpus = Corpus.load(folder)
    texts = Dataset.load(folder, "train").queries[0].text, "nothing of this world", " "
    asking = lesson(queries=(log(tmp_path, *texts),), alike=1.0)
    labels = made(folder, tmp_path / "first", asking)
    assert [query.query_id for query in labels.queries] == ["log0"]
    assert labels.sources == ("log",)
    assert labels.positives[0].tolist() == labels.run.rows[:1].tolist()
    assert dict(labels.origin.notes) == {
        "an answer was guessed": 1,
        "query not taught: the teacher finds nothing that answers it": 1,
    }
    all_of = made(folder, tmp_path / "all", dataclasses.replace(asking, relevant=0.0))
    assert len(all_of.positives[0]) == 5
    assert set(all_of.positives[0]) == set(labels.run.rows.tolist())
    with pytest.raises(
        DataError, match=r"of 2 it finds nothing for any .noted: .*; lower relevant"
    ):
        made(folder, tmp_path / "none", dataclasses.replace(asking, relevant=2.0))
    examples = Examples.taught(all_of, folder)
    assert examples.queries == labels.queries
    with pytest.raises(DataError, match="none of the labelled queries is of a split"):
        Examples.taught(all_of, folder, dev=0.5)
    assert all(row < len(corpus) for row in all_of.run.rows)


def test_a_log_may_stand_beside_a_split(folder, tmp_path):
    train = Dataset.load(folder, "train").queries
    same = log(tmp_path)
    lines = ({"_id": query.query_id, "text": query.text} for query in train[:2])
    same.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = asked(lesson(queries=(Split(), same)), folder, Corpus.load(folder))
    assert set(given.sources) == {"split"}, "the split knows what answers them"
    same.path.write_text(json.dumps({"_id": train[0].query_id, "text": "another"}))
    with pytest.raises(DataError, match="one query id for two queries"):
        asked(lesson(queries=(Split(), same)), folder, Corpus.load(folder))


def test_a_call_that_failed_becomes_no_label(folder, tmp_path):
    """The middle of the scale was written for it, and stayed when the LLM was there again."""
    is_down = True

    def answer(messages, sample):
        if is_down and "noise3" in messages[-1].content:
            raise Failed("http 500", retry=False)
        return "The grade is 2"

    llm = dataclasses.replace(LLM.scripted(answer, name="judge"), cassette=tmp_path / "tape")
    asking = lesson(teacher=Pointwise(llm, method="graded", read="text"), queries=(Split(n=8),))
    with pytest.raises(LLMError, match=r"prompts have no answer: .*; mend that"):
        made(folder, tmp_path / "out", asking)
    tolerant = made(folder, tmp_path / "some", dataclasses.replace(asking, tolerate=0.9))
    assert set(tolerant.run.scores.tolist()) == {2.0}
    assert len(tolerant.run.rows) < 8 * 5
    is_down = False
    whole = made(folder, tmp_path / "out", asking)
    assert set(whole.run.scores.tolist()) == {2.0}, "equal grades stay equal"
    assert len(whole.run.rows) > len(tolerant.run.rows)


def test_an_answer_without_a_grade_is_no_label(folder, tmp_path):
    def answer(messages, sample):
        return "No idea." if "noise3" in messages[-1].content else "The grade is 1"

    llm = LLM.scripted(answer, name="judge")
    asking = lesson(teacher=Pointwise(llm, method="graded", read="text"), queries=(Split(n=8),))
    labels = made(folder, tmp_path / "out", asking)
    notes = dict(labels.origin.notes)
    assert set(labels.run.scores.tolist()) == {1.0}
    assert notes["passage without a label: the teacher left it out"] > 0
    assert any("a hit kept its rank" in message for message in notes)


def test_only_what_a_teacher_sorted_is_labelled(folder, tmp_path):
    """Behind its best ten a heap holds the candidates about as they came."""
    llm = LLM("scripted:x", replies=("A",))
    asking = lesson(teacher=Pairwise(llm, best=3), queries=(Split(n=2),))
    labels = made(folder, tmp_path, asking)
    assert np.diff(labels.run.bounds).tolist() == [3, 3]


def test_inside_a_pipeline_an_llm_leaves_all_hits_to_what_comes_next(folder, tmp_path):
    """Of hits that it did not sort a pipeline has an order too, by which it is measured."""
    llm = LLM("scripted:x", replies=("A",))
    sorting = BM25(k=5) >> Pairwise(llm, best=3)
    for teacher, n_labels in ((sorting, 3), (sorting >> Cutoff(drop=1.0), 5)):
        asking = lesson(teacher=teacher, candidates=None, queries=(Split(n=2),))
        labels = made(folder, tmp_path / str(n_labels), asking)
        assert np.diff(labels.run.bounds).tolist() == [n_labels] * 2


def test_the_kind_of_labels_is_known_before_anybody_is_asked(folder, tmp_path):
    """Of a teacher that keeps the kind that it is given, it is not that of the candidates."""
    llm = LLM("scripted:x", replies=("The grade is 1",))
    graded = Pointwise(llm, method="graded", read="text")
    teachers = [(Cutoff(drop=1.0), BM25(k=5)), (graded, BM25(k=5)), (BM25(k=5), None)]
    for place, (teacher, candidates) in enumerate(teachers):
        asking = lesson(teacher=teacher, candidates=candidates, queries=(Split(n=2),))
        assert made(folder, tmp_path / str(place), asking).run.kind == asking.kind
    (problem,) = lesson(teacher=Cutoff(share=0.1)).problems()
    assert "rank scores may be" in problem.message, "it was sound, and refused when it was asked"


def test_labels_of_nothing_are_refused(folder, tmp_path):
    (tmp_path / "other.qrels").write_text(f"nobody 0 {Corpus.load(folder).doc_ids[0]} 1\n")
    asking = lesson(teacher=RecordedRun(tmp_path / "other.qrels"), candidates=None)
    with pytest.raises(DataError, match="it scored none of any query"):
        made(folder, tmp_path / "out", asking)


def test_why_nothing_was_labelled_is_told(folder, tmp_path):
    llm = LLM("scripted:x", replies=("No idea.",))
    mute = lesson(teacher=Pointwise(llm, method="graded", read="text"), queries=(Split(n=2),))
    with pytest.raises(DataError, match=r"none of any query .noted: .*a hit kept its rank"):
        made(folder, tmp_path / "out", mute)


def test_who_knows_what_answers_a_query_is_heard_before_a_log(folder, tmp_path):
    train = Dataset.load(folder, "train").queries
    same = log(tmp_path)
    same.path.write_text(json.dumps({"_id": train[0].query_id, "text": train[0].text}))
    given = asked(lesson(queries=(same, Split()), alike=1.0), folder, Corpus.load(folder))
    assert set(given.sources) == {"split"}
    assert all(len(question.positives) for question in given.questions)


def test_two_sources_of_a_kind_have_queries_of_their_own(folder, tmp_path):
    """InPars and GPL together are two of the kind "written"; their ids were the same."""
    corpus = Corpus.load(folder)
    sources = (Sentences(words=(1, 40)), Titles(n=3), Sentences(words=(2, 40)), Titles())
    given = asked(lesson(queries=sources), folder, corpus)
    ids = [question.query.query_id for question in given.questions]
    assert len(set(ids)) == len(ids) == 2 * len(corpus) + 3 + len(corpus)
    assert {query_id.partition("-")[0] for query_id in ids} == {
        "sentences",
        "sentences2",
        "titles",
        "titles2",
    }


def test_recorded_judgements_teach(folder, tmp_path):
    """What an LLM said elsewhere, as a file of grades: all that it judged is labelled, no more."""
    query = Dataset.load(folder, "train").queries[0]
    ids = Corpus.load(folder).doc_ids
    path = tmp_path / "llm.qrels"
    path.write_text("".join(f"log0 0 {ids[n]} {n}\n" for n in range(4)))
    of = Lesson(
        teacher=RecordedRun(path),
        queries=(log(tmp_path, query.text, "never judged"),),
        relevant=2.0,
        apart=("dev",),
        alike=1.0,
    )
    labels = made(folder, tmp_path / "labels", of)
    assert len(labels) == 1
    assert dict(next(labels.run.items())[1]) == {ids[n]: float(n) for n in range(4)}
    assert sorted(ids[row] for row in labels.positives[0]) == sorted([ids[2], ids[3]])


def test_nothing_is_asked_twice(folder, tmp_path, monkeypatch):
    """A kill between two parts costs none of those that were done."""
    monkeypatch.setattr(teaching, "_TOGETHER", 10)
    whole = made(folder, tmp_path / "whole")
    teacher = Teacher()
    real, n_parts = teaching.Labels.save, 0

    def save(labels, where):
        nonlocal n_parts
        n_parts += 1
        if n_parts == 3:
            raise KeyboardInterrupt
        real(labels, where)

    monkeypatch.setattr(teaching.Labels, "save", save)
    with pytest.raises(KeyboardInterrupt):
        made(folder, tmp_path / "cut", lesson(teacher=teacher))
    assert len(teacher.seen) == 30
    told, steps = [], []
    with listening(lambda _, done, total, __: steps.append((done, total)), told.append):
        again = made(folder, tmp_path / "cut", lesson(teacher=teacher))
        assert len(teacher.seen) == 30 + TAUGHT - 20, "two parts of ten were kept"
        assert again.digest == whole.digest
        third = made(folder, tmp_path / "cut", lesson(teacher=teacher))
    assert len(teacher.seen) == 10 + TAUGHT
    assert third.digest == whole.digest
    assert told == [
        f"teaching goes on: 20 of {TAUGHT} queries are taught",
        f"{tmp_path / 'cut' / 'labels'} has the labels of this lesson",
    ]
    assert steps == [(done, 3) for done in range(4)], "the time left is that of the three parts"


def test_a_folder_is_one_lessons(folder, tmp_path):
    made(folder, tmp_path)
    with pytest.raises(UsageError, match="holds those of another"):
        made(folder, tmp_path, lesson(depth=6))


def test_before_labels_of_another_lesson_nobody_is_asked(folder, tmp_path):
    """Queries were written, and a corpus encoded, before the folder was looked at."""
    made(folder, tmp_path / "out")
    calls = []
    llm = LLM.scripted(lambda messages, sample: calls.append(messages) or "ask me")
    writing = lesson(queries=(WrittenQueries(of=Doc2Query(llm, n=1), documents=2),))
    with pytest.raises(UsageError, match="holds those of another; give another folder"):
        asked(writing, folder, Corpus.load(folder), tmp_path / "out")
    assert calls == []
    bigger = tmp_path / "bigger"
    shutil.copytree(folder, bigger)
    with (bigger / "corpus.jsonl").open("a") as corpus:
        corpus.write('{"_id": "one-more", "text": "tell"}\n')

    def refused(*_):
        raise AssertionError("labels of another corpus were there to see")

    unbound = lesson(candidates=Binds(k=60, then=refused))
    with pytest.raises(ArtifactError, match="give another folder, or remove it and teach again"):
        made(bigger, tmp_path / "out", unbound)


def test_the_collection_is_no_folder_for_labels(folder):
    with pytest.raises(UsageError, match="it is the collection that is read; give another one"):
        asked(lesson(), folder, Corpus.load(folder), folder)


def test_what_is_like_a_query_kept_apart_is_not_taught(folder, tmp_path):
    corpus = Corpus.load(folder)
    given = asked(lesson(), folder, corpus)
    (leak,) = given.leaks
    assert set(leak.query.text.split()) == set(leak.like.text.split())
    assert len(given.questions) == TAUGHT
    assert leak.query not in [question.query for question in given.questions]
    assert given.n_apart == 24
    with pytest.raises(UsageError, match="must not be taught, for it is kept apart"):
        lesson(queries=(Split(split="dev"),))
    with pytest.raises(DataError, match="all 48 are like"):
        asked(lesson(alike=0.01), folder, corpus)


def test_dark_examples_are_scored_and_belong_to_their_query(folder, tmp_path):
    labels = made(folder, tmp_path, lesson(dark=Dark(reinforced=2, noisy=1)))
    assert sum(map(len, labels.dark)) >= 2.8 * len(labels), "but for those that changed no word"
    for place, rows in enumerate(labels.dark):
        assert (rows >= len(labels.texts.corpus)).all()
        assert not np.isnan(labels.of(np.array([place]), rows[None])).any()
        names = {labels.texts.document(row).doc_id for row in rows.tolist()}
        query_id = labels.queries[place].query_id
        assert names <= {f"dark-{query_id}-{kind}" for kind in ("r0", "r1", "n0")}
    assert (labels.candidates.rows < len(labels.texts.corpus)).all()


def test_only_what_lies_between_is_kept_where_that_is_asked_for(folder, tmp_path):
    of = lesson(dark=Dark(reinforced=3, noisy=3, between=True))
    labels = made(folder, tmp_path, of)
    n_kept = sum(map(len, labels.dark))
    assert 0 < n_kept < 6 * len(labels)
    for place, rows in enumerate(labels.dark):
        best = labels.of(np.array([place]), labels.positives[place][None]).max()
        others = np.setdiff1d(
            labels.candidates.rows[labels.candidates.segment(place)], labels.positives[place]
        )
        worst = labels.of(np.array([place]), others[None].astype(np.int64)).max()
        scores = labels.of(np.array([place]), rows[None])
        assert ((scores < best) & (scores > worst)).all()


def test_a_teacher_that_leaves_passages_out_is_refused(folder, tmp_path):
    teacher = Teacher(depth=3)
    with pytest.raises(UsageError, match="its depth is 3; raise that to 7 or more"):
        made(folder, tmp_path, lesson(teacher=teacher))
    assert not teacher.seen, "nothing was asked before"


@dataclass(frozen=True)
class Reads(Reranker):
    name: ClassVar[str] = "reads"

    def rerank(self, queries: Sequence[Query], run: Run) -> Run:
        return run


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"candidates": None}, "must end in a run of its own"),
        ({"teacher": BM25()}, "this one makes its own"),
        ({"teacher": BM25(), "candidates": None, "dark": Dark()}, "give candidates"),
        ({"depth": 0}, "depth must be 1 or more"),
        ({"queries": ()}, "must have queries"),
        ({"queries": (Log(path="log.jsonl"),), "dark": Dark()}, "leave out the log, or dark"),
        ({"relevant": 1.0}, "relevant belongs to queries of a log"),
    ],
)
def test_a_lesson_that_cannot_be_given_is_refused(given, why):
    with pytest.raises(UsageError, match=why):
        lesson(**given)


# Queries made from documents.


@dataclass(frozen=True)
class Writer(Expander):
    name: ClassVar[str] = "writer"

    def write(self, corpus: Corpus) -> list[Written]:
        return [
            Written((document.text.split()[0], "common", document.text.split()[0]))
            for document in corpus.documents()
        ]


def sources(folder, *queries):
    corpus = Corpus.load(folder)
    return asked(lesson(queries=queries), folder, corpus), corpus


def test_titles_and_sentences_ask_for_their_own_document(folder):
    given, corpus = sources(folder, Titles(), Sentences(words=(2, 9)))
    assert set(given.sources) == {"titles", "sentences"}
    assert len(given.questions) == 96
    for question, source in zip(given.questions, given.sources, strict=True):
        document = corpus.document(int(question.positives[0]))
        assert question.query.query_id.startswith(f"{source}-{document.doc_id}-")
        assert question.query.text in (document.title if source == "titles" else document.text)


def test_so_many_are_drawn_and_always_the_same(folder):
    given, _ = sources(folder, Titles(n=7))
    assert len(given.questions) == 7
    again, _ = sources(folder, Titles(n=7))
    assert [q.query for q in again.questions] == [q.query for q in given.questions]


def test_written_queries_are_each_once_and_of_the_documents_drawn(folder):
    given, _ = sources(folder, WrittenQueries(of=Writer(), documents=5))
    assert len(given.questions) == 10, "a text that was written twice counts once"
    rows = {int(question.positives[0]) for question in given.questions}
    assert len(rows) == 5


def test_a_made_query_stays_where_its_document_is_found_again(folder):
    """Promptagator's round trip: "common" finds any document, "tell7" those of its topic."""
    given, _ = sources(folder, WrittenQueries(of=Writer(), found_by=BM25(), within=2))
    kept = [question.query.text for question in given.questions]
    assert sum(text.startswith("tell") for text in kept) == 48
    assert sum(text == "common" for text in kept) == 2


def test_a_source_without_queries_says_so(folder):
    with pytest.raises(DataError, match="sentences must give queries to teach with"):
        sources(folder, Sentences(words=(90, 99)))
    with pytest.raises(UsageError, match="n of titles must be 1 or more"):
        Titles(n=0)
    with pytest.raises(UsageError, match="within of titles must be 1 or more"):
        Titles(within=0)


def test_labels_are_gone_when_their_folder_is(folder, tmp_path):
    made(folder, tmp_path)
    shutil.rmtree(tmp_path / "labels")
    teacher = Teacher()
    made(folder, tmp_path, lesson(teacher=teacher))
    assert len(teacher.seen) == TAUGHT


def test_examples_that_leak_are_refused(folder, tmp_path):
    llm = LLM("scripted:writer", replies=("tell3",))
    corpus = Corpus.load(folder)
    (dev, *_) = Dataset.load(folder, "dev").queries
    file = tmp_path / "examples.jsonl"

    def write(*queries: str):
        lines = [json.dumps({"query": query, "passage": "tell1"}) for query in queries]
        file.write_text("\n".join(lines) + "\n")
        writer = Doc2Query(llm, n=1, task="examples", examples=file, shots=1)
        return asked(lesson(queries=(WrittenQueries(of=writer, n=3),)), folder, corpus)

    assert {q.query.text for q in write("about other things").questions} == {"tell3"}
    with pytest.raises(UsageError, match=r"in .*examples.jsonl 'examples.jsonl:2' \("):
        write("about other things", dev.text)


def test_the_static_check_runs_before_anything_is_asked(folder, tmp_path):
    llm = LLM("openai:gpt-x", api_key="${env:NO_SUCH_KEY}")
    given = lesson(
        teacher=Pointwise(llm),
        queries=(WrittenQueries(of=Doc2Query(llm), found_by=BM25() >> Pointwise(llm)),),
    )
    with pytest.raises(CheckError) as error:
        asked(given, folder, Corpus.load(folder))
    places = {problem.place for problem in error.value.problems}
    assert places == {"teach.teacher", "teach.queries[0].of", "teach.queries[0].found_by[1]"}


def test_what_was_written_is_not_written_again(folder, tmp_path):
    """Without a cassette, an LLM wrote other queries after a stop, and nothing went on."""
    corpus, n_calls = Corpus.load(folder), 0

    def writes(messages, sample):
        nonlocal n_calls
        n_calls += 1
        return f"query {n_calls}"

    source = WrittenQueries(of=Doc2Query(LLM.scripted(writes), n=1), documents=4)
    given = lesson(queries=(source,))
    first = asked(given, folder, corpus, tmp_path)
    again = asked(given, folder, corpus, tmp_path)
    assert n_calls == 4
    assert [q.query for q in again.questions] == [q.query for q in first.questions]
    assert [q.positives for q in again.questions] == [q.positives for q in first.questions]
    asked(lesson(queries=(source,), seed=1), folder, corpus, tmp_path)
    assert n_calls == 8, "other documents are drawn"


def test_a_recorded_run_teaches_all_that_it_holds(folder, tmp_path):
    """The best fifty were taken without a word, and agreement with people was that of these."""
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    with (whole / "corpus.jsonl").open("a") as corpus:
        corpus.writelines(f'{{"_id": "more{n}", "text": "tell{n}"}}\n' for n in range(60))
    query = Dataset.load(whole, "train").queries[0]
    lines = (f"{query.query_id} 0 more{n} {n % 4}\n" for n in range(60))
    (tmp_path / "llm.qrels").write_text("".join(lines))
    teacher = RecordedRun(tmp_path / "llm.qrels")
    labels = made(whole, tmp_path / "all", Lesson(teacher=teacher, apart=("dev",)))
    assert len(labels.run.rows) == 60
    few = made(whole, tmp_path / "few", Lesson(teacher=teacher, depth=7, apart=("dev",)))
    assert len(few.run.rows) == 7
