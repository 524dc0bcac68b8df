"""What every node shares that asks an LLM: its prompt, its checks, its estimate."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from limbeck.errors import Problem, UsageError
from limbeck.llm.model import LLM, Generation
from limbeck.llm.tokenizer import FALLBACK
from limbeck.meter import Usage, charge
from limbeck.pipeline import Given, Node
from limbeck.prompts.template import Template, load_template
from limbeck.prompts.thinking import without_thinking
from limbeck.types import Message

__all__ = ["Asking", "Prompting", "counted", "why_unread"]

_NEEDS = {
    "choices": (
        "answers that an LLM is held to",
        "take one that can be, such as vllm:MODEL, or set read: text",
    ),
    "logprobs": (
        "the log-probabilities of what an LLM says",
        "take one that tells them (name logprobs in its `supports` if it does), or set read: text",
    ),
    "prompt_logprobs": (
        "the log-probabilities of a text that an LLM is given",
        "take one that tells them, such as vllm:MODEL, with prompt_logprobs in its `supports`",
    ),
}
"""What a node reads by a capability, and the mend where an LLM lacks it."""


@dataclass(frozen=True)
class Prompting(Node):
    """A node that asks an LLM; subclasses fill the prompt and read the answers.

    Class attributes:
        places: what the template must have places for.
        extras: what it may have places for besides.
        stop: texts that end an answer.

    Attributes:
        llm: the model.
        task: which of the method's templates is used.
        template: a user message of your own instead, with the same {places}.
        temperature: sampling temperature.
        top_p: share of the probability mass that is sampled from.
        max_tokens: tokens of each answer at most.
    """

    places: ClassVar[frozenset[str]]
    extras: ClassVar[frozenset[str]] = frozenset()
    stop: ClassVar[tuple[str, ...]] = ()

    llm: LLM
    _: KW_ONLY
    task: str = "web"
    template: str | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 128

    def __post_init__(self) -> None:
        self._require_llm()
        self._require_counts("max_tokens")
        if not 0.0 <= self.temperature <= 2.0 or not 0.0 < self.top_p <= 1.0:
            raise UsageError(
                f"temperature of {self.name} must lie in [0, 2] and top_p in (0, 1]; got "
                f"{self.temperature}, {self.top_p}"
            )
        self._require_places()

    def _require_llm(self) -> None:
        given: object = self.llm
        if not isinstance(given, LLM):
            wrapped = f"write LLM({given!r})" if isinstance(given, str) else "give one"
            raise UsageError(f"llm of {self.name} must be an LLM; got {given!r}; {wrapped}")

    def _require_places(self) -> None:
        self.prompt.require(self.places, self.extras, where=self.name)

    def _require_counts(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} of {self.name} must be 1 or more; got {getattr(self, name)}"
                )

    @property
    def prompt(self) -> Template:
        """The template that the prompts are made from."""
        own = self.stored_prompt
        return own if self.template is None else dataclasses.replace(own, user=self.template)

    @property
    def stored_prompt(self) -> Template:
        """The method's own template for the task."""
        return load_template(self.name, self.task)

    @property
    def needs(self) -> frozenset[str]:
        """What the LLM must be able to beyond text."""
        return frozenset()

    @property
    def n_samples(self) -> int:
        """Answers to each prompt."""
        return 1

    def max_prompts(self) -> int:
        """Return how many prompts one query, or one document, may take."""
        return 1

    @abstractmethod
    def max_shown_tokens(self) -> int:
        """Return how long what is always filled into a prompt can become."""

    def max_prompt_tokens(self) -> int:
        """Return how long a prompt can become, by a count that needs no model."""
        written = sum(FALLBACK.count(part) for part in (self.prompt.system, self.prompt.user))
        return written + self.max_shown_tokens() + self.llm.overhead_tokens

    def max_answer_tokens(self) -> int:
        """Return how long an answer can become."""
        return self.max_tokens

    def content(self) -> object:
        """Return the template, so that another wording is another fingerprint."""
        return self.prompt

    def cut(self, text: str, n_tokens: int) -> str:
        """Return the first tokens of a text, its white space folded to single spaces."""
        return self.llm.tokenizer.cut(" ".join(text.split()), n_tokens)

    def generated(
        self,
        prompts: Sequence[tuple[Message, ...]],
        *,
        top_logprobs: int | None = None,
        choices: Sequence[str] = (),
    ) -> list[Generation]:
        """Return what the LLM says to each prompt, in order."""
        return counted(
            self.llm.generate(
                prompts,
                n=self.n_samples,
                temperature=self.temperature,
                top_p=self.top_p,
                max_tokens=self.max_answer_tokens(),
                stop=self.stop,
                top_logprobs=top_logprobs,
                choices=choices,
                label=self.name,
            )
        )

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Examine also whether the LLM can be asked, and can do what is asked of it."""
        after = super().examine(given, place, problems)
        self.examine_llm(place, problems)
        return after

    def examine_llm(self, place: str, problems: list[Problem]) -> None:
        """Append what keeps the LLM from being asked, or from doing what is asked of it."""
        problems += [Problem(place, *found) for found in self.llm.problems()]
        for capability in sorted(self.needs - self.llm.capabilities):
            what, mend = _NEEDS[capability]
            message = f"{self.name} reads {what}, which {self.llm.model} does not support"
            problems.append(Problem(place, message, mend))
        room = self.llm.room
        if room is not None and self.max_prompt_tokens() + self.max_answer_tokens() > room:
            problems.append(Problem(place, *self._too_long(room)))

    def _too_long(self, room: int) -> tuple[str, str]:
        message = (
            f"a prompt of {self.name} may take {self.max_prompt_tokens()} tokens and its answer "
            f"{self.max_answer_tokens()}, and the context of {self.llm.model} holds {room}"
        )
        return message, "lower max_tokens or the tokens shown, or take a larger context"

    def estimate(self, n_queries: int) -> Usage:
        """Return what the calls take at most, if none must be made again.

        Args:
            n_queries: queries asked about, or documents.
        """
        n_prompts = n_queries * self.max_prompts()
        n_calls = n_prompts * math.ceil(self.n_samples / self.llm.width)
        prompt_tokens = n_calls * self.max_prompt_tokens()
        completion_tokens = n_prompts * self.n_samples * self.max_answer_tokens()
        usd = self.llm.cost_usd(prompt_tokens, completion_tokens)
        return Usage(n_calls, prompt_tokens, completion_tokens, usd)


@dataclass(frozen=True)
class Asking(Prompting):
    """A node that asks an LLM about queries.

    Attributes:
        query_tokens: the query is cut to so many tokens in the prompt.
    """

    places: ClassVar[frozenset[str]] = frozenset({"query"})

    query_tokens: int = field(default=128, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("query_tokens")

    def max_shown_tokens(self) -> int:
        """Return how long the query can become."""
        return self.query_tokens


def counted(generations: list[Generation]) -> list[Generation]:
    """Return generations, after their number and that of the answered ones went to the meters."""
    answered = sum(bool(generation.samples) for generation in generations)
    charge(Usage(prompts=len(generations), answered=answered))
    return generations


def why_unread(generation: Generation, wanted: str) -> str:
    """Return in a few words why what is wanted could not be had from a generation."""
    if generation.failure:
        return generation.failure
    if any(map(_only_thinking, generation.texts)):
        return "nothing but <think> in the answer; switch thinking off by `extra` of the LLM"
    return f"no {wanted} in the answer"


def _only_thinking(text: str) -> bool:
    return "think>" in text.lower() and not without_thinking(text).strip()
