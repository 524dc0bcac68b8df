"""How calls from many threads meet one engine, with a stand-in for vLLM; the real one is among the
servers' tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from limbeck.errors import LLMError, MissingExtraError
from limbeck.llm import vllm_engine
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed, Request
from limbeck.llm.serving.engine import Engine
from limbeck.llm.shared import Lease
from limbeck.llm.vllm_offline import Loading, VLLMOffline
from tests.llm.conftest import user


@dataclass
class Said:
    index: int
    text: str
    token_ids: tuple[int, ...] = (1, 2)
    finish_reason: str = "stop"
    logprobs: object = None


@dataclass
class Output:
    request_id: str
    outputs: list[Said]
    prompt_token_ids: tuple[int, ...] = (1, 2, 3)
    finished: bool = True
    prompt_logprobs: object = None


@dataclass
class Engines:
    """What the stand-in was given, and what it is told to do.

    Attributes:
        loaded: the parameters of each engine.
        variables: the environment as each one read it.
        sizes: requests in the queue at each step.
        aborted: the texts of requests that were aborted.
        ended: engines that gave back their memory.
        first_step_s: how long the first step takes.
        before_step: what is done before each step; it may take long, raise, or say "still at it":
            the step completes nothing.
        logprobs: what is told of each completion's two tokens.
    """

    loaded: list[dict] = field(default_factory=list)
    variables: list[dict] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    given: list[dict] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    ended: int = 0
    die_at: int | None = None
    first_step_s: float = 0.0
    before_step: Callable[[], object] = lambda: None
    before_load: Callable[[], object] = lambda: None
    finish: str = "stop"
    logprobs: object = None
    threads: set[str] = field(default_factory=set)


class EngineDeadError(Exception):
    """As vLLM's."""


class FakeLLM:
    """An engine whose every step completes one request."""

    def __init__(self, engines: Engines, **given):
        engines.before_load()
        engines.loaded.append(given)
        engines.variables.append(dict(os.environ))
        self._engines = engines
        self.llm_engine = self.engine_core = self
        self._waiting: dict[str, tuple[str, FakeParams]] = {}
        self._dead = False

    def get_tokenizer(self):
        return self

    def apply_chat_template(self, messages, *, chat_template=None, word="", **_):
        return (chat_template or "") + word + messages[-1]["content"]

    def encode(self, text, **_):
        return [ord(letter) for letter in text]

    def add_request(self, number, prompt, params):
        self._engines.threads.add(threading.current_thread().name)
        if self._dead:
            raise EngineDeadError("EngineCore encountered an issue")
        if len(prompt["prompt_token_ids"]) > 100:
            raise RuntimeError("maximum context length is 100 tokens")
        text = "".join(map(chr, prompt["prompt_token_ids"]))
        self._dead = text == "kill"
        self._engines.given.append(params.given)
        self._waiting[number] = (text, params)

    def abort_request(self, numbers):
        known = [self._waiting.pop(number) for number in numbers if number in self._waiting]
        self._engines.aborted += [text for text, _ in known]

    def shutdown(self):
        self._engines.ended += 1

    def step(self):
        engines = self._engines
        time.sleep(0.0 if engines.sizes else engines.first_step_s)
        engines.sizes.append(len(self._waiting))
        if engines.before_step() == "still at it":
            return []
        if engines.die_at is not None and len(engines.sizes) >= engines.die_at:
            engines.die_at = None
            raise RuntimeError("the engine core is dead")
        number, (text, params) = next(iter(self._waiting.items()))
        del self._waiting[number]
        n = params.given.get("n", 1)
        said = [
            Said(i, f"{text}!{i}", finish_reason=engines.finish, logprobs=engines.logprobs)
            for i in reversed(range(n))
        ]
        return [Output(number, said)]


class FakeParams:
    def __init__(self, **given):
        if given.get("min_p", 0) > 1:
            raise ValueError("min_p must be in [0, 1]")
        self.given = given


def stand_in(engines: Engines) -> dict[str, types.ModuleType]:
    """Return the modules that stand in for vLLM's."""
    module, parameters = types.ModuleType("vllm"), types.ModuleType("vllm.sampling_params")
    module.LLM, module.SamplingParams = partial(FakeLLM, engines), FakeParams
    parameters.RequestOutputKind = types.SimpleNamespace(FINAL_ONLY=2)
    parameters.StructuredOutputsParams = dict
    return {"vllm": module, "vllm.sampling_params": parameters}


@pytest.fixture
def engines(monkeypatch):
    made = Engines()
    for name, module in stand_in(made).items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def offline():
    made: list[LLM] = []

    def make(**fields) -> LLM:
        made.append(LLM("vllm-offline:m", **fields))
        return made[-1]

    yield make
    for llm in made:
        llm.close()


def test_all_calls_of_a_stage_wait_in_one_queue(engines, offline):
    """One generate of the whole stage: the engine sees all of it, and loads the model once."""
    llm = offline(context_length=99, engine=Engine(dtype="bfloat16"))
    prompts = [user(f"p{n}") for n in range(200)]
    engines.first_step_s = 1.0
    made = llm.generate(prompts, n=3)
    assert [g.texts for g in made] == [tuple(f"p{n}!{i}" for i in range(3)) for n in range(200)]
    assert max(engines.sizes) > 100
    (given,) = engines.loaded
    assert (given["max_model_len"], given["dtype"], given["generation_config"]) == (
        99,
        "bfloat16",
        "vllm",
    )
    assert engines.threads == {"limbeck-vllm"}, "one thread owns the engine"


def test_what_is_refused_costs_itself_alone(engines, offline):
    good, long = offline().generate([user("a"), user("b" * 200)])
    assert (good.texts, long.failure) == (("a!0",), "prompt too long")


def test_an_engine_that_dies_is_told_to_all_who_wait_and_is_loaded_anew(engines, offline):
    llm = offline()
    engines.die_at = 5
    with pytest.raises(LLMError, match="the engine core is dead"):
        llm.generate([user(f"p{n}") for n in range(50)])
    (made,) = llm.generate([user("again")])
    assert made.texts == ("again!0",)
    assert len(engines.loaded) == 2


def test_many_callers_share_it_and_it_can_be_closed_and_used_again(engines, offline):
    llm = offline()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda n: llm.generate([user(f"c{n}")])[0].texts[0], range(64)))
    assert made == [f"c{n}!0" for n in range(64)]
    llm.close()
    assert llm.generate([user("x")])[0].texts == ("x!0",)
    assert len(engines.loaded) == 2


def test_a_stream_is_one_piece(engines, offline):
    assert list(offline().stream(user("a"))) == ["a!0"]


def test_without_vllm_it_says_what_to_install(monkeypatch, offline):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"limbeck\[vllm\]"):
        offline().generate([user("a")])


def test_a_parameter_that_vllm_does_not_know_is_an_error(engines, offline):
    """Before, each prompt failed by itself, and an evaluation ended with numbers of nothing."""
    with pytest.raises(LLMError, match=r"got more_nonsense, nonsense; leave it out"):
        offline(extra='{"nonsense": 1, "more_nonsense": 2, "min_p": 0.1}').generate([user("a")])
    assert engines.loaded == [], "it is told before a model is loaded"


def test_a_parameter_that_vllm_refuses_is_an_error(engines, offline):
    """Before, each prompt failed by itself, with a note."""
    with pytest.raises(LLMError, match=r"min_p must be in \[0, 1\]"):
        offline(extra='{"min_p": 2}').generate([user(f"p{n}") for n in range(4)])
    with pytest.raises(LLMError, match="drop or mend the parameter"):
        offline(extra='{"chat_template_kwargs": 3}').generate([user("a")])


def test_a_prompt_that_is_refused_after_another_was_answered_costs_itself_alone(engines, offline):
    """As with a server: the same parameters were answered, so it is the prompt."""
    llm = offline()
    assert llm.generate([user("a")])[0].failure is None
    engines.before_step = lambda: None
    refuse, FakeLLM.encode = FakeLLM.encode, lambda self, text, **_: [None] if text == "b" else [97]
    try:
        bad, good = llm.generate([user("b"), user("c")])
    finally:
        FakeLLM.encode = refuse
    assert (bad.failure, good.failure) == ("http 400", None)


def test_extra_holds_what_the_server_takes(engines, offline):
    """Before, structured outputs went to vLLM as a dict, which it does not take."""
    extra = """{"structured_outputs": {"regex": "[ab]"}, "top_k": 5, "min_p": 0.1,
        "logit_bias": {"17": 2}, "repetition_penalty": null,
        "chat_template": "T", "chat_template_kwargs": {"word": "W"}}"""
    (made,) = offline(extra=extra).generate([user("a")])
    assert made.texts == ("TWa!0",)
    (given,) = engines.given
    expected = {"structured_outputs": {"regex": "[ab]"}, "logit_bias": {17: 2.0}, "top_k": 5}
    assert expected.items() <= given.items()
    assert given["min_p"] == 0.1
    assert given.keys().isdisjoint({"repetition_penalty", "chat_template"})
    offline(extra=extra).generate([user("a")], choices=("x", "y"))
    assert engines.given[-1]["structured_outputs"] == {"choice": ["x", "y"]}


def test_a_call_ends_in_time(engines, offline):
    """Before, timeout_s was ignored."""
    engines.before_step = lambda: time.sleep(2.0)
    llm = offline(timeout_s=0.2, retries=0)
    began = time.monotonic()
    late, other = llm.generate([user("late"), user("other")])
    assert time.monotonic() - began < 1.5
    assert (late.failure, other.failure) == ("timeout", "timeout")


def test_a_call_that_is_overdue_is_aborted(engines, offline):
    def step():
        time.sleep(0.02)
        return "still at it"

    engines.before_step = step
    llm = offline(timeout_s=0.3, retries=0)
    late, other = llm.generate([user("late"), user("other")])
    assert (late.failure, other.failure) == ("timeout", "timeout")
    _wait_until(lambda: set(engines.aborted) == {"late", "other"}, "they go on")
    engines.before_step = lambda: None
    assert llm.generate([user("again")])[0].texts == ("again!0",)
    assert len(engines.loaded) == 1


def test_loading_takes_no_time_of_a_call_and_waiting_has_no_end_unless_given(engines, offline):
    engines.before_load = lambda: time.sleep(0.5)
    assert offline(timeout_s=0.3).generate([user("a")])[0].texts == ("a!0",)
    backend = offline()._own_gate._opened()
    assert backend._timeout_s is None


def test_an_engine_that_hangs_is_given_up(engines, offline, monkeypatch):
    """Before, a step that never returned held all callers for ever, and so did close."""
    monkeypatch.setattr(vllm_engine, "_SILENT_S", 0.5)
    monkeypatch.setattr(vllm_engine, "_GRACE_S", 0.5)
    hung = threading.Event()
    engines.before_step = hung.wait
    llm = offline()
    with pytest.raises(LLMError, match=r"nothing came of it for 0.5 s"):
        llm.generate([user(f"p{n}") for n in range(20)])
    assert engines.ended == 1, "its memory is given back"
    engines.before_step = lambda: None
    assert llm.generate([user("again")])[0].texts == ("again!0",)
    engines.before_step = hung.wait
    waiting = _Calling(llm, "hangs")
    began = time.monotonic()
    llm.close()
    assert time.monotonic() - began < 3.0
    assert waiting.ended().failure == "closed"
    hung.set()


def test_what_is_under_way_when_it_is_closed_is_told_so(engines, offline):
    """Before, close waited for all that was under way, after Ctrl-C too."""
    go = threading.Event()
    engines.before_step = lambda: go.wait(20.0)
    llm = offline()
    waiting = [_Calling(llm, f"p{n}") for n in range(5)]
    closing = threading.Thread(target=llm.close)
    closing.start()
    assert {calling.ended().failure for calling in waiting} == {"closed"}
    go.set()
    closing.join(10.0)
    assert engines.ended == 1
    assert llm.generate([user("again")])[0].texts == ("again!0",)


def test_a_call_that_has_its_engine_closed_before_it_asks_is_served(engines, offline, monkeypatch):
    """Before, a close between a call's taking the queue and its putting into it lost the call."""
    held = Lease.held
    there, go = threading.Event(), threading.Event()

    def slowly(lease):
        engine = held(lease)
        there.set()
        go.wait(20.0)
        return engine

    llm = offline()
    assert llm.generate([user("a")])[0].texts == ("a!0",)
    monkeypatch.setattr(Lease, "held", slowly)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(llm.generate, [user("b")])
        assert there.wait(20.0)
        llm._own_gate._opened()._asked.clear()  # so that close alone does not end it
        llm.close()
        go.set()
        (made,) = call.result(20.0)
    assert made.texts == ("b!0",)
    assert len(engines.loaded) == 2


def test_no_call_is_lost_when_it_is_closed_meanwhile(engines):
    """Whatever comes between: each call is answered or told that it was closed."""
    loading = Loading("m", Engine())
    backend = VLLMOffline(loading, timeout_s=None)
    ended: list[str] = []

    def call(thread: int) -> None:
        for number in range(30):
            try:
                text = f"{thread} {number}"
                made = backend.complete(Request("m", user(text), 1), 0, 1, None)
                ended.append(made.completions[0].text)
            except Failed as error:
                ended.append(error.reason)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        callers = [threading.Thread(target=call, args=(n,), daemon=True) for n in range(8)]
        for caller in callers:
            caller.start()
        ends_at = time.monotonic() + 60.0
        while any(caller.is_alive() for caller in callers) and time.monotonic() < ends_at:
            backend.close()
    finally:
        sys.setswitchinterval(interval)
        backend.close()
    assert len(ended) == 8 * 30
    assert {text for text in ended if "!" not in text} <= {"closed"}


def test_no_call_is_lost_when_the_engine_dies(engines, offline):
    """Whatever comes between: each call is answered, or told, or loads another."""
    llm = offline()
    ends_at = time.monotonic() + 2.0

    def call(thread: int) -> int:
        number = 0
        while time.monotonic() < ends_at:
            number += 1
            try:
                (made,) = llm.generate([user(f"{thread} {number}")])
                assert made.texts == (f"{thread} {number}!0",)
            except LLMError:
                pass
        return number

    def die() -> None:
        while time.monotonic() < ends_at:
            engines.die_at = 0
            time.sleep(0.01)

    with ThreadPoolExecutor(9) as pool:
        pool.submit(die)
        assert all(number > 0 for number in pool.map(call, range(8)))
    assert len(engines.loaded) > 2


def test_an_engine_that_is_dead_when_a_call_comes_is_no_refusal(engines, offline):
    """Before, its error was taken for a refusal of each prompt, and no other was loaded."""
    llm = offline()
    llm.generate([user("kill")])
    with pytest.raises(LLMError, match="it ended: EngineCore encountered an issue"):
        llm.generate([user("next")])
    assert llm.generate([user("again")])[0].texts == ("again!0",)


def test_llms_of_one_model_share_it(engines, offline):
    """Before, the second one loaded the model again, for which no GPU has room."""
    one, two, other = offline(), offline(extra='{"min_p": 0.1}'), offline(context_length=99)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda llm: llm.generate([user("a")])[0].texts, (one, two, other)))
    assert made == [("a!0",)] * 3
    assert len(engines.loaded) == 2, "another context is another engine"
    one.close()
    assert engines.ended == 0
    assert two.generate([user("b")])[0].texts == ("b!0",)
    two.close()
    two.close()
    assert (engines.ended, len(engines.loaded)) == (1, 2)
    assert one.generate([user("c")])[0].texts == ("c!0",)
    assert len(engines.loaded) == 3


def test_one_that_is_closed_leaves_the_calls_of_another_alone(engines, offline):
    go = threading.Event()
    engines.before_step = lambda: go.wait(20.0)
    one, two = offline(), offline(extra='{"min_p": 0.1}')
    mine, theirs = _Calling(one, "mine"), _Calling(two, "theirs")
    one.close()
    assert mine.ended().failure == "closed"
    go.set()
    assert theirs.ended().texts == ("theirs!0",)


def test_variables_are_set_while_an_engine_is_loaded_alone(engines, offline, monkeypatch):
    """Before, an engine that did not ask for it was batch invariant after one that did."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    monkeypatch.delenv("VLLM_BATCH_INVARIANT", raising=False)
    before = dict(os.environ)
    first = offline(engine=Engine(batch_invariant=True, cpu_kv_cache_gib=2))
    first.generate([user("a")])
    offline(context_length=50).generate([user("b")])
    invariant, plain = engines.variables
    assert (invariant["VLLM_BATCH_INVARIANT"], invariant["VLLM_CPU_KVCACHE_SPACE"]) == ("1", "2")
    assert "VLLM_BATCH_INVARIANT" not in plain
    assert plain["VLLM_CPU_KVCACHE_SPACE"] == "7"
    assert plain["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"
    assert dict(os.environ) == before


def test_a_token_that_is_not_told_ends_nothing(engines, offline):
    """Before, it ended the engine: the error was raised where all answers are handed over."""
    told = types.SimpleNamespace
    top = {7: told(decoded_token="x", logprob=-0.1), 8: told(decoded_token="y", logprob=-0.2)}
    never = {1: told(decoded_token="a", logprob=float("-inf"))}
    engines.logprobs = [{**top, **never}, top]
    (made,) = offline().generate([user("a")], top_logprobs=2)
    first, second = made.logprobs[0]
    assert (first.text, first.logprob, first.top) == ("a", -9999.0, (("x", -0.1), ("y", -0.2)))
    assert (second.logprob, second.top) == (-9999.0, first.top)


def test_an_output_that_is_no_answer_costs_itself_alone(engines, offline):
    llm = offline(retries=0)
    engines.finish = "error"
    assert llm.generate([user("a")])[0].failure == "vLLM ended it: error"
    engines.finish, engines.logprobs = "stop", [None]
    assert llm.generate([user("b")], top_logprobs=1)[0].failure == "nonsense answer"
    engines.logprobs = None
    assert llm.generate([user("c")])[0].texts == ("c!0",)
    assert len(engines.loaded) == 1


def test_sample_numbers_and_seeds_go_together(engines, offline):
    (made,) = offline(samples_per_call=2).generate([user("a")], n=4, seed=10)
    assert len(made.texts) == 4
    assert sorted((g["seed"], g["n"]) for g in engines.given) == [(10, 2), (12, 2)]


@pytest.mark.parametrize("n_calls", [1, 8])
def test_an_interrupted_program_ends_at_once(n_calls, tmp_path):
    """Before, Python waited for the calls under way, for ever where the engine hung."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys, threading
        from functools import partial
        from tests.llm.test_vllm_offline import Engines, FakeLLM, stand_in
        from tests.llm.conftest import user
        from limbeck.llm.model import LLM

        engines = Engines()
        def hang():
            print("under way", flush=True)
            threading.Event().wait()
        engines.before_step = hang
        sys.modules.update(stand_in(engines))
        LLM("vllm-offline:m").generate([user(f"p{{n}}") for n in range({n_calls})])
        """)
    )
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *sys.path])}
    with subprocess.Popen(
        [sys.executable, str(program)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        try:
            assert running.stdout.readline() == b"under way\n"
            time.sleep(0.3)
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=20.0)
        finally:
            running.kill()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")


def test_an_interrupted_call_is_aborted(engines, offline):
    """Before, it went on in the engine, and nobody took its answer."""
    interrupted = threading.Event()

    def step():
        if not interrupted.is_set():
            interrupted.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.02)
        return "still at it"

    engines.before_step = step
    llm = offline()
    with pytest.raises(KeyboardInterrupt):
        llm.generate([user("mine")])
    _wait_until(lambda: engines.aborted == ["mine"], "it goes on")
    engines.before_step = lambda: None
    assert llm.generate([user("other")])[0].texts == ("other!0",)


class _Calling:
    """A call in a thread, which has begun to wait; it leaves its outcome."""

    def __init__(self, llm: LLM, text: str) -> None:
        self._outcome: list[object] = []
        self._thread = threading.Thread(target=self._call, args=(llm, text), daemon=True)
        backend = llm._own_gate._opened()
        before = set(backend._asked)
        self._thread.start()
        engine = backend._engine.held()

        def waits() -> bool:
            taken = {**engine._run._new, **engine._run._under_way} if engine._run else {}
            return any(one.number in taken for one in set(backend._asked) - before)

        _wait_until(waits, "it was not asked")

    def _call(self, llm: LLM, text: str) -> None:
        try:
            self._outcome.append(llm.generate([user(text)])[0])
        except LLMError as error:
            self._outcome.append(error)

    def ended(self):
        self._thread.join(20.0)
        assert not self._thread.is_alive(), "it waits for ever"
        return self._outcome[0]


def _wait_until(holds: Callable[[], bool], complaint: str) -> None:
    ends_at = time.monotonic() + 20.0
    while not holds():
        assert time.monotonic() < ends_at, complaint
        time.sleep(0.01)
