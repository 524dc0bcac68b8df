"""A tiny world to train in, and BERTs for it.

Query "ask7 ..." is about what documents with "tell7" say. They share a word that all have, and some
noise: BM25 finds every document, in an order by chance. A model learns the pairs in 200 steps.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

N_TOPICS = 24
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]")
MARKS = ("[", "]", "q", "d", ".", ",")
ASKING = tuple(f"ask{n}" for n in range(N_TOPICS))
TELLING = tuple(f"tell{n}" for n in range(N_TOPICS))
NOISE = tuple(f"noise{n}" for n in range(12))
COMMON = "common"
VOCABULARY = (*SPECIAL, *MARKS, *ASKING, *TELLING, *NOISE, COMMON)


def collection(folder: Path, *, copies: int = 2) -> Path:
    """Write the collection; each topic has `copies` documents, and 3 queries, one of dev."""
    rng = np.random.default_rng(7)
    noise = lambda n: " ".join(rng.choice(NOISE, n))  # noqa: E731
    documents = [
        {
            "_id": f"d{t}-{c}",
            "title": NOISE[t % 12],
            "text": f"{TELLING[t]} , {noise(1 + c)} common .",
        }
        for t in range(N_TOPICS)
        for c in range(copies)
    ]
    queries = [
        {"_id": f"q{t}-{n}", "text": f"{ASKING[t]} {noise(1)} common"}
        for t in range(N_TOPICS)
        for n in range(3)
    ]
    (folder / "qrels").mkdir(parents=True)
    for name, lines in (("corpus", documents), ("queries", queries)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    for split, numbers in (("train", (0, 1)), ("dev", (2,))):
        rows = [
            f"q{t}-{n}\td{t}-{c}\t1"
            for t in range(N_TOPICS)
            for n in numbers
            for c in range(copies)
        ]
        head = "query-id\tcorpus-id\tscore\n"
        (folder / "qrels" / f"{split}.tsv").write_text(head + "\n".join(rows) + "\n")
    return folder


def bert(folder: Path, *, seed: int = 0, dropout: float = 0.1, kind: str = "Bert") -> Path:
    """Save a BERT, or a RoBERTa, whose states differ from each other."""
    import torch

    torch.manual_seed(seed)
    given = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    given |= {"type_vocab_size": 1} if kind == "Roberta" else {}
    return bare(kind, folder, initializer_range=0.2, **given)


def masked_bert(folder: Path) -> Path:
    """Save a BERT that predicts masked words."""
    import torch

    torch.manual_seed(0)
    return bare("Bert", folder, head="ForMaskedLM", initializer_range=0.2)


def bare(architecture: str, folder: Path, *, head: str = "Model", **given: object) -> Path:
    """Save a randomly initialised model of two layers, of any architecture with BERT's sizes.

    With a tokenizer of whole words.
    """
    import transformers

    sizes = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 258,
        "pad_token_id": 0,
    }
    special = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    own = {"dim": 32, "n_layers": 2, "n_heads": 2} if architecture == "DistilBert" else {}
    config = getattr(transformers, f"{architecture}Config")(**sizes | special | own | given)
    getattr(transformers, f"{architecture}{head}")(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = transformers.BertTokenizerFast(vocab=vocabulary)
    tokenizer.model_max_length = 256
    tokenizer.save_pretrained(folder)
    return folder
