"""Train a small cross-encoder to measure the node with, until the training room makes better ones.

    python benchmarks/tiny_cross_encoder.py MODEL FOLDER OUT [--epochs 2] [--seed 0]

MODEL is the folder of a transformer to start from, FOLDER a BEIR folder with a train split, OUT
where the trained model is saved as Hugging Face does. For each train query: its relevant documents,
and as negatives as many as `--negatives` of BM25's first 30 that are not judged relevant. Binary
cross-entropy, AdamW, learning rate 5e-5 falling to 0, batches of 32. A few minutes on two cores.
Needs the extra `torch`.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from limbeck import BM25
from limbeck.eval.datasets import Dataset

_BATCH, _LEARNING_RATE, _DEPTH = 32, 5e-5, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--negatives", type=int, default=6)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    pairs = pairs_of(Dataset.load(options.folder, "train"), options.negatives, options.seed)
    print(f"{len(pairs)} pairs, {sum(label for _, _, label in pairs):.0f} of them relevant")
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=1)
    train(model, tokenizer, pairs, options.epochs, options.max_tokens)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


def pairs_of(data: Dataset, n_negatives: int, seed: int) -> list[tuple[str, str, float]]:
    """Return query, document and label of each pair, in a random order."""
    draw = random.Random(seed)
    run = BM25.index(data.corpus, k=_DEPTH)(data.queries)
    pairs = []
    for position, query in enumerate(data.queries):
        judged = data.qrels.judgements[query.query_id]
        relevant = [doc_id for doc_id, grade in judged.items() if grade > 0]
        others = [hit.doc_id for hit in run.hits(position) if judged.get(hit.doc_id, 0) <= 0]
        chosen = draw.sample(others, min(n_negatives, len(others)))
        for label, doc_ids in ((1.0, relevant), (0.0, chosen)):
            rows = [row for row in map(data.corpus.row, doc_ids) if row is not None]
            texts = (data.corpus.document(row).contents for row in rows)
            pairs += [(query.text, text, label) for text in texts]
    draw.shuffle(pairs)
    return pairs


def train(
    model: torch.nn.Module,
    tokenizer: AutoTokenizer,
    pairs: list[tuple[str, str, float]],
    epochs: int,
    max_tokens: int,
) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE)
    starts = list(range(0, len(pairs), _BATCH)) * epochs
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=len(starts))
    model.train()
    total = 0.0
    for step, start in enumerate(starts, start=1):
        queries, texts, labels = zip(*pairs[start : start + _BATCH], strict=True)
        batch = tokenizer(
            list(queries),
            list(texts),
            truncation="only_second",
            max_length=max_tokens,
            padding=True,
            return_tensors="pt",
        )
        logits = model(**batch).logits.squeeze(-1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
        total += loss.item()
        if step % 50 == 0:
            print(f"step {step} of {len(starts)}, mean loss {total / 50:.4f}", flush=True)
            total = 0.0


if __name__ == "__main__":
    main()
