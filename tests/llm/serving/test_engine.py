"""Options of an engine: their bounds, whose they are, and the command line that they make."""

from __future__ import annotations

import dataclasses

import pytest

from limbeck.errors import UsageError
from limbeck.llm.model import LLM
from limbeck.llm.serving.command import PYTHON_VARIABLE, Served, serving_command, vllm_problem
from limbeck.llm.serving.engine import Engine


def _argv(**fields) -> str:
    engine = Engine(port=8123, **fields)
    served = Served("vllm", "Qwen/Qwen3-8B", context_length=4096, engine=engine)
    return " ".join(serving_command(served, key="").argv)


def test_a_vllm_server_is_started_for_retrieval(monkeypatch):
    monkeypatch.setenv(PYTHON_VARIABLE, "/opt/vllm/bin/python")
    argv = _argv()
    assert argv.startswith("/opt/vllm/bin/python -m vllm.entrypoints.openai.api_server ")
    assert "--model Qwen/Qwen3-8B --served-model-name Qwen/Qwen3-8B" in argv
    assert "--max-model-len 4096" in argv
    assert "--enable-prefix-caching" in argv
    assert "--generation-config vllm" in argv, "a model's own top_k would be mixed in"
    for unset in ("parallel", "quantization", "gpu-memory", "max-num-seqs", "eager"):
        assert unset not in argv


def test_every_option_reaches_the_server():
    argv = _argv(
        dtype="bfloat16",
        quantization="fp8",
        tensor_parallel_size=2,
        data_parallel_size=4,
        gpu_memory_utilization=0.8,
        max_num_seqs=64,
        max_logprobs=5,
        prefix_caching=False,
        enforce_eager=True,
    )
    for flag in (
        "--dtype bfloat16",
        "--quantization fp8",
        "--tensor-parallel-size 2",
        "--data-parallel-size 4",
        "--gpu-memory-utilization 0.8",
        "--max-num-seqs 64",
        "--max-logprobs 5",
        "--no-enable-prefix-caching",
        "--enforce-eager",
    ):
        assert flag in argv
    engine = Engine(batch_invariant=True, cpu_kv_cache_gib=2)
    told = serving_command(Served("vllm", "m", engine=engine), key="").environment
    assert told["VLLM_BATCH_INVARIANT"] == "1"
    assert told["VLLM_CPU_KVCACHE_SPACE"] == "2"


def test_a_key_stands_on_no_command_line():
    for family, variable in (("vllm", "VLLM_API_KEY"), ("llamacpp", "LLAMA_API_KEY")):
        command = serving_command(Served(family, "m.gguf"), key="planted-key")
        assert "planted-key" not in " ".join(command.argv)
        assert command.environment[variable] == "planted-key"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tensor_parallel_size": 0}, "tensor_parallel_size must be 1 or more; got 0"),
        ({"gpu_memory_utilization": 90}, "gpu_memory_utilization must lie in"),
        ({"port": 0}, "port must lie in"),
        ({"start_timeout_s": 0}, "start_timeout_s must be above 0"),
        ({"max_logprobs": -1}, "max_logprobs must be 0 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(fields, told):
    with pytest.raises(UsageError, match=told):
        Engine(**fields)


def test_an_engine_is_for_models_that_are_loaded_here():
    with pytest.raises(UsageError, match="engine is for vllm, vllm-offline; got it for ollama"):
        LLM("ollama:qwen3", engine=Engine())
    with pytest.raises(UsageError, match="server is started here"):
        LLM("vllm:m", engine=Engine(), base_url="http://127.0.0.1:8000/v1")
    with pytest.raises(UsageError, match="has no data_parallel_size, start_timeout_s"):
        LLM("vllm-offline:m", engine=Engine(data_parallel_size=2, start_timeout_s=9.0))


def test_what_may_change_a_text_is_part_of_fingerprints_and_cassettes():
    plain = LLM("vllm:m", engine=Engine())
    assert plain.fingerprint == LLM("vllm:m").fingerprint
    assert plain.fingerprint == LLM("vllm-offline:m").fingerprint, "both are vLLM"
    faster = dataclasses.replace(plain, engine=Engine(tensor_parallel_size=2, max_num_seqs=8))
    assert faster.fingerprint == plain.fingerprint
    other = dataclasses.replace(plain, engine=Engine(quantization="fp8"))
    assert other.fingerprint != plain.fingerprint
    assert other.state == "quantization=fp8"


def test_a_folder_is_known_by_its_name(tmp_path):
    """Before, a cassette of one machine would have been of no use on another."""
    folder = tmp_path / "qwen"
    folder.mkdir()
    assert LLM(f"vllm-offline:{folder}").identity == "vllm:qwen"
    assert LLM(f"vllm:{folder}", engine=Engine()).identity == "vllm:qwen"


def test_a_check_says_where_vllm_is_missing(monkeypatch, tmp_path):
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr("limbeck.llm.serving.command.find_spec", lambda _: None)
    (found,) = LLM("vllm:m", engine=Engine()).problems()
    assert PYTHON_VARIABLE in found[1]
    assert LLM("vllm:m").problems() == []
    assert LLM("vllm-offline:m").problems()[0][0] == "vLLM is not installed here"
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "nothing"))
    assert "must name the Python" in vllm_problem(elsewhere=True)[0]
