"""vLLM in this process: the same questions and the same answers as by its server."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import pytest

from limbeck import HyDE, Pointwise
from limbeck.errors import LLMError
from limbeck.llm.model import LLM
from limbeck.meter import metered
from limbeck.types import Message
from tests.llm.conftest import user
from tests.servers.conftest import CONTEXT, ENGINE, failures

pytestmark = [
    pytest.mark.servers,
    pytest.mark.vllm,
    pytest.mark.filterwarnings("default"),  # vLLM and torch warn of themselves while they load
]


@pytest.fixture(scope="module")
def offline(folder):
    llm = LLM(f"vllm-offline:{folder}", engine=ENGINE, context_length=CONTEXT)
    yield llm
    llm.close()


@pytest.fixture
def steps(offline, monkeypatch):
    """Return what grows by the number of unfinished texts at each step of vLLM's engine."""
    from vllm.v1.engine.llm_engine import LLMEngine

    offline.generate([user("Say hello.")], max_tokens=1)  # loaded
    step = LLMEngine.step
    unfinished: list[int] = []

    def counted(engine):
        unfinished.append(engine.get_num_unfinished_requests())
        return step(engine)

    monkeypatch.setattr(LLMEngine, "step", counted)
    return unfinished


def test_a_stage_is_one_batch(offline, bm25, steps):
    """Call after call it would take 20 x 8 steps, with three texts under way at each."""
    queries = [f"when does water boil at {n} metres" for n in range(20)]
    pipeline = HyDE(offline, n=3, max_tokens=8) >> bm25
    pipeline.check()
    with metered() as meter:
        pipeline(queries)
    assert failures(meter) == []
    assert meter.usage.calls == len(queries)
    assert meter.usage.completion_tokens <= 20 * 3 * 8
    assert max(steps) > 40
    assert len(steps) < 60


def test_it_says_what_the_server_says(offline, vllm):
    assert offline.identity == "vllm:smollm2" == vllm.identity
    ask = {"top_logprobs": 5, "temperature": 0, "max_tokens": 1}
    prompts = [user(f"Is {n} an even number? Answer yes or no.") for n in range(8)]
    for ours, theirs in zip(
        offline.generate(prompts, **ask), vllm.generate(prompts, **ask), strict=True
    ):
        here, there = dict(ours.logprobs[0][0].top), dict(theirs.logprobs[0][0].top)
        likeliest = max(here, key=here.get)
        assert here[likeliest] == pytest.approx(there[likeliest], abs=0.15)
        assert ours.samples[0].prompt_tokens == theirs.samples[0].prompt_tokens


def test_a_text_is_scored_as_by_the_server(offline, vllm):
    prompt = (Message("user", "Write a question."), Message("assistant", "when does water boil?"))
    (ours,), (theirs,) = offline.score([prompt]), vllm.score([prompt])
    here, there = ours.logprobs[0], theirs.logprobs[0]
    assert [token.text for token in here] == [token.text for token in there]
    assert [t.logprob for t in here] == pytest.approx([t.logprob for t in there], abs=0.25)


def test_choices_and_schemas_hold(offline):
    (made,) = offline.generate([user("Say hello.")], choices=("quagga", "okapi"), max_tokens=8)
    assert made.texts[0] in {"quagga", "okapi"}
    schema = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"]}
    (made,) = offline.generate([user("Say hello.")], schema=schema, max_tokens=32)
    assert json.loads(made.texts[0])["n"] == 7
    llm = dataclasses.replace(offline, extra='{"structured_outputs": {"regex": "(ox|yak)"}}')
    (made,) = llm.generate([user("Say hello.")], max_tokens=8)
    assert made.texts[0] in {"ox", "yak"}
    llm.close()


def test_a_template_takes_what_it_is_told(offline):
    template = "{{ word * 5 }}{{ messages[-1]['content'] }}"
    extra = {"chat_template": template, "chat_template_kwargs": {"word": " water"}}
    llm = dataclasses.replace(offline, extra=json.dumps(extra))
    (made,) = llm.generate([user(" boils")], max_tokens=1)
    assert made.samples[0].prompt_tokens == 6
    llm.close()


def test_a_wrong_parameter_is_an_error(offline):
    for extra in ('{"min_p": 2}', '{"structured_outputs": {"regex": "(", "choice": ["a"]}}'):
        llm = dataclasses.replace(offline, extra=extra)
        with pytest.raises(LLMError, match="drop or mend the parameter"):
            llm.generate([user("Say hello.")], max_tokens=8)
        llm.close()


def test_samples_differ_and_a_seed_draws_them_again(offline):
    ask = {"n": 5, "temperature": 1.0, "max_tokens": 16, "seed": 7}
    (first,) = offline.generate([user("Tell me of the sea.")], **ask)
    by_twos = dataclasses.replace(offline, samples_per_call=2)
    (again,) = by_twos.generate([user("Tell me of the sea.")], **ask)
    by_twos.close()
    assert len(set(first.texts)) > 1
    shared = sum(a == b for a, b in zip(first.texts, again.texts, strict=True))
    assert shared >= 4, "sample i has the seed 7 + i, whichever request it comes with"


def test_a_call_that_is_overdue_is_aborted(offline, steps):
    late = dataclasses.replace(offline, timeout_s=1.0, retries=0, extra='{"ignore_eos": true}')
    (made,) = late.generate([user("Count.")], n=2, max_tokens=1900)
    assert made.failure == "timeout"
    (run,) = {llm._own_gate._opened()._engine.held()._run for llm in (offline, late)}
    ends_at = time.monotonic() + 20.0
    while run._llm.llm_engine.has_unfinished_requests():
        assert time.monotonic() < ends_at, "it goes on"
        time.sleep(0.05)
    late.close()
    assert offline.generate([user("Say hello.")], max_tokens=4)[0].failure is None


def test_what_is_refused_costs_itself_alone(offline):
    short, long = offline.generate([user("Say hello."), user("word " * 3000)], max_tokens=8)
    assert short.failure is None
    assert long.failure == "prompt too long"


def test_many_threads_each_get_their_own_answer(offline):
    def call(number: int) -> str:
        name = f"caller {number}"
        (made,) = offline.generate([user(f"I am {name}.")], choices=(name,), max_tokens=16)
        return made.texts[0]

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(call, range(50))) == [f"caller {n}" for n in range(50)]


def test_passages_are_judged(offline, bm25):
    pipeline = bm25 >> Pointwise(offline, depth=3, passage_tokens=60)
    pipeline.check()
    with metered() as meter:
        run = pipeline(["when does water boil"])
    assert meter.notes == {}
    assert all(0 < score < 1 for score in run.scores.tolist())


def test_llms_share_it_and_the_last_to_close_gives_the_memory_back(offline):
    assert offline.generate([user("Say hello.")], max_tokens=4)[0].failure is None
    (core,) = _cores()
    other = dataclasses.replace(offline, extra='{"min_p": 0.1}')
    assert other.generate([user("Say hello.")], max_tokens=4)[0].failure is None
    offline.close()
    assert _cores() == [core]
    other.close()
    ends_at = time.monotonic() + 10.0  # vLLM does not wait for a core that it had to kill
    while _cores():
        assert time.monotonic() < ends_at, "the core holds the memory"
        time.sleep(0.05)
    assert offline.generate([user("Say hello.")], max_tokens=4)[0].failure is None
    assert len(_cores()) == 1
    assert not any(name.startswith("VLLM_CPU_KVCACHE") for name in os.environ)


def _cores() -> list[int]:
    return [child.pid for child in active_children() if child.name.startswith("EngineCore")]


PROGRAM = """
import signal, sys, time
from limbeck.llm.model import LLM
from limbeck.llm.serving.engine import Engine
from multiprocessing import active_children
from tests.llm.conftest import user

if __name__ == "__main__":
    engine = Engine(dtype="bfloat16", enforce_eager=True, cpu_kv_cache_gib=1, max_num_seqs=8)
    llm = LLM("vllm-offline:" + sys.argv[1], engine=engine, context_length=512)
    llm.generate([user("Say hello.")], max_tokens=2)
    print("core", *(child.pid for child in active_children()), flush=True)
    time.sleep(600)
"""


def test_a_program_that_is_killed_leaves_no_engine(folder, tmp_path):
    """vLLM's core went on without it, and held the memory of the model."""
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        told = next(line for line in program.stdout if line.startswith("core"))
        program.send_signal(signal.SIGKILL)
    core = Path("/proc") / told.split()[1]
    ends_at = time.monotonic() + 20.0
    while core.exists():
        assert time.monotonic() < ends_at, "it goes on"
        time.sleep(0.2)
