from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from limbeck.errors import UsageError
from limbeck.llm.families import CAPABILITIES, FAMILIES
from limbeck.llm.model import LLM
from limbeck.llm.serving.engine import Engine

SAID = {"replies": ("a",)}
TAPED = {"cassette": "x", "cassette_mode": "replay"}


@pytest.mark.parametrize(
    ("model", "fields", "told"),
    [
        ("gpt-4.1", {}, "BACKEND:MODEL with openai, azure"),
        ("nope:x", {}, "BACKEND:MODEL with openai, azure"),
        ("openai:", {}, "a model, as in openai:gpt-4.1-mini"),
        ("llamacpp:", {}, "a GGUF file"),
        ("openai:m", {"api_key": "sk-literal"}, r"api_key must be a reference .*environment"),
        ("openai:m", {"base_url": "https://u:pw@h/v1"}, "no user or password"),
        ("azure:m", {}, r"azure needs base_url='https://RESOURCE\.openai\.azure\.com/openai/v1/'"),
        ("llamacpp:smollm2", {"base_url": "http://h"}, "llamacpp has no server"),
        ("openai:m", {"replies": ("a",)}, "replies are for scripted"),
        ("scripted:", {}, "scripted needs replies"),
        ("langchain:m", {}, "LLM.from_langchain"),
        ("langchain:m", {**TAPED, "samples_per_call": 4}, "langchain gives one sample a call"),
        ("langchain:m", {**TAPED, "extra": '{"k": 1}'}, "given no extra"),
        ("langchain:m", {**TAPED, "supports": ("logprobs",)}, "given no extra"),
        ("langchain:m", {**TAPED, "supports": ("json_schema",)}, "given no extra"),
        ("scripted:", {**SAID, "concurrency": 0}, "concurrency must be 1 or more; got 0"),
        ("scripted:", {**SAID, "timeout_s": 0.0}, "timeout_s must be above 0"),
        ("scripted:", {**SAID, "timeout_s": float("nan")}, "timeout_s must be above 0"),
        ("scripted:", {**SAID, "timeout_s": float("inf")}, "timeout_s must be above 0 and finite"),
        ("scripted:", {**SAID, "timeout_s": 1e10}, "timeout_s must be above 0 and finite"),
        ("scripted:", {**SAID, "retries": -1}, "retries must be 0 or more; got -1"),
        ("scripted:", {**SAID, "price": (1.0,)}, "price must be two numbers"),
        ("scripted:", {**SAID, "price": (1.0, -1.0)}, "price must be two numbers"),
        ("scripted:", {**SAID, "max_usd": 1.0}, "max_usd needs price"),
        ("scripted:", {**SAID, "cassette_mode": "on"}, "cassette_mode must be one of off, auto"),
        ("scripted:", {**SAID, "cassette_mode": "strict"}, "needs cassette=PATH"),
        ("scripted:", {**SAID, "supports": ("magic",)}, "supports may name .*; got magic"),
        ("scripted:", {**SAID, "cassette": ""}, "cassette must name a file; got '.'"),
        ("scripted:", {**SAID, "extra": "{"}, "extra must be a mapping, or a JSON object"),
        ("scripted:", {**SAID, "extra": "[1]"}, "extra must be a mapping, or a JSON object"),
        ("openai:m", {"extra": '{"n": 3}'}, "extra must not hold n"),
        ("openai:m", {"supports": ("choices",)}, "name the server's own back-end, .* of vllm"),
        ("vllm:m", {"base_url": "localhost:8000/v1"}, "must begin with http:// or https://"),
        ("vllm:m", {"api_key": "planted"}, "such as '\\${env:VLLM_API_KEY}'; got a literal"),
    ],
)
def test_what_cannot_mean_anything_is_refused_with_the_mend(model, fields, told):
    with pytest.raises(UsageError, match=told):
        LLM(model, **fields)


def test_a_literal_key_is_not_repeated_in_the_refusal():
    with pytest.raises(UsageError) as error:
        LLM("openai:m", api_key="hunter2hunter2")
    assert "hunter2" not in str(error.value)


def test_fields_are_plain_and_an_llm_is_made_again_from_them():
    llm = LLM("vllm:org/m", base_url="${env:U}", price=[1, 2], cassette="t/x", supports=["seed"])
    plain = {f.name: getattr(llm, f.name) for f in dataclasses.fields(llm)}
    assert plain["cassette"] == Path("t/x").resolve()
    assert plain["price"] == (1, 2)
    assert plain["backend"] is None
    assert LLM(plain.pop("model"), **plain) == llm
    assert hash(dataclasses.replace(llm)) == hash(llm)
    assert dataclasses.replace(llm, retries=1) != llm


def test_capabilities_and_context_are_known_without_a_call(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert LLM("openai:m").capabilities == CAPABILITIES - {"choices", "prompt_logprobs"}
    assert LLM("vllm:m").capabilities == CAPABILITIES
    assert "logprobs" not in LLM("ollama:m").capabilities
    assert LLM("ollama:m", supports=("logprobs",)).capabilities == {"logprobs"}
    assert LLM("openai:m").context_length is None
    assert LLM("openai:m", context_length=8000).context_length == 8000
    assert LLM("llamacpp:smollm2").context_length == 4096


BASE = LLM("vllm:org/m")


@pytest.mark.parametrize(
    "change",
    [
        {"model": "vllm:org/other"},
        {"model": "openai:org/m"},
        {"revision": "b"},
        {"extra": '{"min_p": 0.1}'},
        {"tokenizer_from": "pieces"},
    ],
)
def test_fingerprint_changes_with_what_may_change_a_text(change):
    assert dataclasses.replace(BASE, **change).fingerprint != BASE.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "http://127.0.0.1:9/v1"},
        {"api_key": "${env:OTHER}"},
        {"cassette": Path("x")},
        {"concurrency": 1},
        {"retries": 0},
        {"max_calls": 3},
        {"price": (1.0, 1.0)},
    ],
)
def test_fingerprint_is_blind_to_how_the_model_is_asked(change):
    assert dataclasses.replace(BASE, **change).fingerprint == BASE.fingerprint


def test_scripted_replies_stand_in_the_fingerprint():
    a, b = LLM("scripted:", replies=("a",)), LLM("scripted:", replies=("b",))
    assert a.fingerprint != b.fingerprint


def test_a_local_file_is_known_by_its_name_and_content_wherever_it_lies(tmp_path):
    """Before, two files of one name were one model: the second took the first one's numbers."""
    models = {}
    for folder, content in {"a": b"one", "b": b"one", "c": b"other"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.gguf").write_bytes(content)
        models[folder] = LLM(f"llamacpp:{tmp_path / folder / 'm.gguf'}")
    assert models["a"].identity == "llamacpp:m.gguf"
    assert models["a"].fingerprint == models["b"].fingerprint != models["c"].fingerprint
    named = [dataclasses.replace(model, revision="v1") for model in models.values()]
    assert len({model.fingerprint for model in named}) == 1, "a revision stands for the content"
    packaged = LLM("llamacpp:smollm2")
    assert packaged.identity == "llamacpp:SmolLM2-135M-Instruct.Q4_1.gguf"
    assert packaged.state == "", "the package is what tells its content"


@pytest.mark.parametrize("fields", [{"engine": Engine()}, {}])
def test_a_folder_is_known_by_its_name_and_content(tmp_path, fields):
    """Before, run1/final and run2/final, and a model that was trained on in place, were one."""
    family = "vllm" if fields else "vllm-offline"
    for run in ("run1", "run2"):
        (tmp_path / run / "final").mkdir(parents=True)
        (tmp_path / run / "final" / "config.json").write_text("{}")
        (tmp_path / run / "final" / "model.safetensors").write_text(run)
    one, two = (LLM(f"{family}:{tmp_path / run / 'final'}", **fields) for run in ("run1", "run2"))
    assert one.identity == two.identity == "vllm:final"
    assert one.fingerprint != two.fingerprint
    (tmp_path / "run2" / "final" / "model.safetensors").write_text("run1")
    assert dataclasses.replace(two).fingerprint == one.fingerprint
    (tmp_path / "run2" / "final" / "chat_template.jinja").write_text("{{ messages }}")
    assert dataclasses.replace(two).fingerprint != one.fingerprint


def test_problems_name_variables_files_and_cassettes(monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "NOPE"):
        monkeypatch.delenv(name, raising=False)
    assert "OPENAI_API_KEY" in LLM("openai:m").problems()[0][0]
    assert LLM("openai:m").problems()[0][1].startswith("run: export OPENAI_API_KEY=")
    assert "NOPE" in LLM("openai:m", api_key="${env:NOPE}").problems()[0][0]
    assert "NOPE" in LLM("vllm:m", base_url="http://${env:NOPE}/v1").problems()[0][0]
    assert LLM("vllm:m").problems() == []
    assert LLM("openai:m", base_url="http://h/v1").problems() == []
    (missing,) = LLM("llamacpp:/no/such.gguf").problems()
    assert "such.gguf" in missing[0] or "xllamacpp" in missing[0]
    taped = LLM("openai:m", cassette=tmp_path / "x", cassette_mode="strict")
    assert "x.jsonl" in taped.problems()[0][0]
    (tmp_path / "x.jsonl").write_text("")
    assert taped.problems() == [], "a replayed model needs no key"


def test_every_family_can_be_named():
    more = {"azure": {"base_url": "https://h/openai/v1/"}, "scripted": SAID}
    for name in FAMILIES.keys() - {"langchain"}:
        assert LLM(f"{name}:m", **more.get(name, {})).family.name == name


def test_further_parameters_may_be_a_mapping_or_json():
    given = LLM("vllm:m", extra={"min_p": 0.1, "a": {"b": False}})
    assert given == LLM("vllm:m", extra='{"a": {"b": false}, "min_p": 0.1}')
    assert given.more == {"a": {"b": False}, "min_p": 0.1}
    assert hash(given) == hash(dataclasses.replace(given))
