"""What a server can is found by asking it: an ability counts where the answer shows it."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import closing

import pytest

from limbeck import BM25, Pointwise, cli
from limbeck.errors import LLMError, UsageError
from limbeck.llm.model import LLM, _known
from limbeck.llm.settings import Settings
from limbeck.meter import metered
from limbeck.types import Message
from tests.llm.server import Answer, Server, chat

MODELS = {"data": [{"id": "fake", "owned_by": "vllm", "root": "fake", "max_model_len": 300}]}


_HELLO = (Message("user", "Hello."),)


def _able(body: dict, number: int, *, most: int = 5) -> Answer:
    """Answer as a server that can do everything, and tells so many alternatives at most."""
    n = body.get("n", 1)
    if "structured_outputs" in body:
        return chat(body["structured_outputs"]["choice"][0])
    if "response_format" in body:
        return chat('{"animal": "quagga"}')
    answer = chat(*["hello"] * n)
    if body.get("logprobs"):
        if body["top_logprobs"] > most:
            return Answer(400, {"error": {"message": f"greater than max allowed: {most}"}})
        top = [{"token": str(i), "logprob": -1.0 - i} for i in range(body["top_logprobs"])]
        token = {"token": "0", "logprob": -1.0, "top_logprobs": top}
        for choice in answer.body["choices"]:
            choice["logprobs"] = {"content": [token]}
    if "prompt_logprobs" in body:
        told = {"1": {"decoded_token": "Hello there.", "logprob": -2.0}}
        answer.body["prompt_logprobs"] = [None, told]
    return answer


def _deaf(body: dict, number: int) -> Answer:
    """Answer as a server that ignores what it does not know, without a word."""
    return chat("hello")


@pytest.fixture
def probing(serve):
    def start(script, **fields) -> tuple[LLM, Server]:
        server = serve(script)
        server.beside = {"/v1/models": MODELS, "/version": {"version": "9.9"}}
        opened.append(LLM("vllm:fake", base_url=server.base_url, **fields))
        return opened[-1], server

    opened: list[LLM] = []
    yield start
    for llm in opened:
        llm.close()


def test_an_able_server_is_found_able(probing):
    llm, _ = probing(_able)
    found = llm.probe()
    assert found.itself.server == "vllm 9.9"
    assert (found.itself.context_length, found.max_top_logprobs, found.overhead_tokens) == (
        300,
        5,
        6,
    )
    assert found.supports == llm.family.supports
    assert not found.lacks
    assert llm.width > 1
    assert "vllm 9.9" in next(found.lines())


def test_what_a_server_ignores_it_does_not_support(probing):
    """vLLM ignores fields that it dropped: a free text would be taken for a choice."""
    llm, _ = probing(_deaf)
    found = llm.probe()
    assert found.supports == {"seed", "stream"}
    assert found.lacks == {"choices", "json_schema", "logprobs", "prompt_logprobs"}
    assert llm.capabilities == {"seed", "stream"}
    assert llm.width == 1


def test_the_check_goes_by_what_was_found(probing):
    llm, _ = probing(_deaf)
    pipeline = BM25() >> Pointwise(llm, passage_tokens=20, query_tokens=10)
    assert not pipeline.problems()
    llm.probe()
    messages = [problem.message for problem in pipeline.problems()]
    assert any("log-probabilities" in message for message in messages)
    long = BM25() >> Pointwise(llm, read="text", passage_tokens=400)
    assert any("holds 300" in problem.message for problem in long.problems())


def test_what_the_user_says_stands(probing):
    llm, _ = probing(_deaf, supports=("logprobs",), context_length=99, samples_per_call=3)
    llm.probe()
    assert (llm.capabilities, llm.room, llm.width) == ({"logprobs"}, 99, 3)


def test_a_known_server_is_not_asked_again_until_it_is_another(probing):
    llm, server = probing(_able)
    llm.probe()
    asked = len(server.asked)
    assert asked > 5
    with closing(LLM("vllm:fake", base_url=server.base_url)) as same:
        assert same.probe() == llm.probe()
    assert len(server.asked) == asked
    llm.probe(again=True)
    assert len(server.asked) == 2 * asked
    server.beside["/version"] = {"version": "10.0"}
    assert llm.probe().itself.server == "vllm 10.0"
    assert len(server.asked) == 3 * asked


def test_nothing_of_a_key_is_kept(probing, monkeypatch, tmp_path):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    monkeypatch.setenv("WHERE", "http://127.0.0.1")
    monkeypatch.setenv("VLLM_API_KEY", "planted-key")
    _, server = probing(_able)
    url = server.base_url.replace("http://127.0.0.1", "${env:WHERE}")
    llm = LLM("vllm:fake", base_url=url)
    found = llm.probe()
    llm.close()
    (kept,) = (tmp_path / "probes").iterdir()
    assert "planted" not in kept.read_text() + kept.name
    assert json.loads(kept.read_text())["found"]["base_url"] == url == found.base_url


def test_a_password_in_the_sdk_s_own_variable_is_not_shown(serve, monkeypatch, tmp_path):
    server = serve(_able)
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    url = server.base_url.replace("//", "//me:planted-pass@")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "planted-key")
    with closing(LLM("openai:fake")) as llm:
        assert llm.is_near
        shown = "\n".join(llm.probe().lines())
    (kept,) = (tmp_path / "probes").iterdir()
    assert "planted" not in shown + kept.read_text() + kept.name
    assert "${env:OPENAI_BASE_URL}" in shown


def test_a_key_that_no_header_can_hold_is_told(probing, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "schlüssel-planted")
    llm, _ = probing(_able)
    with pytest.raises(UsageError, match="printable ASCII characters") as error:
        llm.probe()
    assert "planted" not in str(error.value)


def test_a_server_that_is_not_there_is_told():
    llm = LLM("vllm:fake", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(LLMError, match="must be reachable to be asked"):
        llm.probe()


def test_models_without_a_server_are_not_asked():
    assert LLM("scripted:m", replies=("a",)).probe() is None


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://192.168.1.7:8000/v1", True),
        ("http://172.20.0.2/v1", True),
        ("https://openrouter.ai/api/v1", False),
        ("https://172.200.0.2/v1", False),
        ("https://fdn.example.org/v1", False),
        ("http://10.example.com/v1", False),
        ("http://127.0.0.1.evil.org/v1", False),
        ("http://0.0.0.0:8000/v1", True),
        ("http://[fe80::1]/v1", True),
        ("${env:SOMEWHERE}", False),
        ("${env:HERE}/v1", True),
    ],
)
@pytest.mark.parametrize("model", ["openai:m", "vllm:m", "tgi:m"])
def test_whose_a_server_is_its_address_tells(model, url, near, monkeypatch):
    monkeypatch.setenv("HERE", "http://127.0.0.1:8000")
    assert LLM(model, base_url=url).is_near is near
    assert not LLM("openai:m").is_near
    assert LLM("vllm:m").is_near


def test_a_failure_that_passes_says_nothing_of_what_the_server_can(probing):
    """Before, a server that was busy for a moment lost an ability for good."""
    busy = [Answer(503, {})] * 2

    def script(body: dict, number: int) -> Answer:
        return busy.pop() if "structured_outputs" in body and busy else _able(body, number)

    llm, _ = probing(script, first_wait_s=0.01)
    assert "choices" in llm.probe().supports


def test_what_fails_while_all_else_works_stays_unknown(probing):
    def script(body: dict, number: int) -> Answer:
        return Answer(500, {}) if "response_format" in body else _able(body, number)

    llm, _ = probing(script, first_wait_s=0.01)
    found = llm.probe()
    assert "json_schema" not in found.supports | found.lacks
    assert "json_schema" in llm.capabilities, "as is usual of its kind"


def test_of_a_server_that_goes_away_while_it_is_asked_nothing_is_kept(probing):
    well = [True]

    def script(body: dict, number: int) -> Answer:
        well[0] = well[0] and "response_format" not in body
        return _able(body, number) if well[0] else Answer(503, {})

    llm, _ = probing(script, first_wait_s=0.01)
    with pytest.raises(LLMError, match="http 503"):
        llm.probe()
    well[0] = True
    assert llm.recall() is None


def test_what_is_sent_with_each_request_is_sent_with_these(probing):
    """A server may do other things with it: Qwen3 thinks unless it is told not to."""
    llm, server = probing(_able, extra='{"chat_template_kwargs": {"enable_thinking": false}}')
    llm.probe()
    assert all("chat_template_kwargs" in body for body in server.asked)
    with closing(dataclasses.replace(llm, extra="")) as other:
        before = len(server.asked)
        other.probe()
    assert len(server.asked) > before, "with other parameters it is asked again"


def test_a_model_that_takes_no_temperature_can_be_asked(probing):
    llm, server = probing(_able)
    llm.probe()
    assert all("temperature" not in body for body in server.asked)


def test_an_answer_cut_off_in_thought_shows_nothing(probing):
    def script(body: dict, number: int) -> Answer:
        return chat("<think>I should say", finish="length")

    llm, _ = probing(script)
    found = llm.probe()
    assert not {"choices", "json_schema"} & (found.supports | found.lacks)


@pytest.mark.parametrize("most", [0, 1, 7, 13, 19, 20])
def test_how_many_alternatives_are_told_at_most_is_found(probing, most):
    llm, _ = probing(lambda body, number: _able(body, number, most=most))
    assert llm.probe().max_top_logprobs == most
    assert ("logprobs" in llm.capabilities) is (most > 0)


def test_a_server_that_tells_more_alternatives_than_are_tried_is_not_held_to_fewer(probing):
    llm, _ = probing(lambda body, number: _able(body, number, most=50))
    llm.probe()
    assert len(llm.generate([_HELLO], top_logprobs=50)[0].logprobs[0][0].top) == 50


def test_its_requests_are_metered_and_take_nothing_of_the_budget(probing):
    llm, server = probing(_able, max_calls=1, tokenizer_from="pieces")
    with metered() as meter:
        llm.probe()
    assert meter.usage.calls == len(server.asked) > 5
    assert llm.generate([_HELLO])[0].failure is None


def test_a_server_started_again_or_with_another_model_is_asked_again(probing):
    """Before, another model under the same name was taken for the one that was asked."""
    llm, server = probing(_able)
    assert "choices" in llm.probe().supports
    server.script = _deaf
    assert "choices" in llm.probe().supports, "it says that it is the same"
    server.beside["/metrics"] = b"# HELP\nprocess_start_time_seconds 1.7e9\n"
    assert "choices" not in llm.probe().supports
    server.script = _able
    server.beside["/v1/models"] = {"data": [MODELS["data"][0] | {"root": "/another/model"}]}
    assert "choices" in llm.probe().supports


def test_what_was_found_is_believed_for_a_day(probing, monkeypatch):
    llm, server = probing(_able)
    llm.probe()
    asked, now = len(server.asked), time.time()
    monkeypatch.setattr("limbeck.llm.probe.time.time", lambda: now + 90_000.0)
    assert llm.recall() is None
    llm.probe()
    assert len(server.asked) == 2 * asked


def test_what_the_cache_knows_is_recalled_and_nothing_is_generated(probing):
    llm, server = probing(_deaf)
    assert llm.recall() is None
    assert server.asked == []
    llm.probe()
    asked = len(server.asked)
    _known.clear()
    assert "choices" in llm.capabilities
    assert llm.recall() is not None
    assert "choices" not in llm.capabilities
    assert len(server.asked) == asked


def test_the_check_goes_by_what_was_found_of_a_far_server_without_asking_it(
    probing, monkeypatch, tmp_path, capsys
):
    """Before, what `limbeck llm probe` found of a server elsewhere was read by nobody."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Settings, "is_near", False)
    _, server = probing(_deaf)
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"limbeck: 1\nllms: {{m: {{backend: vllm, model: fake, base_url: {server.base_url!r}}}}}\n"
        "pipelines: {p: [{bm25: {k: 5}}, {pointwise: {llm: m, passage_tokens: 20}}]}\n"
    )
    cli.main(["check", str(spec)])
    assert server.asked == []
    cli.main(["llm", "probe", "vllm:fake", "--base-url", server.base_url])
    asked = len(server.asked)
    _known.clear()
    with pytest.raises(SystemExit):
        cli.main(["check", str(spec)])
    assert "log-probabilities" in capsys.readouterr().err
    assert len(server.asked) == asked


def test_a_server_that_refuses_is_a_fault_of_the_check_and_one_that_is_down_is_told(
    probing, tmp_path, capsys
):
    """Before, `limbeck check` said "sound" of a model that its server does not know."""
    _, server = probing(lambda body, _: Answer(404, {"error": {"message": "no such model"}}))
    spec = tmp_path / "spec.yaml"
    text = (
        f"limbeck: 1\nllms: {{m: {{backend: vllm, model: fake, base_url: {server.base_url!r}}}}}\n"
        "pipelines: {p: [{hyde: {llm: m}}, {bm25: {k: 5}}]}\n"
    )
    spec.write_text(text)
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", str(spec)])
    assert ended.value.code == 1
    assert "http 404: Error code: 404 - no such model" in capsys.readouterr().err
    spec.write_text(text.replace(server.base_url, "http://127.0.0.1:9/v1"))
    cli.main(["check", str(spec)])
    told = capsys.readouterr()
    assert "must be reachable to be asked" in told.err
    assert "p is sound" in told.out
