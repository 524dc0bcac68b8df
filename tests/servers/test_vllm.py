"""A real vLLM server: what the nodes ask of it, kills, hangs, many callers."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from limbeck import BM25, Corpus, Doc2Query, HyDE, LameR, Listwise, Pointwise
from limbeck.errors import LLMError, UsageError
from limbeck.llm.model import LLM
from limbeck.meter import metered
from limbeck.training.asking import asked
from limbeck.training.lesson import Lesson
from limbeck.training.questions import Log, Written
from limbeck.training.teaching import taught
from limbeck.types import Message
from tests.llm.conftest import user
from tests.servers.conftest import CONTEXT, ENGINE, KEY, TEXTS, failures

pytestmark = [pytest.mark.servers, pytest.mark.vllm]


@pytest.fixture
def another(vllm):
    """Return a function that makes an LLM like `vllm` with other fields."""
    made = []

    def make(**fields) -> LLM:
        made.append(dataclasses.replace(vllm, **fields))
        return made[-1]

    yield make
    for llm in made:
        llm.close()


QUERIES = ["when does water boil", "how long does an egg take", "water on a mountain"]


def _searched(pipeline, queries=QUERIES):
    """Return the run, after the check; nothing may have been noted."""
    pipeline.check()
    with metered() as meter:
        run = pipeline(queries)
    assert failures(meter) == []
    estimate = pipeline.estimate(len(queries))
    assert 0 < meter.usage.calls <= estimate.calls
    assert 0 < meter.usage.prompt_tokens <= estimate.prompt_tokens
    assert 0 < meter.usage.completion_tokens <= estimate.completion_tokens
    return run


def test_hyde_asks_once_for_all_samples_of_a_query(vllm, bm25):
    with metered() as meter:
        _searched(HyDE(vllm, n=4, max_tokens=24) >> bm25)
    assert meter.usage.calls == len(QUERIES)


def test_lamer_reads_candidates_and_writes_passages(vllm, bm25):
    run = _searched(bm25.top(2) >> LameR(vllm, n=3, max_tokens=24, passage_tokens=40) >> bm25)
    assert len(run.hits(0)) > 0


def test_pointwise_has_probabilities(vllm, bm25):
    run = _searched(bm25 >> Pointwise(vllm, depth=3, passage_tokens=60))
    scores = run.scores.tolist()
    assert all(0 < score < 1 for score in scores)
    assert len({round(score, 4) for score in scores}) == len(scores)


def test_the_likelihood_of_a_query_is_told_for_each_passage(vllm, bm25):
    """The passage that answers makes its own question likelier than one on something else."""
    node = Pointwise(vllm, method="query-likelihood", depth=3, passage_tokens=60)
    run = _searched(bm25 >> node, ["how do I boil an egg in water"])
    assert run.hits(0)[0].doc_id == "2"
    assert all(score < 0 for score in run.scores.tolist())


def test_listwise_ranks_a_window(vllm, bm25):
    node = Listwise(vllm, window=3, step=1, depth=3, passage_tokens=60, max_tokens=24)
    pipeline = bm25 >> node
    pipeline.check()
    with metered() as meter:
        run = pipeline(QUERIES)
    assert [hit.score for hit in run.hits(0)] == [3.0, 2.0, 1.0][: len(run.hits(0))]
    assert all(message.startswith("listwise: ") for message in meter.notes)


def test_it_teaches_what_it_says_and_writes_queries_to_teach_with(vllm, tmp_path):
    """Labels are its own probabilities; a second attempt asks nothing again."""
    lines = [{"_id": str(n), "text": text} for n, text in enumerate(TEXTS)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "log.jsonl").write_text(json.dumps({"_id": "q", "text": QUERIES[0]}))
    corpus = Corpus.load(tmp_path)
    lesson = Lesson(
        teacher=Pointwise(vllm, passage_tokens=60),
        candidates=BM25(k=3),
        queries=(
            Log(path=tmp_path / "log.jsonl"),
            Written(of=Doc2Query(vllm, n=1, max_tokens=16), documents=2),
        ),
        depth=3,
        apart=(),
    )
    out = tmp_path / "out"
    given = asked(lesson, tmp_path, corpus, out)
    assert given.usage.calls > 0
    labels = taught(lesson, given, corpus, out)
    assert labels.run.kind == "probability"
    assert ((labels.run.scores > 0) & (labels.run.scores < 1)).all()
    assert len(np.unique(labels.run.scores)) > 3
    assert set(labels.sources) == {"log", "written"}
    with metered() as meter:
        again = taught(lesson, asked(lesson, tmp_path, corpus, out), corpus, out)
    assert again.digest == labels.digest
    assert meter.usage.calls == 0


def test_text_comes_in_pieces_and_is_whole(vllm):
    pieces = list(vllm.stream(user("Count from one to ten."), max_tokens=32, temperature=0))
    (whole,) = vllm.generate([user("Count from one to ten.")], max_tokens=32, temperature=0)
    assert len(pieces) > 4
    assert "".join(pieces)[:20] == whole.texts[0][:20]


def test_samples_of_one_request_differ_and_a_seed_draws_them_again(vllm):
    ask = {"n": 5, "temperature": 1.0, "max_tokens": 16}
    (drawn,) = vllm.generate([user("Tell me of the sea.")], **ask)
    assert len(set(drawn.texts)) > 1
    (first,) = vllm.generate([user("Tell me of the sea.")], seed=7, **ask)
    (again,) = vllm.generate([user("Tell me of the sea.")], seed=7, **ask)
    shared = sum(a == b for a, b in zip(first.texts, again.texts, strict=True))
    assert shared >= 4, "vLLM does not promise all of them"


def test_log_probabilities_come_with_their_alternatives(vllm):
    (made,) = vllm.generate([user("Is water wet?")], top_logprobs=20, max_tokens=2, temperature=0)
    token = made.logprobs[0][0]
    assert len(token.top) == 20
    assert token.logprob == max(logprob for _, logprob in token.top)


def test_an_answer_is_one_of_the_choices(vllm):
    """The removed `guided_choice` is ignored by vLLM without a word: the text would be free."""
    (made,) = vllm.generate([user("Say hello.")], choices=("quagga", "okapi"), max_tokens=8)
    assert made.texts[0] in {"quagga", "okapi"}
    with pytest.raises(UsageError, match="guided_choice"):
        dataclasses.replace(vllm, extra='{"guided_choice": ["a", "b"]}')


def test_an_answer_follows_a_schema(vllm):
    schema = {
        "type": "object",
        "properties": {"animal": {"enum": ["quagga"]}},
        "required": ["animal"],
        "additionalProperties": False,
    }
    (made,) = vllm.generate([user("Say hello.")], schema=schema, max_tokens=64)
    assert made.texts[0].replace(" ", "").replace("\n", "") == '{"animal":"quagga"}'


def test_what_the_server_can_is_found_by_asking(another, bm25):
    llm = another(context_length=None)
    found = llm.probe()
    assert found.itself.server.startswith("vllm ")
    assert (found.itself.context_length, found.max_top_logprobs) == (CONTEXT, 20)
    assert found.supports == llm.family.supports
    assert found.samples_per_call > 1
    assert 20 <= found.overhead_tokens <= 40, "SmolLM2's template brings a system message"
    assert llm.room == CONTEXT
    node = Pointwise(llm, top_logprobs=50)
    assert any("50" in problem.message for problem in (bm25 >> node).problems())
    long = Listwise(llm, depth=20, passage_tokens=512)
    assert any("holds 2048" in problem.message for problem in (bm25 >> long).problems())


def test_texts_are_cut_by_the_model_s_own_tokenizer(vllm, another, monkeypatch):
    """From its files, or, where they are elsewhere, by asking the server: both cut alike."""
    text = "Reciprocal rank fusion, naïve café 水 🙂\n\n x = {'a': [1, 22, 333]}"
    by_files = vllm.tokenizer
    assert type(by_files).__name__ == "HuggingFace"
    monkeypatch.setattr("limbeck.llm.own_tokenizer._on_this_machine", lambda *_: None)
    by_server = another().tokenizer
    assert type(by_server).__name__ == "TokenPieces"
    assert by_server.ends(text) == by_files.ends(text)
    assert [by_server.cut(text, n) for n in range(30)] == [by_files.cut(text, n) for n in range(30)]


def test_a_prompt_that_is_too_long_costs_itself_alone(vllm):
    short, long = vllm.generate([user("Say hello."), user("word " * 3000)], max_tokens=8)
    assert short.failure is None
    assert long.failure == "prompt too long"


def test_fifty_callers_at_once_each_get_their_own_answer(vllm):
    def call(number: int) -> str:
        name = f"caller {number}"
        (made,) = vllm.generate([user(f"I am {name}.")], choices=(name,), max_tokens=16)
        return made.texts[0]

    with ThreadPoolExecutor(50) as pool:
        said = list(pool.map(call, range(50)))
    assert said == [f"caller {number}" for number in range(50)]


def test_a_wrong_key_is_told_without_the_key(another, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "another-planted-key")
    with pytest.raises(LLMError, match="401") as error:
        another().generate([user("Say hello.")])
    assert "planted" not in str(error.value)


def test_the_key_stands_in_no_log(vllm, vllm_server):
    vllm.generate([user("Say hello.")], max_tokens=4)
    log = vllm_server.log.read_text(encoding="utf-8")
    assert "Application startup complete" in log
    assert KEY not in log


def test_a_server_that_hangs_is_left_in_time_and_asked_again_once_it_is_back(another, vllm_server):
    llm = another(timeout_s=2.0, retries=1, first_wait_s=0.1)
    stopped = _processes(vllm_server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        (hung,) = llm.generate([user("Say hello.")], max_tokens=4)
        took = time.monotonic() - began
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert hung.failure == "timeout"
    assert took < 8.0
    (made,) = another().generate([user("Say hello.")], max_tokens=4)
    assert made.failure is None


def test_a_server_whose_engine_hangs_is_started_again(another, vllm_server):
    """Its /health goes on saying that all is well."""
    starts, hung = vllm_server.starts, _processes(vllm_server)
    (engine,) = (
        pid for pid in hung if Path(f"/proc/{pid}/comm").read_text() == "VLLM::EngineCor\n"
    )
    os.kill(engine, signal.SIGSTOP)
    (timed_out,) = another(timeout_s=3.0, retries=0).generate([user("Say hello.")], max_tokens=4)
    assert timed_out.failure == "timeout"
    vllm_server.suspect()
    assert vllm_server.state == "starting"
    again = another(base_url=f"{vllm_server.ready()}/v1")
    assert vllm_server.starts == starts + 1
    assert not {pid for pid in hung if _stat(pid)[0] not in "XZ"}
    (made,) = again.generate([user("Say hello.")], max_tokens=4)
    assert made.failure is None


def test_a_server_that_is_killed_in_a_stage_costs_nothing_that_was_answered(folder, tmp_path):
    """It is started again, what was under way is asked again, and what was answered is not."""
    prompts = [user(f"Tell me of the number {n}.") for n in range(40)]
    llm = LLM(
        f"vllm:{folder}",
        engine=ENGINE,
        context_length=CONTEXT,
        cassette=tmp_path / "tape",
        concurrency=4,
        first_wait_s=0.1,
    )
    backend = llm._own_gate._opened()

    def kill() -> None:
        journal = tmp_path / "tape.jsonl.journal"
        while not (journal.exists() and journal.read_text().count("\n") >= 30):
            time.sleep(0.05)
        os.kill(backend._lease.held().server.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with metered() as meter:
        made = llm.generate(prompts, n=2, temperature=1.0, max_tokens=16)
    killer.join()
    assert [generation.failure for generation in made] == [None] * len(prompts)
    assert all(len(generation.texts) == 2 for generation in made)
    server = backend._lease.held().server
    assert server.starts == 2
    tokens = sum(sample.completion_tokens for g in made for sample in g.samples)
    assert meter.usage.completion_tokens == tokens, "nothing was answered twice"
    with metered() as again:
        same = llm.generate(prompts, n=2, temperature=1.0, max_tokens=16)
    assert [g.texts for g in same] == [g.texts for g in made]
    assert again.usage.calls == 0
    group = server.pid
    llm.close()
    _wait_until_gone(group)


def _processes(server) -> list[int]:
    return [pid for pid in _pids() if _stat(pid)[2] == str(server.pid)]


def _wait_until_gone(group: int) -> None:
    ends_at = time.monotonic() + 20.0
    while any(_stat(pid)[2] == str(group) for pid in _pids()):
        assert time.monotonic() < ends_at, "what the server started is still there"
        time.sleep(0.2)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Return state, parent and group of a process, and more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "", ""]


def test_a_model_that_cannot_be_loaded_says_why(tmp_path):
    (tmp_path / "empty").mkdir()
    llm = LLM(f"vllm:{tmp_path / 'empty'}", engine=ENGINE)
    with pytest.raises(LLMError, match="must start to answer") as error:
        llm.generate([(Message("user", "Say hello."),)])
    assert "config.json" in str(error.value)
    llm.close()


def test_a_small_model_is_held_to_labels(vllm, bm25):
    _searched(bm25 >> Pointwise(vllm, read="choice", depth=3, passage_tokens=60))
