"""What a spec says of a language model: plain fields, checked when they are given."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any, Literal, get_args

from limbeck.errors import UsageError
from limbeck.files import content_digest, folder_digest, resolved
from limbeck.fingerprint import canonical_json, fingerprint
from limbeck.llm import llamacpp
from limbeck.llm.addresses import is_own
from limbeck.llm.backend import Backend
from limbeck.llm.families import CAPABILITIES, FAMILIES, Family, family_of
from limbeck.llm.ledger import cost_usd
from limbeck.llm.secrets import is_reference, resolve, unset_variables
from limbeck.llm.serving.command import vllm_problem
from limbeck.llm.serving.engine import FAMILIES_WITH_ENGINE, Engine
from limbeck.llm.tape import tape_path

__all__ = ["CassetteMode", "Settings"]

CassetteMode = Literal["off", "auto", "record", "replay", "strict"]

_SET_BY_GENERATE = frozenset(
    {"logprobs", "max_completion_tokens", "max_tokens", "messages", "model", "n", "response_format"}
    | {"seed", "stop", "stream", "stream_options", "temperature", "top_logprobs", "top_p"}
)
_NOT_GIVEN_BY_LANGCHAIN = frozenset({"choices", "json_schema", "logprobs"})
_OPENAI = "https://api.openai.com/v1"
_OPENAI_VARIABLE = "OPENAI_BASE_URL"
_SCHEME = re.compile(r"https?://|\$\{env:", re.IGNORECASE)
_CREDENTIALS = re.compile(r"://[^/@]*@")


@dataclass(frozen=True)
class Settings:
    """A language model, how it is asked, and what it may use.

    Attributes:
        model: "BACKEND:MODEL"; the back-ends are openai, azure, vllm, vllm-offline, sglang, tgi,
            ollama, llama-server, llamacpp, scripted and langchain.
        engine: how vLLM is started for this LLM alone: with "vllm" as a server of its own, which is
            stopped by `close` and at the end of the program; with "vllm-offline" in this process.
        base_url: where the server is; may be or hold `${env:NAME}`. OpenAI's key is never sent to a
            base_url that was given, unless `api_key` says so.
        api_key: `${env:NAME}`, never the key itself; None is the back-end's usual variable.
        revision: what else tells one state of the model from another: a date, a commit, a setting.
            A model in a folder or a GGUF file of one's own is known by its content unless one is
            given.
        tokenizer_from: "pieces", the path of a tokenizer.json or a model's name on the Hugging Face
            hub; None is the back-end's own tokenizer, or "pieces" where there is none.
        context_length: tokens of a prompt and its completion together; None is not known.
        supports: what the model can beyond text; None is what its back-end usually can.
        price: US dollars for a million prompt tokens and for a million completion tokens.
        cassette: file of recordings; ".jsonl" is added if need be.
        cassette_mode: off; auto replays what is there and records the rest; record calls always;
            replay and strict never call, and a miss is a failure or an error.
        concurrency: requests under way at once; None is what suits the back-end.
        requests_per_minute: requests are spaced so that no minute holds more.
        timeout_s: seconds a call may take; None is 120, or 600 for a server of one's own, whose
            calls wait for each other.
        reconnect_s: how long a server is waited for that answered and then went away: it may be
            starting again.
        retries: tries after a first one that failed in a way that may pass.
        first_wait_s: longest wait before the second try; doubled with each one.
        max_usd: what this LLM may cost in all, while the program runs.
        max_calls: requests it may send in all, retries included.
        max_tokens: prompt and completion tokens it may use in all.
        samples_per_call: samples one request may ask for; None is what the back-end usually can.
        extra: further parameters of each request, such as
            {"chat_template_kwargs": {"enable_thinking": False}}; kept as JSON, and may be given so.
        replies: what the back-end "scripted" says: sample i of each prompt is reply i, in turn.
        backend: a back-end that only Python can give.
    """

    model: str
    _: KW_ONLY
    engine: Engine | None = None
    base_url: str | None = None
    api_key: str | None = None
    revision: str = ""
    tokenizer_from: str | None = None
    context_length: int | None = None
    supports: tuple[str, ...] | None = None
    price: tuple[float, float] | None = None
    cassette: Path | None = None
    cassette_mode: CassetteMode = "auto"
    concurrency: int | None = None
    requests_per_minute: float | None = None
    timeout_s: float | None = None
    reconnect_s: float = 300.0
    retries: int = 5
    first_wait_s: float = 1.0
    max_usd: float | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    samples_per_call: int | None = None
    extra: str | Mapping[str, Any] = ""
    replies: tuple[str, ...] = ()
    backend: Backend | None = field(default=None, repr=False, metadata={"python_only": True})

    def __post_init__(self) -> None:
        family = family_of(self.model)
        if self.cassette is not None:
            object.__setattr__(self, "cassette", Path(self.cassette))
        if self.extra:
            object.__setattr__(self, "extra", _as_json(self.extra))
        if self.context_length is None:
            object.__setattr__(self, "context_length", family.context_length)
        for name in ("supports", "price", "replies"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for complaint in self._complaints():
            raise UsageError(f"{self.model}: {complaint}")
        if self.cassette is not None:
            object.__setattr__(self, "cassette", resolved(self.cassette))

    @property
    def family(self) -> Family:
        """What is known of the back-end."""
        return family_of(self.model)

    @property
    def name(self) -> str:
        """The model without its back-end."""
        return self.model.partition(":")[2]

    @property
    def identity(self) -> str:
        """Back-end and model as they stand in cassettes; a local file by its name alone.

        vLLM says the same by its server and in this process.
        """
        family = self.family.name
        if family == "llamacpp":
            return f"{family}:{llamacpp.gguf_name(self.name)}"
        return self.model if self.loading is None else f"vllm:{self.served_name}"

    @property
    def loading(self) -> Engine | None:
        """How vLLM loads the model for this LLM, None where somebody else serves it."""
        return Engine() if self.engine is None and self.family.loads else self.engine

    @property
    def served_name(self) -> str:
        """What requests call the model; one that is loaded here from a folder by its name alone."""
        is_folder = self.loading is not None and Path(self.name).is_dir()
        return Path(self.name).resolve().name if is_folder else self.name

    @cached_property
    def state(self) -> str:
        """All that tells one state of the model from another, and how it is loaded.

        The revision; without one, of a model in files the digest of what they hold.
        """
        loaded = "" if self.engine is None else self.engine.revision
        return " | ".join(filter(None, (self.revision or self._content, loaded)))

    @property
    def _content(self) -> str:
        """The digest of a model in a folder or a GGUF file, empty where it is in none."""
        path = Path(self.name).expanduser()
        if self.loading is not None and path.is_dir():
            return folder_digest(path)
        is_gguf = self.family.name == "llamacpp" and self.name not in llamacpp.PACKAGED
        return content_digest(path) if is_gguf and path.is_file() else ""

    @property
    def has_server(self) -> bool:
        """Whether somebody else's server answers, which can be asked what it can."""
        served = self.family.base_url or self.family.key_required
        return bool(served or self.base_url) and self.loading is None and not self.calls_nobody

    @property
    def place(self) -> str:
        """Where the server is, as it may be shown: references to the environment stay as they are.

        Empty where there is none.
        """
        if self.base_url is not None:
            return self.base_url
        if self.family.name == "openai":
            return f"${{env:{_OPENAI_VARIABLE}}}" if os.environ.get(_OPENAI_VARIABLE) else _OPENAI
        return self.family.base_url or ""

    @property
    def is_near(self) -> bool:
        """Whether the server is one's own, as far as its address tells: asking it costs nothing."""
        return not unset_variables(self.place) and is_own(resolve(self.place, wanted_by=self.model))

    @property
    def at_once(self) -> int:
        """Requests under way at once."""
        return self.concurrency or self.family.concurrency

    @property
    def deadline_s(self) -> float:
        """Seconds a call may take."""
        return self.timeout_s or self.family.timeout_s

    @property
    def capabilities(self) -> frozenset[str]:
        """What the model can beyond text, of `limbeck.llm.families.CAPABILITIES`."""
        return self.family.supports if self.supports is None else frozenset(self.supports)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that may change a text; where and how the model is asked is left out."""
        return fingerprint(
            {
                "model": self.identity,
                "revision": self.state,
                "extra": self.more,
                "replies": self.replies,
                "tokenizer": self.tokenizer_from,
            }
        )

    @property
    def more(self) -> dict[str, Any]:
        """The further parameters of each request."""
        more: dict[str, Any] = json.loads(str(self.extra) or "{}")
        return more

    @property
    def width(self) -> int:
        """Samples that one request asks for at most."""
        return self.samples_per_call or self.family.samples_per_call

    @property
    def calls_nobody(self) -> bool:
        """Whether all answers come from the cassette."""
        return self.cassette_mode in {"replay", "strict"}

    @property
    def key_variable(self) -> str | None:
        """The environment variable of the key where `api_key` names none.

        None where none is sent: a server of the user's own is not told OpenAI's key.
        """
        if self.family.name == "openai" and self.base_url is not None:
            return None
        return self.family.key_variable

    @property
    def key_from(self) -> str:
        """Where the key comes from, in words."""
        if self.api_key is not None:
            return f"the variable in api_key, {self.api_key}"
        if self.key_variable is None:
            return "api_key='${env:NAME}'"
        return f"the variable {self.key_variable}, or api_key='${{env:NAME}}'"

    @property
    def max_top_logprobs(self) -> int | None:
        """Alternatives that can be asked for, None where it is the server that knows."""
        if self.loading is not None:
            return self.loading.max_logprobs
        elsewhere = self.family.name == "openai" and self.base_url is not None
        return None if elsewhere else self.family.max_top_logprobs

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what tokens cost, 0 where no price is known."""
        return cost_usd(self.price, prompt_tokens, completion_tokens)

    def problems(self) -> list[tuple[str, str]]:
        """Return what would keep a call from being made, each with its mend; nothing is opened."""
        if self.calls_nobody:
            path = tape_path(self._cassette)
            return [] if path.is_file() else [(f"the cassette {path} does not exist", "record it")]
        found = [
            (f"{self.model} needs the environment variable {name}", f"run: export {name}=...")
            for name in self._unset()
        ]
        local = self._local_problem()
        return [*found, local] if local else found

    def _local_problem(self) -> tuple[str, str] | None:
        if self.family.name == "llamacpp":
            return llamacpp.problem(self.name)
        if self.loading is None:
            return None
        return vllm_problem(elsewhere=not self.family.loads)

    @property
    def _cassette(self) -> Path:
        assert self.cassette is not None
        return self.cassette

    def _unset(self) -> tuple[str, ...]:
        named = (self.api_key, self.base_url)
        given = [variable for value in named if value for variable in unset_variables(value)]
        if self.api_key is None and self.family.key_required and self.key_variable:
            given += unset_variables(f"${{env:{self.key_variable}}}")
        return tuple(given)

    def _complaints(self) -> Iterator[str]:
        """Yield what is wrong with the fields, most serious first."""
        yield from self._about_secrets()
        yield from self._about_backend()
        yield from self._about_numbers()
        yield from self._about_names()

    def _about_secrets(self) -> Iterator[str]:
        """The values themselves are not shown: they may be keys."""
        if self.api_key is not None and not is_reference(self.api_key):
            example = self.family.key_variable or "MY_KEY"
            yield (
                f"api_key must be a reference such as '${{env:{example}}}'; got a literal value; "
                "put the key into the environment, and take it out of the file"
            )
        if self.base_url and not _SCHEME.match(self.base_url):
            yield "base_url must begin with http:// or https://; got another beginning; add it"
        if self.base_url is not None and _CREDENTIALS.search(self.base_url):
            yield "base_url must hold no user or password; put the whole URL into the environment"

    def _about_backend(self) -> Iterator[str]:
        family = self.family.name
        yield from self._about_engine()
        without = {"llamacpp", "scripted", "langchain", "vllm-offline"}
        if family in without and (self.base_url or self.api_key):
            yield f"{family} has no server; got base_url or api_key; leave them out"
        if family == "azure" and not self.base_url:
            yield "azure needs base_url='https://RESOURCE.openai.azure.com/openai/v1/'"
        if self.replies and (family != "scripted" or self.backend):
            yield "replies are for scripted models without a function; leave them out"
        if family == "scripted" and not (self.replies or self.backend or self.calls_nobody):
            yield "scripted needs replies=(...), or make it by LLM.scripted(function)"
        if family == "langchain" and not (self.backend or self.calls_nobody):
            yield "langchain models are made in Python, by LLM.from_langchain(chat_model)"
        if family == "langchain" and self.width > 1:
            yield f"langchain gives one sample a call; got samples_per_call={self.width}; drop it"
        if family == "langchain" and (self.extra or self.capabilities & _NOT_GIVEN_BY_LANGCHAIN):
            yield "langchain models are given no extra, log-probabilities or schema; leave them out"

    def _about_engine(self) -> Iterator[str]:
        family = self.family.name
        if self.engine is None:
            return
        if family not in FAMILIES_WITH_ENGINE:
            yield f"engine is for {', '.join(FAMILIES_WITH_ENGINE)}; got it for {family}; drop it"
        elif self.base_url or self.api_key:
            yield "with engine the server is started here; got base_url or api_key; leave them out"
        elif foreign := self.engine.foreign_to(family):
            yield f"engine of {family} has no {', '.join(foreign)}; leave it out"

    def _about_numbers(self) -> Iterator[str]:
        for name in ("concurrency", "samples_per_call", "context_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                yield f"{name} must be 1 or more; got {value}"
        for name in ("requests_per_minute", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= TIMEOUT_MAX:
                yield f"{name} must be above 0 and finite; got {value}"
        for name in (
            "retries",
            "reconnect_s",
            "first_wait_s",
            "max_usd",
            "max_calls",
            "max_tokens",
        ):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                yield f"{name} must be 0 or more; got {value}"
        if self.price is not None and (len(self.price) != 2 or not all(p >= 0 for p in self.price)):
            yield f"price must be two numbers, US dollars for a million tokens; got {self.price}"
        if self.max_usd is not None and self.price is None:
            yield "max_usd needs price=(prompt, completion); got none; give what the model costs"

    def _about_names(self) -> Iterator[str]:
        if "choices" in (self.supports or ()) and not (self.family.choices or self.backend):
            held = ", ".join(name for name, family in FAMILIES.items() if family.choices)
            yield (
                f"{self.family.name} has no parameter that holds an answer to choices; got "
                f"supports with choices; name the server's own back-end, if it is of {held}"
            )
        if self.cassette_mode not in get_args(CassetteMode):
            modes = ", ".join(get_args(CassetteMode))
            yield f"cassette_mode must be one of {modes}; got {self.cassette_mode!r}"
        if self.cassette is not None and not self.cassette.name:
            yield f"cassette must name a file; got {str(self.cassette)!r}; give tapes/NAME"
        if self.cassette is None and self.cassette_mode not in {"off", "auto"}:
            yield f"cassette_mode {self.cassette_mode!r} needs cassette=PATH; got none"
        unknown = sorted(self.capabilities - CAPABILITIES)
        if unknown:
            yield f"supports may name {', '.join(sorted(CAPABILITIES))}; got {', '.join(unknown)}"
        if self.extra:
            yield from _about_extra(str(self.extra))


def _as_json(extra: str | Mapping[str, Any]) -> str:
    """Return further parameters as canonical JSON; what is none is left for the complaints."""
    try:
        return canonical_json(json.loads(extra) if isinstance(extra, str) else extra)
    except (ValueError, UsageError):
        return str(extra)


def _about_extra(extra: str) -> Iterator[str]:
    try:
        given: Any = json.loads(extra)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        yield f"extra must be a mapping, or a JSON object; got {extra!r}"
    elif taken := sorted(_SET_BY_GENERATE & given.keys()):
        yield f"extra must not hold {', '.join(taken)}; they are given to generate"
    elif gone := sorted(name for name in given if name.startswith("guided_")):
        yield (
            f"extra must not hold {', '.join(gone)}: vLLM removed them, and newer servers ignore "
            "them without a word; use structured_outputs"
        )
