"""Train a dense encoder on a collection, export it, and search with it.

    python examples/train.py beir/scifact runs/scifact

The collection needs a split `train`. It takes some ten minutes on two cores for scifact.
"""

from __future__ import annotations

import sys
from pathlib import Path

from limbeck import BM25, Dataset, Dense
from limbeck.training.export import export_onnx
from limbeck.training.loop import train
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe, Watch
from limbeck.training.students import DenseStudent


def main(
    folder: Path, out: Path, base: str = "minilm", steps: int = 100, tokens: int = 256
) -> None:
    recipe = Recipe(
        objective=DPR(tau=0.05),
        model=DenseStudent(base=base, normalise=True, document_tokens=tokens),
        data=Data(dev=0.1),
        negatives=Negatives(of=BM25(k=100), depth=50),
        batch=BatchSize(examples=16),
        steps=steps,
        optimiser=Optimising(rate=3e-5),
        precision="bf16",
        watch=Watch(every=50, pool=20),
    )
    trained = train(recipe, folder, out)
    print(f"nDCG@10 {trained.best_score:.4f} on held-out queries, over a pool")

    told = export_onnx(trained.model, out / "onnx")
    print(f"exported in 8 bits, cosine {told['least_cosine']:.4f} at least")

    dataset = Dataset.load(folder, "train")
    index = Dense.index(dataset.corpus, encoder=str(out / "onnx"))
    print(dataset.queries[0].text, index(dataset.queries[:1]).hits(0)[:3])


if __name__ == "__main__":  # a refresh beside training would start this file again
    main(Path(sys.argv[1]), Path(sys.argv[2]))
