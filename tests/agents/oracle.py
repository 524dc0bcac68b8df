"""A planted list: documents of known worth, in a shuffled run, and LLMs that know or only guess."""

from __future__ import annotations

import dataclasses
import math
import random
import re
import threading
from collections.abc import Callable, Sequence

import numpy as np

from limbeck.corpus import Corpus
from limbeck.llm.backend import Completion
from limbeck.llm.model import LLM
from limbeck.llm.request import Failed, Token
from limbeck.types import Message, Run

SIZE = 48
CORPUS = Corpus.from_documents(
    {"_id": f"d{worth:02}", "text": f"A passage of worth {worth}."} for worth in range(SIZE)
)
ALL = ("logprobs", "prompt_logprobs", "seed", "stream")


def shuffled(n: int, *, queries: Sequence[str] = ("1",), seed: int = 5) -> Run:
    """A run of the n documents of most worth for each query, in an order of chance."""
    draw = random.Random(seed)
    rows = [draw.sample(range(n), n) for _ in queries]  # by the tie rule d47 is row 0
    return Run(
        tuple(queries),
        n * np.arange(len(queries) + 1, dtype=np.int64),
        np.array(rows, dtype=np.int32).reshape(-1),
        np.tile(np.arange(n, 0, -1, dtype=np.float32), len(queries)),
        "bm25",
        CORPUS,
    )


def worths(run: Run, query: int | str = 0) -> list[int]:
    """The worth of each hit, in the order of the run."""
    return [int(hit.doc_id[1:]) for hit in run.hits(query)]


def shown(messages: Sequence[Message]) -> list[int]:
    """The worth of each passage of a prompt, in the order in which they are shown."""
    text = "\n".join(message.content for message in messages)
    return [int(worth) for worth in re.findall(r"worth (\d+)", text)]


def ranks(messages, sample) -> str:
    """Rank all passages rightly."""
    seen = shown(messages)
    places = sorted(range(len(seen)), key=lambda place: -seen[place])
    return " > ".join(f"[{place + 1}]" for place in places)


def picks(messages, sample) -> Completion:
    """Name the letter of the best passage, and be sure of it."""
    seen = shown(messages)
    letter = "ABCDEFGHJKLMNPQRSTUVWXYZ"[seen.index(max(seen))]
    return Completion(letter, "stop", (Token(letter, -0.1, ((letter, -0.1), (" Z", -3.0))),))


def says_yes(messages, sample) -> Completion:
    """Say yes with a probability that grows with the worth."""
    (worth,) = shown(messages)
    p = (worth + 1) / (SIZE + 2)
    top = ((" Yes", math.log(p / 2)), ("yes", math.log(p / 2)), ("No", math.log(1 - p)))
    return Completion("Yes" if p > 0.5 else "No", "stop", (Token(*top[0], top),))


def grades(messages, sample) -> Completion:
    """Grade 0 to 3 by probabilities; the text is the likeliest."""
    (worth,) = shown(messages)
    expected = 3 * (worth + 1) / (SIZE + 2)
    low = int(expected)
    top = (
        (f" {low}", math.log(low + 1 - expected)),
        (str(low + 1), math.log(expected - low or 1e-9)),
    )
    return Completion(str(round(expected)), "stop", (Token(*top[0], top),))


def reasons(messages, sample) -> str:
    """Grade at the end of an answer that names other numbers before."""
    return f"M: 3, T: 0.\nSo, of 3 points:\n##final score: {grades(messages, sample).text}"


def asks_for_it(messages, sample) -> Completion:
    """Hold the query the likelier, the more the passage is worth."""
    (worth,) = shown(messages)
    words = messages[-1].content.split()
    return Completion(" ".join(words), "stop", tuple(Token(w, worth - 60.0) for w in words))


def silent(messages, sample) -> str:
    """Give no answer."""
    raise Failed("http 500")


class Noisy:
    """Answers by chance: wrong, torn, invented, empty of meaning, or not at all."""

    def __init__(self, seed: int = 0) -> None:
        self._draw = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, messages, sample) -> str | Completion:
        with self._lock:
            draw = self._draw.random()
            some = [self._draw.randrange(60) for _ in range(8)]
        answers: list[str | Completion] = [
            " > ".join(f"[{n}]" for n in some),
            f"Sure! [{some[0]}] > [{some[0]}] > [{some[1]}",
            "A",
            "B is better than A",
            "I cannot say.",
            Completion("no", None, (Token(" no", -0.2, ((" no", -0.2), ("2", -3.0))),)),
            Completion("?", None, ()),
            Completion("Hm", "length", (Token("\n", -1.0), Token("Hm", -1.0))),
        ]
        if draw < 0.2:
            raise Failed("http 500")
        return answers[int(draw * 1000) % len(answers)]


class Heard:
    """Keeps the prompts that were sent, and answers by another script."""

    def __init__(self, script: Callable) -> None:
        self.prompts: list[str] = []
        self.batches: list[int] = []
        self._script = script

    def __call__(self, messages, sample):
        self.prompts.append(messages[-1].content)
        return self._script(messages, sample)


def llm(script: Callable, **fields: object) -> LLM:
    """An LLM that answers by a script, can all, and tries once."""
    fields = {"retries": 0, "supports": ALL, **fields}
    return dataclasses.replace(LLM.scripted(script), **fields)
