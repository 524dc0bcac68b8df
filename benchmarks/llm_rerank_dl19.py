"""Rerank BM25's first 100 on TREC DL 2019 by recorded labels of GPT-4 and GPT-4o, as scripted LLMs.

    python -m benchmarks.llm_rerank_dl19 ../shared/data [--all-pairs]

A script recognises the query and the passages in a prompt and answers as the recorded judge did:
with UMBRELA's grade, with yes or no, with the preferred one of two, or, for the other modes, with
the order of UMBRELA's grades. What a judge never saw has the grade 0, is no, or is a tie. Prints
nDCG@10, and the calls and seconds of each query.

The pairs of GPT-4o are no measure of a judge: their documents are exactly those that people graded
1 or more, so that to be in a pair at all gives the relevance away. "Compared at all" prefers by
that alone: what it reaches over BM25 is no judgement's merit.

The notes beside the project have .441 for BM25 and .729 after reranking by UMBRELA's grades. Their
terms differ from Lucene's ("us" is stemmed to "u", "_____" is a term): `notes_bm25` is the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import Stemmer

from benchmarks.reference_numbers import measured
from limbeck import BM25, LLM, Dataset, Listwise, Pairwise, Pointwise, Setwise
from limbeck.llm.backend import Completion
from limbeck.llm.request import Token
from limbeck.pipeline import Node
from limbeck.retrieval.analysis import ENGLISH_STOPWORDS
from limbeck.trec import read_qrels
from limbeck.types import Message

COLLECTION = "trec-dl19-judged"
_QUERY = re.compile(r"^The query: (.*)$", re.MULTILINE)
_PASSAGE = re.compile(r"^(?:The passage: |Passage [A-Z]: |\[\d+\] )(.*)$", re.MULTILINE)
_WORD = re.compile(r"\w+(?:['’]\w+)*")


class Judge:
    """The recorded judgements, and scripts that answer prompts by them."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._dataset = Dataset.load(data / "beir" / COLLECTION)
        self._queries = {_plain(query.text): query.query_id for query in self._dataset.queries}
        self._docs: dict[str, list[str]] = defaultdict(list)
        for document in self._dataset.corpus.documents():
            self._docs[_plain(document.contents)].append(document.doc_id)

    @cached_property
    def _grades(self) -> Mapping[str, Mapping[str, int]]:
        return self._labels("umbrela-gpt4.dl19.qrels")

    @cached_property
    def _relevant(self) -> Mapping[str, Mapping[str, int]]:
        return self._labels("binary-gpt4o.dl19.qrels")

    @cached_property
    def _preferred(self) -> Counter[tuple[str, str, str]]:
        """How often a document was preferred to another one for a query."""
        return Counter(preferences(self._data))

    @cached_property
    def _compared(self) -> set[tuple[str, str]]:
        """The queries and documents of all preferences."""
        return {(query, doc) for query, *pair in self._preferred for doc in pair}

    def _labels(self, name: str) -> Mapping[str, Mapping[str, int]]:
        return read_qrels(self._data / "judgments" / name).judgements

    def _asked(self, messages: Sequence[Message]) -> tuple[str, list[list[str]]]:
        """Return the query of a prompt, and the documents that each passage may be."""
        text = messages[-1].content
        query = self._queries[_QUERY.findall(text)[0]]
        return query, [self._docs[_plain(passage)] for passage in _PASSAGE.findall(text)]

    def _judged(
        self, messages: Sequence[Message], labels: Mapping[str, Mapping[str, int]]
    ) -> list[int]:
        query, passages = self._asked(messages)
        if not all(passages):
            raise LookupError(f"a passage that is not in the corpus: {messages[-1].content}")
        return [max(labels[query].get(doc, 0) for doc in docs) for docs in passages]

    def grades(self, messages: Sequence[Message], _: int) -> str:
        """Grade a passage as UMBRELA did."""
        (grade,) = self._judged(messages, self._grades)
        return f"##final score: {grade}"

    def is_relevant(self, messages: Sequence[Message], _: int) -> Completion:
        """Say yes or no as GPT-4o did, with a certainty of nine in ten."""
        (label,) = self._judged(messages, self._relevant)
        said, other = ("Yes", "No") if label else ("No", "Yes")
        top = ((said, math.log(0.9)), (other, math.log(0.1)))
        return Completion(said, "stop", (Token(*top[0], top),))

    def prefers(self, messages: Sequence[Message], _: int) -> str:
        """Prefer as GPT-4o did; where it was not asked, always the one that is shown first."""
        query, (first, second) = self._asked(messages)
        forth = sum(self._preferred[query, one, other] for one in first for other in second)
        back = sum(self._preferred[query, other, one] for one in first for other in second)
        return "B" if back > forth else "A"

    def was_compared(self, messages: Sequence[Message], _: int) -> str:
        """Prefer the passage that GPT-4o was asked about at all, whatever it said."""
        query, shown = self._asked(messages)
        known = [any((query, doc) in self._compared for doc in docs) for docs in shown]
        return "B" if known == [False, True] else "A"

    def picks(self, messages: Sequence[Message], _: int) -> str:
        """Pick the passage with the best grade, the first of equal ones."""
        grades = self._judged(messages, self._grades)
        return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[grades.index(max(grades))]

    def ranks(self, messages: Sequence[Message], _: int) -> str:
        """Rank passages by their grades, equal ones as they are shown."""
        grades = self._judged(messages, self._grades)
        order = sorted(range(len(grades)), key=lambda place: -grades[place])
        return " > ".join(f"[{place + 1}]" for place in order)


def preferences(data: Path) -> list[tuple[str, str, str]]:
    """Return each recorded preference: the query, the document preferred, and the other one."""
    path = data / "judgments" / "gpt4o-pairwise.dl19.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(query, one, other) for query, one, other in map(str.split, lines)]


def _plain(text: str) -> str:
    """Return a text as prompts show it: one line, "[3]" as "(3)"."""
    return re.sub(r"\[(\d{1,4})\]", r"(\1)", " ".join(text.split()))


def notes_bm25() -> BM25:
    """Return BM25 with the terms of the notes' own: words by a pattern, Snowball's "porter"."""
    stemmer = Stemmer.Stemmer("porter")

    def terms(text: str) -> list[str]:
        words = (re.sub("['’]s$", "", word) for word in _WORD.findall(text.lower()))
        return [stemmer.stemWord(word) for word in words if word not in ENGLISH_STOPWORDS]

    terms.fingerprint = "words, possessive, 33 stop words, snowball porter"  # type: ignore[attr-defined]
    return BM25(analyzer=terms)


def pipelines(data: Path, *, all_pairs_depth: int = 20) -> dict[str, Node]:
    """Return BM25, and each mode after it."""
    judge, bm25 = Judge(data), BM25().top(100)
    grading = LLM.scripted(judge.grades, name="umbrela-grades")
    picking = LLM.scripted(judge.picks, name="umbrela-picks")
    ranking = LLM.scripted(judge.ranks, name="umbrela-ranks")
    preferring = LLM.scripted(judge.prefers, name="gpt-4o-prefers")
    compared = LLM.scripted(judge.was_compared, name="gpt-4o-was-asked")
    sure = LLM.scripted(judge.is_relevant, name="gpt-4o-is-relevant")
    sure = dataclasses.replace(sure, supports=("logprobs",))
    nodes: dict[str, Node] = {
        "UMBRELA graded": Pointwise(grading, method="graded", read="steps"),
        "UMBRELA listwise": Listwise(ranking),
        "UMBRELA listwise, 3 repeats": Listwise(ranking, repeats=3),
        "UMBRELA setwise heap": Setwise(picking),
        "UMBRELA setwise bubble": Setwise(picking, method="bubble"),
        "UMBRELA pairwise heap": Pairwise(picking),
        "UMBRELA pairwise sliding": Pairwise(picking, method="sliding"),
        "GPT-4o yes or no": Pointwise(sure),
        "GPT-4o yes or no, text": Pointwise(sure, read="text"),
        "GPT-4o preferences, heap": Pairwise(preferring),
        "GPT-4o preferences, sliding": Pairwise(preferring, method="sliding"),
        f"GPT-4o preferences, all pairs of {all_pairs_depth}": Pairwise(
            preferring, method="all-pairs", depth=all_pairs_depth
        ),
        f"compared at all, all pairs of {all_pairs_depth}": Pairwise(
            compared, method="all-pairs", depth=all_pairs_depth
        ),
    }
    graded = nodes["UMBRELA graded"]
    return {
        "BM25": bm25,
        **{name: bm25 >> node for name, node in nodes.items()},
        "BM25 of the notes": notes_bm25().top(100),
        "BM25 of the notes, UMBRELA graded": notes_bm25().top(100) >> graded,
    }


def lines(data: Path, *, all_pairs_depth: int) -> Iterator[str]:
    """Yield a line of a Markdown table for each pipeline."""
    result = measured(data, COLLECTION, pipelines(data, all_pairs_depth=all_pairs_depth))
    for pipeline in result.pipelines:
        score, outcome = pipeline.scores["nDCG@10"], pipeline.outcome
        n = len(pipeline.outcome.run)
        calls = sum(step.usage.calls for step in outcome.steps) / n
        yield (
            f"| {pipeline.name} | {score.mean:.4f} | {score.low:.3f}–{score.high:.3f} | "
            f"{calls:.1f} | {outcome.seconds / n:.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder with beir/ and judgments/")
    parser.add_argument("--all-pairs", action="store_true", help="of 100 hits: minutes")
    options = parser.parse_args()
    print("| pipeline | nDCG@10 | 95 % | calls a query | seconds a query |")
    print("|---|---|---|---|---|")
    for line in lines(options.data, all_pairs_depth=100 if options.all_pairs else 20):
        print(line, flush=True)


if __name__ == "__main__":
    main()
