"""The whole gate: what nodes and users see of it."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limbeck.errors import CassetteError, UsageError
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed
from limbeck.meter import Usage, metered
from limbeck.progress import listening
from limbeck.types import Message
from tests.llm.conftest import user
from tests.llm.server import Answer, chat

ROOT = Path(__file__).parents[2]


def _scripted(script=None, **fields) -> LLM:
    llm = LLM.scripted(script or (lambda messages, index: f"{messages[-1].content} {index}"))
    return dataclasses.replace(llm, **{"first_wait_s": 0.01, **fields})


def test_one_generation_a_prompt_in_order():
    generations = _scripted().generate([user("a"), user("b")], n=3)
    assert [g.texts for g in generations] == [("a 0", "a 1", "a 2"), ("b 0", "b 1", "b 2")]
    assert all(g.failure is None for g in generations)
    assert [s.finish for s in generations[0].samples] == ["stop"] * 3


def test_no_prompts():
    assert _scripted().generate([]) == []


def test_replies_as_data():
    llm = LLM("scripted:", replies=("x", "y"))
    assert [g.texts for g in llm.generate([user("a"), user("b")], n=3)] == [("x", "y", "x")] * 2


@pytest.mark.parametrize(
    ("prompts", "fields", "told"),
    [
        ([user("a")], {"n": 0}, "n must be 1 or more"),
        ([user("a")], {"max_tokens": 0}, r"max_tokens must lie in \[1, inf\]; got 0"),
        ([user("a")], {"temperature": -1}, "temperature must lie in"),
        ([user("a")], {"temperature": float("nan")}, "temperature must lie in"),
        ([user("a")], {"top_p": 1.5}, r"top_p must lie in \[0, 1\]; got 1.5"),
        ([()], {}, "sequence of messages"),
        (["text"], {}, "sequence of messages"),
        ([Message("user", "a")], {}, "sequence of messages"),
        ([[Message("robot", "a")]], {}, "role of assistant, developer, system, user"),
        ([[Message("user", None)]], {}, "got 'user' and NoneType"),
        ([user("a")], {"top_logprobs": 1}, "must support logprobs .* add it to supports"),
        ([user("a")], {"schema": {}}, "must support json_schema"),
    ],
)
def test_arguments_that_cannot_mean_anything(prompts, fields, told):
    with pytest.raises(UsageError, match=told):
        _scripted().generate(prompts, **fields)


def test_equal_prompts_are_sent_once_and_the_others_are_saved():
    asked: list[str] = []

    def script(messages, index):
        asked.append(messages[0].content)
        return "one two"

    with metered() as meter:
        generations = _scripted(script).generate([user("a"), user("b"), user("a"), user("a")])
    assert sorted(asked) == ["a", "b"]
    assert len({g.texts for g in generations}) == 1
    assert (meter.usage.calls, meter.usage.saved_calls) == (2, 2)
    assert meter.usage.saved_completion_tokens == meter.usage.completion_tokens


def test_fifty_callers_with_one_prompt_are_one_request(ask):
    llm, server = ask(lambda body, n: Answer(body=chat("a").body, delay_s=0.3), concurrency=50)
    ready = threading.Barrier(50)

    def caller(_):
        ready.wait()
        return llm.generate([user("same")], temperature=1.0)[0].texts

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(caller, range(50))) == [("a",)] * 50
    assert len(server.asked) == 1


def test_concurrency_is_bounded_over_all_callers(ask):
    llm, server = ask(lambda body, n: Answer(body=chat("a").body, delay_s=0.03), concurrency=4)

    def caller(side: str):
        return llm.generate([user(f"{side} {n}") for n in range(10)])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(caller, "abc"))
    assert len(server.asked) == 30
    assert 2 <= server.most_at_once <= 4


def test_requests_per_minute(ask):
    llm, server = ask(lambda body, n: chat("a"), requests_per_minute=600)
    started = time.monotonic()
    llm.generate([user(str(n)) for n in range(5)])
    assert time.monotonic() - started >= 4 * 0.1
    assert len(server.asked) == 5


def test_inside_a_running_loop_and_twice_in_one_process():
    llm = _scripted()

    async def main():
        return llm.generate([user("a"), user("b")])

    for _ in range(2):
        assert [g.texts for g in asyncio.run(main())] == [("a 0",), ("b 0",)]


def test_a_ticking_coroutine_keeps_its_period_while_a_slow_model_works():
    """Known defect 3: calls from a worker thread, as `Node.arun` makes them, free the loop."""
    llm = _scripted(lambda messages, index: time.sleep(0.4) or "late")

    async def main():
        late: list[float] = []
        done = asyncio.create_task(asyncio.to_thread(llm.generate, [user("a"), user("b")]))
        while not done.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - before - 0.01)
        return late, await done

    late, generations = asyncio.run(main())
    assert [g.texts for g in generations] == [("late",)] * 2
    assert len(late) > 5
    assert sorted(late)[len(late) // 2] < 0.05


def test_a_call_that_fails_costs_itself_alone_and_is_noted():
    def script(messages, index):
        if messages[0].content == "bad" and index != 1:
            raise Failed("http 500")
        return f"{messages[0].content} {index}"

    # one sample a call, so that a failure is of one sample
    llm = _scripted(script, samples_per_call=1, retries=1)
    with metered() as meter:
        good, bad = llm.generate([user("good"), user("bad")], n=3, label="mugi")
    assert good.texts == ("good 0", "good 1", "good 2")
    assert (bad.texts, bad.failure) == (("bad 1",), "http 500")
    assert meter.notes == {"mugi: LLM call failed (http 500)": 1}


def test_a_slow_script_times_out():
    llm = _scripted(lambda messages, index: time.sleep(0.5) or "x", timeout_s=0.05, retries=0)
    assert llm.generate([user("a")])[0].failure == "timeout"


def test_a_budget_that_is_used_up_gives_the_best_so_far_and_a_note():
    llm = _scripted(max_calls=2, concurrency=1)
    with metered() as meter:
        generations = llm.generate([user(c) for c in "abcd"], label="hyde")
    assert [g.failure for g in generations] == [None, None, "budget", "budget"]
    assert generations[0].texts == ("a 0",)
    assert meter.notes == {"hyde: LLM call failed (budget)": 2}
    assert meter.usage.calls == 2
    llm.close()
    assert llm.generate([user("e")])[0].failure == "budget", "closing gives no budget back"


def test_the_budget_holds_under_concurrency():
    llm = _scripted(lambda m, i: time.sleep(0.01) or "x", max_calls=5, concurrency=8)
    generations = llm.generate([user(str(n)) for n in range(30)])
    assert sum(g.failure is None for g in generations) == 5


def test_a_budget_in_dollars():
    price = (0.0, 1e6)  # a dollar a completion token
    llm = _scripted(lambda m, i: "one", price=price, max_usd=12.0, concurrency=1)
    with metered() as meter:
        generations = llm.generate([user(c) for c in "abcd"], max_tokens=10)
    assert [g.failure for g in generations] == [None, None, None, "budget"]
    assert meter.usage.usd == 3.0


def test_hits_cost_no_budget(tmp_path):
    first = _scripted(cassette=tmp_path / "x")
    first.generate([user("a")])
    first.close()
    again = _scripted(cassette=tmp_path / "x", max_calls=0)
    assert again.generate([user("a")])[0].texts == ("a 0",)


def _counting(asked: list[int]):
    def script(messages, index):
        asked.append(index)
        return f"sample {index}"

    return script


def test_recorded_samples_are_distinct_ordered_and_extended(tmp_path):
    """Known defects 10 and 12."""
    asked: list[int] = []
    llm = _scripted(_counting(asked), cassette=tmp_path / "x", price=(1.0, 1.0))
    with metered() as paid:
        first = llm.generate([user("a")], n=5, temperature=1.0)
    llm.close()
    again = _scripted(_counting(asked), cassette=tmp_path / "x", price=(1.0, 1.0))
    with metered() as hit:
        replayed = again.generate([user("a")], n=5, temperature=1.0)
    assert replayed == first
    assert replayed[0].texts == tuple(f"sample {i}" for i in range(5))
    assert asked == [0, 1, 2, 3, 4]
    assert hit.usage == Usage(
        saved_calls=paid.usage.calls,
        saved_prompt_tokens=paid.usage.prompt_tokens,
        saved_completion_tokens=paid.usage.completion_tokens,
        saved_usd=paid.usage.usd,
    )
    again.generate([user("a")], n=8, temperature=1.0)
    assert asked == [0, 1, 2, 3, 4, 5, 6, 7]
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": None},
        {"max_tokens": 99},
        {"top_p": 0.5},
        {"seed": 1},
        {"stop": ("x",)},
    ],
)
def test_other_parameters_are_other_entries(tmp_path, change):
    """Known defects 11 and 13: temperature 0 is neither unset nor another temperature."""
    asked: list[int] = []
    llm = _scripted(_counting(asked), cassette=tmp_path / "x")
    base = {"temperature": 1.0, "max_tokens": 10}
    llm.generate([user("a")], **base)
    llm.generate([user("a")], **{**base, **change})
    assert asked == [0, 0]
    llm.generate([user("a")], **{**base, **change})
    assert asked == [0, 0]
    llm.close()


def test_another_revision_is_another_entry(tmp_path):
    asked: list[int] = []
    for revision in ("one", "two", "one"):
        llm = _scripted(_counting(asked), cassette=tmp_path / "x", revision=revision)
        llm.generate([user("a")])
        llm.close()
    assert asked == [0, 0]


def test_replay_needs_no_backend_and_misses_are_failures(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    tape = tmp_path / "x"
    recorder = LLM("scripted:m", replies=("a",), cassette=tape)
    recorder.generate([user("a")])
    recorder.close()
    text = (tmp_path / "x.jsonl").read_text()
    assert '"model": "scripted:m"' in text
    replay = LLM("scripted:m", cassette=tape, cassette_mode="replay")
    with metered() as meter:
        hit, miss = replay.generate([user("a"), user("b")], label="hyde")
    assert hit.texts == ("a",)
    assert (miss.texts, miss.failure) == ((), "not in the cassette")
    assert meter.notes == {"hyde: LLM call failed (not in the cassette)": 1}
    assert meter.usage.calls == 0
    assert (tmp_path / "x.jsonl").read_text() == text


def test_strict_misses_are_errors(tmp_path):
    """Known defect 14."""
    recorder = LLM("scripted:m", replies=("a",), cassette=tmp_path / "x")
    recorder.generate([user("what is water")])
    recorder.close()
    strict = LLM("scripted:m", cassette=tmp_path / "x", cassette_mode="strict")
    assert strict.generate([user("what is water")])[0].texts == ("a",)
    with pytest.raises(CassetteError, match=r"(?s)-user: what is water.*\+user: what is fire"):
        strict.generate([user("what is fire")])


def test_record_calls_always(tmp_path):
    asked: list[int] = []
    llm = _scripted(_counting(asked), cassette=tmp_path / "x", cassette_mode="record")
    for _ in range(2):
        llm.generate([user("a")])
    llm.close()
    assert asked == [0, 0]


def test_off_leaves_the_cassette_alone(tmp_path):
    llm = _scripted(cassette=tmp_path / "x", cassette_mode="off")
    llm.generate([user("a")])
    llm.close()
    assert not list(tmp_path.iterdir())


def test_two_llms_share_a_cassette(tmp_path):
    one, two = (_scripted(cassette=tmp_path / "x", revision=r) for r in "ab")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda llm: [llm.generate([user(str(n))]) for n in range(20)], (one, two)))
    one.close()
    two.close()
    for revision in "ab":
        again = _scripted(cassette=tmp_path / "x", revision=revision, cassette_mode="strict")
        assert len(again.generate([user(str(n)) for n in range(20)])) == 20


def test_meters_see_what_workers_do_and_progress_is_told():
    told: list[tuple[str, int, int]] = []
    with metered() as outer, metered() as inner, listening(lambda *what: told.append(what)):
        _scripted().generate([user(str(n)) for n in range(7)], label="x")
    assert outer.usage == inner.usage
    assert inner.usage.calls == 7
    assert told[-1] == ("x", 7, 7, "")


def test_two_llms_with_equal_fields_have_gates_of_their_own():
    one = _scripted(max_calls=1)
    other = dataclasses.replace(one)
    assert one == other
    assert one.generate([user("a")])[0].failure is None
    assert other.generate([user("a")])[0].failure is None
    assert one.generate([user("b")])[0].failure == "budget"


def test_close_may_be_called_at_any_time_and_calls_open_again(ask):
    llm, server = ask(lambda body, n: chat("a"))
    llm.close()
    for _ in range(2):
        llm.generate([user("x")])
        llm.close()
        llm.close()
    assert len(server.asked) == 2


def test_the_tokenizer_is_the_fallback_or_what_is_named(tmp_path):
    from limbeck.llm.tokenizer import FALLBACK

    assert LLM("openai:m").tokenizer is FALLBACK
    assert LLM("llamacpp:smollm2", tokenizer_from="pieces").tokenizer is FALLBACK


def test_importing_the_room_loads_nothing_heavy():
    """Known defect 24."""
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'openai', 'langchain_core', 'tenacity', 'tokenizers',\n"
        "                'xllamacpp', 'filelock', 'httpx', 'pydantic', 'torch', 'faiss',\n"
        "                'huggingface_hub'}:\n"
        "            raise AssertionError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import pkgutil, importlib, limbeck.llm\n"
        "for module in pkgutil.iter_modules(limbeck.llm.__path__):\n"
        "    importlib.import_module(f'limbeck.llm.{module.name}')\n"
        "from limbeck.llm.model import LLM\n"
        "llm = LLM('openai:m', base_url='http://127.0.0.1:1/v1', cassette='x')\n"
        "llm.problems(), llm.fingerprint, llm.capabilities, llm.tokenizer.cut('a b', 1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
