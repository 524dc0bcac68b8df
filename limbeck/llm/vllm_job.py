"""A call in vLLM's terms: a request as its sampling parameters, its output as completions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from limbeck.errors import told_by
from limbeck.llm.backend import Completion, Completions
from limbeck.llm.refusals import Refused
from limbeck.llm.request import Failed, Request, Token
from limbeck.llm.scoring import scored

__all__ = ["VLLMJob"]

_SAMPLING = frozenset(
    {"allowed_token_ids", "bad_words", "frequency_penalty", "ignore_eos", "logit_bias", "min_p"}
    | {"include_stop_str_in_output", "min_tokens", "presence_penalty", "repetition_penalty"}
    | {"skip_special_tokens", "spaces_between_special_tokens", "stop_token_ids", "top_k"}
    | {"thinking_token_budget"}
)
"""What the server takes in a request and hands on to `SamplingParams` under the same name."""

_TRANSLATED = frozenset({"chat_template", "chat_template_kwargs", "structured_outputs"})

_LEAST = -9999.0
"""vLLM's server tells it instead of minus infinity, which JSON cannot hold."""


class VLLMJob:
    """Some samples of a request."""

    def __init__(self, request: Request, first: int, n: int) -> None:
        """Keep what is asked for.

        Args:
            request: what is asked.
            first: the number of the first sample.
            n: samples.

        Raises:
            Refused: `extra` names what vLLM does not know.
        """
        self._request = request
        self._first = first
        self._n = n
        self._extra = _known(request)

    def add(self, llm: Any, number: str) -> None:
        """Put it into vLLM's queue under a number.

        Raises:
            Failed: "prompt too long".
            Refused: a parameter or the prompt is not as the model wants it.
        """
        try:
            tokens = self._tokens(llm.get_tokenizer())
            llm.llm_engine.add_request(number, {"prompt_token_ids": tokens}, self._sampling())
        except Exception as error:  # templates and vLLM raise whatever they meet
            if _of_a_dead_engine(error):
                raise
            told = told_by(error)
            raise Refused.of(
                400,
                told,
                f"{self._request.model} must be asked for what vLLM takes; it refuses this: "
                f"{told}; drop or mend the parameter, or shorten the prompt",
            ) from None

    def completions(self, output: Any) -> Completions:
        """Return what vLLM made of it.

        Raises:
            Failed: it is nothing of use.
        """
        try:
            return self._scored(output) if self._request.mode == "score" else self._made(output)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise Failed("nonsense answer") from None

    def _tokens(self, tokenizer: Any) -> list[int]:
        scores = self._request.mode == "score"
        prompt = tokenizer.apply_chat_template(
            [message._asdict() for message in self._request.messages],
            chat_template=self._extra.get("chat_template"),
            tokenize=False,
            add_generation_prompt=not scores,
            continue_final_message=scores,
            **self._extra.get("chat_template_kwargs", {}),
        )
        found: list[int] = tokenizer.encode(prompt, add_special_tokens=False)  # the template's own
        return found

    def _sampling(self) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        request = self._request
        given: dict[str, Any] = {
            "n": self._n,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop": list(request.stop) or None,
            "seed": None if request.seed is None else request.seed + self._first,
            "logprobs": request.top_logprobs,
            "prompt_logprobs": 1 if request.mode == "score" else None,
            "output_kind": RequestOutputKind.FINAL_ONLY,
        }
        given |= {name: self._extra[name] for name in _SAMPLING & self._extra.keys()}
        if "logit_bias" in given:  # the keys of JSON are texts
            given["logit_bias"] = {int(k): float(v) for k, v in given["logit_bias"].items()}
        if form := self._form():
            given["structured_outputs"] = StructuredOutputsParams(**form)
        return SamplingParams(**{k: v for k, v in given.items() if v is not None})

    def _form(self) -> dict[str, Any]:
        """Return what the answer is held to; what the call says stands before `extra`."""
        if self._request.choices:
            return {"choice": list(self._request.choices)}
        if self._request.schema:
            return {"json": self._request.schema}
        return dict(self._extra.get("structured_outputs", {}))

    def _scored(self, output: Any) -> Completions:
        told = {"prompt_logprobs": [_plain(place) for place in output.prompt_logprobs or ()]}
        own = scored(told, self._request.messages[-1].content)
        return Completions((own,), len(output.prompt_token_ids), 0)

    def _made(self, output: Any) -> Completions:
        texts = sorted(output.outputs, key=lambda text: text.index)
        for text in texts:
            if text.finish_reason not in {"stop", "length"}:
                raise Failed(f"vLLM ended it: {text.finish_reason}")
        made = tuple(Completion(text.text, text.finish_reason, self._told(text)) for text in texts)
        tokens = sum(len(text.token_ids) for text in texts)
        return Completions(made, len(output.prompt_token_ids), tokens)

    def _told(self, text: Any) -> tuple[Token, ...] | None:
        if text.logprobs is None:
            return None
        places = zip(text.token_ids, text.logprobs, strict=True)
        return tuple(
            _token(place, token, self._request.top_logprobs or 0) for token, place in places
        )


def _known(request: Request) -> dict[str, Any]:
    """Return the further parameters of a request.

    Raises:
        Refused: one is not known here; vLLM's server would ignore it without a word.
    """
    extra: dict[str, Any] = json.loads(request.extra or "{}")
    allowed = _SAMPLING | _TRANSLATED
    if unknown := sorted(extra.keys() - allowed):
        raise Refused(
            400,
            f"extra of {request.model} must hold what vLLM takes in this process "
            f"({', '.join(sorted(allowed))}); got {', '.join(unknown)}; leave it out",
        )
    return {name: value for name, value in extra.items() if value is not None}


def _of_a_dead_engine(error: Exception) -> bool:
    """Whether it is no refusal; by the name, since vLLM moves its classes about."""
    return type(error).__name__ == "EngineDeadError"


def _plain(place: Mapping[int, Any] | None) -> dict[int, dict[str, Any]] | None:
    """Return the log-probabilities of a place of the prompt as the server would tell them."""
    if place is None:
        return None
    return {
        token: {"decoded_token": told.decoded_token, "logprob": _finite(told.logprob)}
        for token, told in place.items()
    }


def _token(place: Mapping[int, Any] | None, token: int, n_alternatives: int) -> Token:
    """Return a token with its likeliest alternatives; one that is not told is the least likely."""
    place = place or {}
    likeliest = sorted(place.values(), key=lambda told: -told.logprob)[:n_alternatives]
    top = tuple((told.decoded_token or "", _finite(told.logprob)) for told in likeliest)
    own = place.get(token)
    return (
        Token("", _LEAST, top)
        if own is None
        else Token(own.decoded_token or "", _finite(own.logprob), top)
    )


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)
