"""Measure what expanded documents do to BM25: with an LLM's queries, and with made-up ones.

    python benchmarks/doc2query.py lengths FOLDER
    python benchmarks/doc2query.py llm FOLDER --out DIR [--docs 300] [-n 5] [--model smollm2]

`lengths` gives documents made-up queries of eight words: spans of their own text, which add no new
word, or of another document's, which add noise; each document has some, or every other one. `llm`
has an LLM write them for the judged documents and some others, and filters them by MaxSim over
minilm, as doc2query-- does. FOLDER may be `mini`. Answers stay in DIR: a second run asks nobody.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ir_measures import R, calc_aggregate, nDCG

from limbeck import BM25, LLM, Corpus, Dataset, Doc2Query, FilteredQueries, MaxSim
from limbeck.retrieval.expansion import Expander
from limbeck.retrieval.recorded_queries import RecordedQueries

_SPAN_WORDS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("lengths", "llm"))
    parser.add_argument("folder", help="a BEIR folder, or mini")
    parser.add_argument("--out", type=Path, default=Path("doc2query"), help="answers and files")
    parser.add_argument("--docs", type=int, default=300, help="documents of the sample")
    parser.add_argument("-n", type=int, default=5, help="queries a document")
    parser.add_argument("--model", default="smollm2", help="a model of llama.cpp")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = Dataset.mini() if options.folder == "mini" else Dataset.load(options.folder)
    measured = lengths if options.what == "lengths" else written_by_an_llm
    measured(data, options)


def lengths(data: Dataset, options: argparse.Namespace) -> None:
    """Print what made-up queries do, for both ways to count lengths."""
    shown(data, data.corpus, "no queries", None)
    for source in ("own", "own, of half", "another's", "another's, of half"):
        for n in (5, 20, 80):
            path = options.out / "spans.jsonl"
            lines = list(spans(data.corpus, n, own=source.startswith("own")))
            kept = lines[::2] if source.endswith("half") else lines
            path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            shown(data, data.corpus, f"{n} spans, {source}", RecordedQueries(path))


def spans(corpus: Corpus, n: int, *, own: bool) -> Iterator[dict[str, object]]:
    """Yield made-up queries of each document, by fixed dice."""
    dice = random.Random(0)
    texts = [document.contents.split() for document in corpus.documents()]
    for row, doc_id in enumerate(corpus.doc_ids):
        words = texts[row] if own else texts[dice.randrange(len(texts))]
        starts = [dice.randrange(max(1, len(words) - _SPAN_WORDS)) for _ in range(n)]
        yield {"doc_id": doc_id, "text": [" ".join(words[s : s + _SPAN_WORDS]) for s in starts]}


def written_by_an_llm(data: Dataset, options: argparse.Namespace) -> None:
    """Print what an LLM's queries do, all of them and the best of them."""
    corpus = sample(data, options.docs)
    llm = LLM(
        f"llamacpp:{options.model}",
        tokenizer_from="pieces",
        cassette=options.out / "tape",
        concurrency=4,
    )
    wrote = Doc2Query(llm, n=options.n, max_tokens=32, document_tokens=160)
    started = time.perf_counter()
    written = wrote.write(corpus)
    seconds = time.perf_counter() - started
    llm.close()
    n_queries = sum(len(each.texts) for each in written)
    n_words = np.mean([len(text.split()) for each in written for text in each.texts])
    print(f"{n_queries} queries of {n_words:.1f} words, {len(corpus)} documents, {seconds:.0f} s")
    for each in list(written)[:3]:
        print("  ", each.texts[:3])
    shown(data, corpus, "no queries", None)
    shown(data, corpus, f"{options.n} queries", wrote)
    for keep in (0.5, 0.3):
        filtered = FilteredQueries(wrote, MaxSim(), keep=keep)
        shown(data, corpus, f"best {keep:.0%}", filtered)


def sample(data: Dataset, n_docs: int) -> Corpus:
    """Return the judged documents, and as many others by fixed dice as are asked for."""
    judged = {doc_id for of in data.qrels.judgements.values() for doc_id in of}
    others = [doc_id for doc_id in data.corpus.doc_ids if doc_id not in judged]
    wanted = judged | set(random.Random(0).sample(others, min(len(others), n_docs - len(judged))))
    rows = [row for row, doc_id in enumerate(data.corpus.doc_ids) if doc_id in wanted]
    return Corpus.from_documents(data.corpus.document(row) for row in rows)


def shown(data: Dataset, corpus: Corpus, label: str, expansion: Expander | None) -> None:
    """Print the quality of BM25 with an expansion, for both ways to count lengths."""
    for counted in ("expanded", "original") if expansion else ("expanded",):
        node = BM25.index(corpus, expansion=expansion, lengths=counted, k=100)
        ranked = {q: {h.doc_id: h.score for h in hits} for q, hits in node(data.queries).items()}
        found = calc_aggregate([nDCG @ 10, R @ 100], data.qrels.judgements, ranked)
        mean = float(node.searchable()[0].bags.lengths().mean())
        scores = f"nDCG@10 {found[nDCG @ 10]:.4f}  R@100 {found[R @ 100]:.4f}"
        print(f"{label:28} {counted:9} {mean:6.1f} terms a document  {scores}", flush=True)


if __name__ == "__main__":
    main()
