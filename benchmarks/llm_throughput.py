"""Measure the LLM stages of HyDE and LameR against vLLM's own benchmark, LangChain and a loop.

    python benchmarks/llm_throughput.py FOLDER MODEL [--queries 300] [--n 5] [--max-tokens 64]

MODEL is a folder or a name on the hub; it is served by vLLM, for which LIMBECK_VLLM_PYTHON names
the Python where that is another one. FOLDER is a BEIR folder: the prompts are those that HyDE and
LameR send for its test queries. Each way generates n samples of exactly max-tokens tokens a prompt,
so that tokens per second compare; `vllm bench serve` has the same prompts, the same n in a request
and as many requests at once. The first two ways take turns, `--rounds` times; the medians are
compared. LangChain's `batch` and the loop make a request a sample, as their users do, and are timed
on the first `--few` prompts. vLLM forgets what it cached before each, and tells what share of the
prompts' tokens it then found cached.
With `--offline`, which needs vLLM in this environment, the same stage in this process comes last.
Needs langchain-openai.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limbeck import BM25, LLM, HyDE, LameR
from limbeck.eval.datasets import Dataset
from limbeck.llm.serving.command import PYTHON_VARIABLE, Command, Served, serving_command
from limbeck.llm.serving.engine import Engine
from limbeck.llm.serving.server import Server, Upkeep
from limbeck.types import Message

_NAME = "served"
_KEY = "none"
_FIXED = '{"ignore_eos": true}'

_BENCH = """
import importlib.metadata as metadata
named = metadata.Distribution.from_name
def found(name):  # the package for CPUs has another name, under which vLLM does not look
    try:
        return named(name)
    except metadata.PackageNotFoundError:
        return named(f"{name}-cpu")
metadata.Distribution.from_name = found
from vllm.benchmarks import serve
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""
"""`vllm bench serve`, whose console script is not there on a CPU."""

Prompts = Sequence[tuple[Message, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a BEIR folder")
    parser.add_argument("model", help="a folder, or a name on the hub")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--n", type=int, default=5, help="samples of a prompt")
    parser.add_argument("--max-tokens", type=int, default=64, help="tokens of each sample")
    parser.add_argument("--at-once", type=int, default=64, help="requests under way at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--few", type=int, default=40, help="prompts of the slow ways")
    parser.add_argument("--context-length", type=int, default=2048)
    parser.add_argument("--kv-gib", type=int, help="on a CPU, memory for keys and values")
    parser.add_argument("--max-num-seqs", type=int, help="samples that vLLM makes at once")
    parser.add_argument("--stage", choices=("HyDE", "LameR"), help="this one alone")
    parser.add_argument("--offline", action="store_true")
    options = parser.parse_args()
    stages = prompts_of(options)
    with tempfile.TemporaryDirectory() as folder:
        server = started(options, Path(folder))
        try:
            for name, prompts in stages.items():
                measure(name, prompts, server, options)
        finally:
            server.close()
        if options.offline:
            offline(stages, options)


def prompts_of(options: argparse.Namespace) -> dict[str, Prompts]:
    """Return the prompts of each stage, as its node sends them."""
    data = Dataset.load(options.folder)
    queries = data.queries[: options.queries]
    heard: list[tuple[Message, ...]] = []

    def script(messages: Sequence[Message], _: int) -> str:
        heard.append(tuple(messages))
        return "a passage"

    listener = dataclasses.replace(LLM.scripted(script), tokenizer_from="pieces", concurrency=1)
    bm25 = BM25().bind(data.corpus)
    nodes = {"HyDE": HyDE(listener, n=1), "LameR": bm25.top(10) >> LameR(listener, n=1)}
    found: dict[str, Prompts] = {}
    for name, node in nodes.items():
        heard.clear()
        node(queries)
        found[name] = list(heard)
    return {options.stage: found[options.stage]} if options.stage else found


def started(options: argparse.Namespace, folder: Path) -> Server:
    """Return a vLLM server that can be told to forget its cache."""
    engine = Engine(cpu_kv_cache_gib=options.kv_gib, max_num_seqs=options.max_num_seqs)
    served = Served(
        "vllm", options.model, _NAME, context_length=options.context_length, engine=engine
    )

    def command() -> Command:
        usual = serving_command(served, key="")
        return dataclasses.replace(
            usual, environment={**usual.environment, "VLLM_SERVER_DEV_MODE": "1"}
        )

    upkeep = Upkeep(start_timeout_s=1800.0, restarts=0)
    server = Server(command, log=folder / "log", key="", upkeep=upkeep)
    server.ready()
    return server


def measure(name: str, prompts: Prompts, server: Server, options: argparse.Namespace) -> None:
    """Print the tokens a second of each way, and what they are to each other."""
    url = f"{server.address}/v1"
    few = prompts[: options.few]
    rates: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, float] = {}
    ways: dict[str, Callable[[], float]] = {
        "limbeck": lambda: limbeck(prompts, url, options),
        "vllm bench serve": lambda: bench(prompts, server, options),
    }
    slow: dict[str, Callable[[], float]] = {
        "langchain batch": lambda: langchain(few, url, options),
        "loop, n in one request": lambda: loop(few, url, options, together=True),
        "loop, one request a sample": lambda: loop(few, url, options, together=False),
    }
    for way, run in [*ways.items()] * options.rounds + [*slow.items()]:
        forget(server)
        before = cached(server)
        rates[way].append(run())
        shares[way] = share(before, cached(server))
        print(f"{name}, {way}: {rates[way][-1]:.0f} tokens/s", file=sys.stderr)
    ours = statistics.median(rates["limbeck"])
    print(f"\n{name}: {len(prompts)} prompts x {options.n} samples x {options.max_tokens} tokens")
    for way, told in rates.items():
        middle, shown = statistics.median(told), ", ".join(f"{rate:.0f}" for rate in told)
        times = f"limbeck is {ours / middle:.2f}x"
        print(f"| {way} | {middle:.0f} tokens/s ({shown}) | {times} | {shares[way]:.0%} cached |")


def forget(server: Server) -> None:
    url = f"{server.address}/reset_prefix_cache"
    urllib.request.urlopen(urllib.request.Request(url, method="POST")).close()


def cached(server: Server) -> tuple[float, float]:
    """Return how many tokens of prompts were looked up so far, and how many were found."""
    with urllib.request.urlopen(f"{server.address}/metrics") as answer:
        told = answer.read().decode()
    names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    looked, found = (re.search(rf"^{name}{{.*}} (\S+)$", told, re.MULTILINE) for name in names)
    return float(looked[1]), float(found[1])


def share(before: tuple[float, float], after: tuple[float, float]) -> float:
    return (after[1] - before[1]) / max(after[0] - before[0], 1.0)


def limbeck(prompts: Prompts, url: str, options: argparse.Namespace) -> float:
    """Return tokens a second of one stage through the gate, with a cassette as a user has it."""
    with tempfile.TemporaryDirectory() as folder:
        llm = LLM(
            f"vllm:{_NAME}",
            base_url=url,
            concurrency=options.at_once,
            extra=_FIXED,
            cassette=Path(folder) / "tape",
        )
        rate = stage(llm, prompts, options)
        llm.close()
    return rate


def stage(llm: LLM, prompts: Prompts, options: argparse.Namespace) -> float:
    began = time.perf_counter()
    made = llm.generate(prompts, n=options.n, temperature=1.0, max_tokens=options.max_tokens)
    took = time.perf_counter() - began
    assert not [generation.failure for generation in made if generation.failure]
    tokens = sum(sample.completion_tokens for g in made for sample in g.samples)
    assert tokens == len(prompts) * options.n * options.max_tokens
    return tokens / took


def bench(prompts: Prompts, server: Server, options: argparse.Namespace) -> float:
    """Return the output throughput that vLLM's own benchmark tells."""
    with tempfile.TemporaryDirectory() as folder:
        data, result = Path(folder) / "prompts.jsonl", Path(folder) / "result.json"
        lines = [json.dumps({"prompt": prompt[-1].content}) for prompt in prompts]
        data.write_text("\n".join(lines))
        arguments = {
            "backend": "openai-chat",
            "endpoint": "/v1/chat/completions",
            "base-url": server.address,
            "model": options.model,
            "served-model-name": _NAME,
            "dataset-name": "custom",
            "dataset-path": data,
            "custom-output-len": options.max_tokens,
            "num-prompts": len(prompts),
            "max-concurrency": options.at_once,
            "temperature": 1.0,
            "extra-body": json.dumps({"n": options.n}),
            "result-dir": folder,
            "result-filename": result.name,
        }
        flags = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
        python = os.environ.get(PYTHON_VARIABLE, "python")
        more = ["--ignore-eos", "--save-result", "--disable-shuffle", "--disable-tqdm"]
        ran = subprocess.run(
            [python, "-c", _BENCH, *flags, *more], capture_output=True, text=True, check=False
        )
        if ran.returncode:
            raise SystemExit(f"vllm bench serve failed: {ran.stderr[-2000:]}")
        told: dict[str, Any] = json.loads(result.read_text())
    if told["completed"] != len(prompts):
        raise SystemExit(f"vllm bench serve answered {told['completed']}: {ran.stdout[-2000:]}")
    assert told["total_output_tokens"] == len(prompts) * options.n * options.max_tokens
    return float(told["output_throughput"])


def langchain(prompts: Prompts, url: str, options: argparse.Namespace) -> float:
    """Return tokens a second of LangChain's `batch` as it comes, a request a sample."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        model=_NAME,
        base_url=url,
        api_key=_KEY,
        temperature=1.0,
        max_tokens=options.max_tokens,
        extra_body=json.loads(_FIXED),
    )
    asked = [[tuple(message) for message in prompt] for prompt in prompts for _ in range(options.n)]
    began = time.perf_counter()
    made = model.batch(asked)
    took = time.perf_counter() - began
    tokens = sum(message.usage_metadata["output_tokens"] for message in made)
    return tokens / took


def loop(prompts: Prompts, url: str, options: argparse.Namespace, *, together: bool) -> float:
    """Return tokens a second of one request after another by the openai package."""
    import openai

    client = openai.OpenAI(base_url=url, api_key=_KEY)
    n, times = (options.n, 1) if together else (1, options.n)
    tokens, began = 0, time.perf_counter()
    for prompt in prompts:
        for _ in range(times):
            made = client.chat.completions.create(
                model=_NAME,
                messages=[message._asdict() for message in prompt],
                n=n,
                temperature=1.0,
                max_tokens=options.max_tokens,
                extra_body=json.loads(_FIXED),
            )
            tokens += made.usage.completion_tokens
    return tokens / (time.perf_counter() - began)


def offline(stages: dict[str, Prompts], options: argparse.Namespace) -> None:
    """Print the tokens a second of the stages in this process."""
    llm = LLM(
        f"vllm-offline:{options.model}",
        engine=Engine(cpu_kv_cache_gib=options.kv_gib),
        context_length=options.context_length,
        extra=_FIXED,
    )
    llm.generate([next(iter(stages.values()))[0]], max_tokens=1)  # loaded before the clock runs
    for name, prompts in stages.items():
        print(f"| {name}, in this process | {stage(llm, prompts, options):.0f} tokens/s |")
    llm.close()


if __name__ == "__main__":
    main()
