"""Measure training beside sentence-transformers' own trainer: the same model, loss, batch and data.

    python benchmarks/training_speed.py FOLDER [--model minilm] [--batch 32] [--steps 20]

FOLDER is a BEIR collection with training queries. Both train on its queries with a positive and one
negative of BM25's, by InfoNCE over all passages of the batch, with AdamW; they take turns, and each
turn is a process of its own. Tokens are those of the texts, cut as the model cuts them, padding not
counted; the first ten steps are not timed. Texts become tokens in sentence-transformers' steps, and
before the first one in Limbeck: each in its own way. At its best sentence-transformers groups texts
of like length into a batch, and on a GPU compiles the model. On a GPU give more --steps; `--peak`
(TFLOP/s of the chip) adds what share of it is reached, counting 6 operations a token and weight
that is no embedding.
Needs the packages datasets and accelerate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_NOT_TIMED = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a BEIR folder with the split train")
    parser.add_argument("--model", default="minilm", help="a folder, a name on the hub, or minilm")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256, help="of a passage at most")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the chip")
    parser.add_argument("--way", choices=tuple(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(WAYS[options.way](options)))
        return
    told: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for way in [*WAYS] * options.rounds:
        told[way].append(run(way))
        print(f"{way}: {told[way][-1]['rate']:,.0f} tokens/s", file=sys.stderr)
    ours = statistics.median(each["rate"] for each in told["limbeck"])
    for way, each in told.items():
        middle = statistics.median(found["rate"] for found in each)
        shown = ", ".join(f"{found['rate']:,.0f}" for found in each)
        reached = 6 * each[0]["weights"] * middle / 1e12
        share = f" {reached / options.peak:.0%} of the peak |" if options.peak else ""
        print(
            f"| {way} | {middle:,.0f} tokens/s ({shown}) | limbeck is {ours / middle:.2f}x |{share}"
        )


def run(way: str) -> dict[str, float]:
    """Return what one way told, in a process of its own."""
    command = [sys.executable, *sys.argv, "--way", way]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{way} failed: {ran.stderr[-3000:]}")
    told: dict[str, float] = json.loads(ran.stdout.strip().splitlines()[-1])
    return told


def limbeck(options: argparse.Namespace) -> dict[str, float]:
    """Return tokens a second of Limbeck's loop."""
    from limbeck.retrieval.bm25 import BM25
    from limbeck.training.journal import Journal
    from limbeck.training.loop import train
    from limbeck.training.objectives.dpr import DPR
    from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
    from limbeck.training.students import DenseStudent

    recipe = Recipe(
        objective=DPR(tau=0.05),
        model=DenseStudent(base=options.model, document_tokens=options.tokens),
        data=Data(dev=None),
        negatives=Negatives(of=BM25(k=50), depth=40, kept=1),
        batch=BatchSize(examples=options.batch),
        steps=options.steps,
        precision=options.precision,
        save_every=10**6,
    )
    with tempfile.TemporaryDirectory() as place:
        train(recipe, options.folder, Path(place) / "out")
        lines = Journal(Path(place) / "out/log.jsonl").lines()
    timed = [line for line in lines if line["step"] > _NOT_TIMED]
    seconds = sum(line["seconds"] for line in timed)
    return {
        "rate": sum(line["tokens"] for line in timed) / seconds,
        "weights": weights_of(recipe.model.load()),
    }


def sentence_transformers(options: argparse.Namespace, *, best: bool = False) -> dict[str, float]:
    """Return tokens a second of sentence-transformers' trainer."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from limbeck.training.students import DenseStudent

    class Clock(TrainerCallback):
        """Notes when each step ended; waits for the GPU at the two that are read alone."""

        def __init__(self) -> None:
            self.at: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available() and len(self.at) + 1 in {_NOT_TIMED, options.steps}:
                torch.cuda.synchronize()
            self.at.append(time.perf_counter())

    model = DenseStudent(base=options.model, document_tokens=options.tokens).load()
    if torch.cuda.is_available():
        model.to("cuda")
    clock = Clock()
    more: dict[str, Any] = {}
    if best:
        more = {"train_sampling_strategy": "group_by_length"}
        more |= {"torch_compile": True} if torch.cuda.is_available() else {}
    with tempfile.TemporaryDirectory() as place:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=place,
            per_device_train_batch_size=options.batch,
            max_steps=options.steps,
            learning_rate=2e-5,
            weight_decay=0.01,
            bf16=options.precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            **more,
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(triples(options)),
            loss=MultipleNegativesRankingLoss(model, scale=20.0),
            callbacks=[clock],
        )
        trainer.data_collator = Counting(trainer.data_collator)
        trainer.train()
        read = trainer.data_collator.read
    seconds = clock.at[-1] - clock.at[_NOT_TIMED - 1]
    rate = sum(read[_NOT_TIMED : options.steps]) / seconds
    return {"rate": rate, "weights": weights_of(model)}


def at_its_best(options: argparse.Namespace) -> dict[str, float]:
    """Return tokens a second of sentence-transformers' trainer with its fastest settings."""
    return sentence_transformers(options, best=True)


class Counting:
    """A collator that notes the tokens of each batch, without padding."""

    def __init__(self, collate: Any) -> None:
        self._collate = collate
        self.read: list[int] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch."""
        batch: dict[str, Any] = self._collate(rows)
        masks = [mask for name, mask in batch.items() if name.endswith("attention_mask")]
        self.read.append(sum(int(mask.sum()) for mask in masks))
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collate, name)


def triples(options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the columns of the training data: queries, positives, negatives."""
    from limbeck.retrieval.bm25 import BM25
    from limbeck.training.examples import Examples
    from limbeck.training.negatives import first_negatives
    from limbeck.training.recipe import Negatives

    examples = Examples.load(options.folder, dev=None)
    run = first_negatives(examples, Negatives(of=BM25(k=50), depth=40, kept=1), seed=0).run
    columns: dict[str, list[str]] = {"anchor": [], "positive": [], "negative": []}
    for place, query in enumerate(examples.queries):
        found = run.rows[run.segment(place)]
        if len(found):
            columns["anchor"].append(query.text)
            for name, row in (("positive", examples.positives[place][0]), ("negative", found[0])):
                columns[name].append(examples.corpus.document(int(row)).contents)
    return columns


def weights_of(model: Any) -> int:
    """Return the number of weights that are no embeddings."""
    named = model.named_parameters()
    return sum(weight.numel() for name, weight in named if "embeddings" not in name)


WAYS = {
    "limbeck": limbeck,
    "sentence-transformers": sentence_transformers,
    "sentence-transformers at its best": at_its_best,
}


if __name__ == "__main__":
    main()
