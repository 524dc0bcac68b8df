"""What a back-end is, and the innermost layer of the gate, which asks one and counts its tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from limbeck.errors import LimbeckError
from limbeck.llm.request import (
    ABANDONED,
    Abandoned,
    Call,
    Failed,
    Reply,
    Request,
    Sample,
    Token,
    encodable,
)
from limbeck.llm.tokenizer import FALLBACK, Tokenizer, count_prompt

__all__ = ["Asked", "Backend", "Completion", "Completions"]


@dataclass(frozen=True, slots=True)
class Completion:
    """One text of a model, and why it ended."""

    text: str
    finish: str | None = None
    logprobs: tuple[Token, ...] | None = None


@dataclass(frozen=True, slots=True)
class Completions:
    """What one call of a back-end gave; the tokens are None where it does not count them."""

    completions: tuple[Completion, ...]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Backend(Protocol):
    """A way to a model. Calls come from many threads."""

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return up to n completions, the first of which is the request's sample number `first`.

        With a listener n is 1, and the listener is told the text as it comes.

        Raises:
            Failed: no answer came; it says whether another try may help.
            LLMError: no try will help; the message holds the mend.
        """
        ...

    def close(self) -> None:
        """Give back connections and processes; a later call opens them again."""
        ...


class Asked:
    """The layer that asks the back-end; usage that it does not report is counted and so marked."""

    def __init__(self, backend: Backend, tokenizer: Callable[[], Tokenizer]) -> None:
        """Use a back-end, and for calls without usage the tokenizer that the function returns."""
        self._backend = backend
        self._tokenizer = tokenizer

    def __call__(self, call: Call) -> Reply:
        """Return the samples of the call's indices, fewer where the back-end gave fewer."""
        told, heard = call.overheard()
        try:
            made = self._backend.complete(
                call.request, call.indices[0], len(call.indices), told.listen
            )
        except Abandoned:
            return self._broken(call, heard, ABANDONED)
        except Failed as error:
            if not heard:
                raise
            return self._broken(call, heard, error.reason)
        return self._reply(call, made)

    def _broken(self, call: Call, heard: list[str], failure: str) -> Reply:
        """Return what a stream took that was not heard to its end."""
        prompt, completion = self._counted(call.request, "".join(heard))
        return Reply({}, failure, prompt, completion)

    def _counted(self, request: Request, *texts: str) -> tuple[int, int]:
        """Return the tokens of a request and of texts; a lost tokenizer costs no answer."""
        try:
            return _count(self._tokenizer(), request, texts)
        except LimbeckError:
            return _count(FALLBACK, request, texts)

    def _reply(self, call: Call, made: Completions) -> Reply:
        completions = made.completions[: len(call.indices)]
        prompt, completion = made.prompt_tokens, made.completion_tokens
        estimated = prompt is None or completion is None
        if prompt is None or completion is None:
            said = completions if not call.request.mode else ()  # what is scored was not said
            prompt, completion = self._counted(call.request, *(made.text for made in said))
        share, rest = divmod(completion, max(len(completions), 1))
        samples = {
            index: Sample(
                encodable(made.text),
                made.finish,
                prompt_tokens=0 if position else prompt,
                completion_tokens=share + (0 if position else rest),
                estimated=estimated,
                logprobs=made.logprobs,
            )
            for position, (index, made) in enumerate(zip(call.indices, completions, strict=False))
        }
        return Reply(samples, None, prompt, completion)


def _count(tokenizer: Tokenizer, request: Request, texts: Iterable[str]) -> tuple[int, int]:
    return count_prompt(tokenizer, request.messages), sum(map(tokenizer.count, texts))
