"""Pointwise: an LLM judges each hit by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.agents.asking import counted
from limbeck.agents.likelihood import label_probabilities, mean_logprob
from limbeck.agents.reranker import LLMReranker, Scores, require_one_of
from limbeck.agents.rounds import Prompt, Steps
from limbeck.errors import LLMError, UsageError
from limbeck.llm.model import Generation
from limbeck.llm.request import Sample
from limbeck.prompts.answers import choice, final_choice
from limbeck.prompts.labels import folded
from limbeck.prompts.tasks import load_for_task
from limbeck.prompts.template import Template
from limbeck.retrieval.scorer import Scorer
from limbeck.types import Message, Query, Run

__all__ = ["Method", "Pointwise", "Read"]

Method = Literal["yes-no", "graded", "query-likelihood"]
Read = Literal["logprobs", "text", "choice", "steps"]

_KINDS = {"yes-no": "probability", "graded": "grade", "query-likelihood": "log-likelihood"}
_LABELS = {"yes-no": ("no", "yes"), "graded": ("0", "1", "2", "3"), "query-likelihood": ()}
_N_LABELS = {"yes-no": range(2, 3), "graded": range(2, 11), "query-likelihood": range(1)}
_READ = {
    "yes-no": ("logprobs", "text", "choice"),
    "graded": ("logprobs", "text", "choice", "steps"),
    "query-likelihood": ("logprobs",),
}
_EVEN = math.log(0.5)
"""The log-likelihood of a query whose tokens are as likely as not: a scale without a middle."""


@dataclass(frozen=True)
class Pointwise(LLMReranker, Scorer):
    """The hits of a run by what an LLM says of each alone: one call a hit, all at once.

    - "yes-no": the probability of yes beside no (kind probability).
    - "graded": the expected grade, the sum over labels of grade times probability (kind grade).
    - "query-likelihood": how likely the query is after the passage, the mean of the
      log-probabilities of its tokens (kind log-likelihood). The LLM must score a text that it is
      given: vLLM does.

    Probabilities are those of the labels beside each other, from the log-probabilities of the first
    token of the answer (`limbeck.agents.likelihood`). The LLM must tell them; where it does not,
    `read` the label from its text, which gives ties.

    Papers: Liang et al., "Holistic Evaluation of Language Models", arXiv 2211.09110 (yes or no);
    Zhuang et al., "Beyond Yes and No", arXiv 2310.14122 (expected relevance); Upadhyay et al.,
    "UMBRELA", arXiv 2406.06519 (scale and steps); Sachan et al., "Improving Passage Retrieval with
    Zero-Shot Question Generation", arXiv 2204.07496 (query likelihood). We differ: the wording is
    ours; a hit without a readable answer keeps its rank, where UMBRELA's code makes it a 0. Above
    the first hit of a query that has one, scores are not below the middle of the scale, since a 0
    would be a no that nobody said: 1/2, the middle grade, a log-likelihood of log 1/2.

    Attributes:
        method: "yes-no", "graded" or "query-likelihood".
        read: "logprobs"; "text", the label in the answer; "choice", likewise, and the server lets
            the answer be nothing but a label; "steps" (graded alone), the label after
            "final score:" in an answer that reasons first, as in UMBRELA.
        labels: what is answered, from the worst to the best, in a template of your own language;
            () is no and yes, or 0 to 3. The grade of a label is its place, from 0.
        top_logprobs: alternatives that are asked for; OpenAI and vLLM tell 20 at most.
        max_tokens: tokens of each answer at most, where its text is read.
    """

    name: ClassVar[str] = "pointwise"
    rehearsed: ClassVar[bool] = False  # other scorers are; a rehearsal must cost nothing
    places: ClassVar[frozenset[str]] = frozenset({"query", "passage"})

    method: Method = field(default="yes-no", kw_only=True)
    read: Read = field(default="logprobs", kw_only=True)
    labels: tuple[str, ...] = field(default=(), kw_only=True)
    top_logprobs: int = field(default=20, kw_only=True)
    max_tokens: int = field(default=512, kw_only=True)

    def __post_init__(self) -> None:
        require_one_of("method of pointwise", self.method, get_args(Method))
        require_one_of(f"read of pointwise with {self.method}", self.read, _READ[self.method])
        object.__setattr__(self, "labels", tuple(self.labels))
        super().__post_init__()
        self._require_counts("top_logprobs")
        self._require_labels()

    def _require_labels(self) -> None:
        if not all(isinstance(label, str) for label in self.labels):
            raise UsageError(
                f"labels of pointwise must be texts; got {self.labels}; write them in quotes, as "
                "('no', 'yes'), or ['no', 'yes'] in YAML, which takes a bare yes for a boolean"
            )
        different = {folded(label) for label in self.labels if label.strip()}
        if self.labels and (
            len(self.labels) not in _N_LABELS[self.method] or len(different) != len(self.labels)
        ):
            raise UsageError(
                "labels of pointwise must be two words with yes-no, two to ten with graded and "
                f"none with query-likelihood, all different; got {self.labels}"
            )

    def _require_places(self) -> None:
        scored = {"query"} if self._scores_query else set()
        self.prompt.require(self.places - scored, self.extras, where=self.name)

    @property
    def _scores_query(self) -> bool:
        return self.method == "query-likelihood"

    @property
    def kind(self) -> str:
        """The kind probability, grade or log-likelihood, by the method."""
        return _KINDS[self.method]

    @property
    def stored_prompt(self) -> Template:
        """The template of the method, in the words of the task."""
        form = "steps" if self.read == "steps" else "any"
        return load_for_task(f"{self.name}-{self.method}", self.task, form=form)

    @property
    def needs(self) -> frozenset[str]:
        """Log-probabilities: of the answer, or of the query that is given."""
        return frozenset({"prompt_logprobs"}) if self._scores_query else super().needs

    @property
    def alternatives(self) -> int | None:
        """Alternatives to read the label from; None: the text."""
        return self.top_logprobs if self.read == "logprobs" else None

    @property
    def held_to(self) -> tuple[str, ...]:
        """The labels, with `read` "choice"."""
        return tuple(self._answered) if self.read == "choice" else ()

    def max_prompts(self) -> int:
        """Return one for each hit."""
        return self.depth

    def max_answer_tokens(self) -> int:
        """Return few where the first ones are read, and where a query is scored one."""
        return 1 if self._scores_query else super().max_answer_tokens()

    def scored(self, query: str, passages: Sequence[str]) -> Steps[Scores]:
        """Return the score of each passage: one round."""
        generations = yield [self._prompt(query, passage) for passage in passages]
        return [self._score(generation) for generation in generations]

    def unknown(self, n: int) -> list[float]:
        """Return the middle of the scale, so that none is taken for a no."""
        return [self._middle] * n

    @property
    def _middle(self) -> float:
        if self._scores_query:
            return _EVEN
        return (len(self._answered) - 1) / 2

    @property
    def _answered(self) -> tuple[str, ...]:
        """What is answered, from the worst to the best."""
        return self.labels or _LABELS[self.method]

    def scores(self, queries: Sequence[Query], run: Run) -> NDArray[np.float32]:
        """Return the score of each hit of a run, as it is told, shape (n_hits,).

        Raises:
            LLMError: a hit has none; who keeps scores must not keep a guess.
        """
        found = self.told(queries, run)
        told = [score for score in found if score is not None]
        if len(told) < len(found):
            raise LLMError(
                f"{self.name} must score each hit where its scores are kept; "
                f"{len(found) - len(told):,} of {len(found):,} have no readable answer; run again "
                "if calls failed, else set another `read`, or give a cross-encoder"
            )
        return np.array(told, dtype=np.float32)

    def ask(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """Return what the LLM says, or what it holds of the query."""
        if self._scores_query:
            return counted(self.llm.score(prompts, label=self.name))
        return super().ask(prompts)

    def _prompt(self, query: str, passage: str) -> Prompt:
        messages = self.prompt.render(query=query, passage=passage)
        return (*messages, Message("assistant", query)) if self._scores_query else messages

    def _score(self, generation: Generation) -> float | None:
        score = self._read(generation.samples[0]) if generation.samples else None
        if score is None:
            wanted = "log-probabilities" if self._scores_query else "label"
            self.unread("a hit kept its rank", generation, wanted)
        return score

    def _read(self, sample: Sample) -> float | None:
        if self._scores_query:
            return mean_logprob(sample)
        if self.read == "steps":
            return final_choice(sample.text, self._answered)
        if self.read in {"text", "choice"}:
            return choice(sample.text, self._answered)
        shares = label_probabilities(sample, self._answered)
        return None if shares is None else sum(i * share for i, share in enumerate(shares))
