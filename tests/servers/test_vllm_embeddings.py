"""A trained dense model in a real vLLM: it pools as the model was trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limbeck.llm.serving.command import vllm_variables
from limbeck.llm.serving.engine import Engine
from limbeck.training.served import write_older_words
from tests.training import world

pytestmark = [pytest.mark.servers, pytest.mark.vllm]

TEXTS = ["tell1 noise2 common", "ask3 noise4", "tell7 tell8 noise1 noise2 noise3 common"]
LONGEST = 32

SERVED = f"""
import json, pathlib, sys
from vllm import LLM

if __name__ == "__main__":
    some = dict(dtype="float32", enforce_eager=True, gpu_memory_utilization=0.2)
    llm = LLM(sys.argv[1], runner="pooling", **some)
    made = llm.embed({TEXTS!r})
    found = [each.outputs.embedding for each in made]
    told = json.dumps([llm.llm_engine.model_config.max_model_len, found])
    pathlib.Path(sys.argv[2]).write_text(told)
    llm.llm_engine.engine_core.shutdown()
"""


def saved(folder: Path) -> Path:
    """Return a model's folder in the words that sentence-transformers 6 writes."""
    world.bare("Bert", folder, hidden_size=128, num_attention_heads=4, initializer_range=0.2)
    kinds = {
        "": "base.modules.transformer.Transformer",
        "1_Pooling": "sentence_transformer.modules.pooling.Pooling",
        "2_Normalize": "base.modules.normalize.Normalize",
    }
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.{kind}"}
        for n, (path, kind) in enumerate(kinds.items())
    ]
    pooling = {"embedding_dimension": 128, "pooling_mode": "mean", "include_prompt": True}
    for name in ("1_Pooling", "2_Normalize"):
        (folder / name).mkdir()
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("2_Normalize/config.json", {}),
        ("sentence_bert_config.json", {"document_length": LONGEST}),
        ("config_sentence_transformers.json", {"prompts": {"query": "", "document": ""}}),
    ):
        (folder / name).write_text(json.dumps(value))
    return folder


def pooled(folder: Path) -> np.ndarray:
    """Return the mean of the last states of each text, at length 1."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    made = []
    for text in TEXTS:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        made.append(torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy())
    return np.array(made)


def test_vllm_pools_as_the_model_was_trained(tmp_path):
    """By the new words alone it took another pooling, and nobody was told."""
    folder, answer = saved(tmp_path / "model"), tmp_path / "found"
    write_older_words(folder, LONGEST)
    done = subprocess.run(
        [sys.executable, "-c", SERVED, str(folder), str(answer)],
        env=os.environ | vllm_variables(Engine()),
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    # Not its exit status: vLLM has been seen to abort at the very end, in a thread of its own.
    assert answer.is_file(), done.stderr[-3000:]
    longest, found = json.loads(answer.read_text())
    assert longest == LONGEST
    assert (np.array(found) * pooled(folder)).sum(axis=1).min() > 0.9999
