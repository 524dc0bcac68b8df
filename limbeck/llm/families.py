"""The families of back-ends, and what is known of each without asking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from limbeck.errors import UsageError

__all__ = ["CAPABILITIES", "FAMILIES", "Family", "family_of"]

CAPABILITIES = frozenset(
    {"choices", "json_schema", "logprobs", "prompt_logprobs", "seed", "stream"}
)
"""What a node may ask of an LLM beyond text for messages."""

_CHAT = CAPABILITIES - {"choices", "prompt_logprobs"}
"""What OpenAI's chat completions can: they score no text that is given to them, and cannot be held
to one of some texts.
"""

_QUEUE_S = 600.0
"""What a call to a server of one's own may take: most of it is waiting for others to be done."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of back-ends.

    Attributes:
        model_wanted: what stands behind the colon, in words; empty where nothing must.
        base_url: where the server is unless the user says so.
        key_variable: the environment variable that holds the key unless the user names one.
        key_required: a server of the family answers nobody without a key.
        max_tokens: the name of the parameter that bounds a completion.
        choices: how a completion is held to one of some texts: by vLLM's `structured_outputs`, by a
            `regex` or by a `grammar` in llama.cpp's notation; empty where it cannot be.
        concurrency: requests under way at once unless the user says how many.
        timeout_s: seconds a call may take unless the user says how many.
        loads: the model is loaded in this process, by vLLM.
        samples_per_call: completions that one request may ask for.
        context_length: tokens of prompt and completion together, None where the model decides.
        max_top_logprobs: alternatives that are told for a token at most, None where the server
            decides, as one of vLLM does by --max-logprobs, 20 unless given.
    """

    name: str
    model_wanted: str = ""
    base_url: str | None = None
    key_variable: str | None = None
    key_required: bool = False
    max_tokens: str = "max_tokens"
    choices: Literal["", "structured_outputs", "regex", "grammar"] = ""
    concurrency: int = 16
    timeout_s: float = 120.0
    loads: bool = False
    supports: frozenset[str] = _CHAT
    samples_per_call: int = 128
    context_length: int | None = None
    max_top_logprobs: int | None = None


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "openai",
            "a model, as in openai:gpt-4.1-mini",
            key_variable="OPENAI_API_KEY",
            key_required=True,
            max_tokens="max_completion_tokens",
            max_top_logprobs=20,
        ),
        Family(
            "azure",
            "a deployment, as in azure:my-gpt-4.1",
            key_variable="AZURE_OPENAI_API_KEY",
            key_required=True,
            max_tokens="max_completion_tokens",
            max_top_logprobs=20,
        ),
        Family(
            "vllm",
            "a served model, as in vllm:Qwen/Qwen3-8B",
            base_url="http://127.0.0.1:8000/v1",
            key_variable="VLLM_API_KEY",
            choices="structured_outputs",
            concurrency=64,
            timeout_s=_QUEUE_S,
            supports=CAPABILITIES,
        ),
        Family(
            "vllm-offline",
            "a model to load, as in vllm-offline:Qwen/Qwen3-8B",
            choices="structured_outputs",
            concurrency=1024,  # what vLLM's scheduler may choose from
            loads=True,
            supports=CAPABILITIES,
        ),
        Family(
            "sglang",
            "a served model, as in sglang:Qwen/Qwen3-8B",
            base_url="http://127.0.0.1:30000/v1",
            key_variable="SGLANG_API_KEY",
            choices="regex",
            concurrency=64,
            timeout_s=_QUEUE_S,
            supports=_CHAT | {"choices"},
        ),
        Family(
            "tgi",
            "a name, as in tgi:tgi",
            base_url="http://127.0.0.1:8080/v1",
            key_variable="TGI_API_KEY",
            concurrency=64,
            timeout_s=_QUEUE_S,
            samples_per_call=1,
            max_top_logprobs=5,
        ),
        Family(
            "ollama",
            "a pulled model, as in ollama:qwen3:8b",
            base_url="http://127.0.0.1:11434/v1",
            key_variable="OLLAMA_API_KEY",
            supports=_CHAT - {"logprobs"},
            samples_per_call=1,
        ),
        Family(
            "llama-server",
            "a name, as in llama-server:qwen3",
            base_url="http://127.0.0.1:8080/v1",
            key_variable="LLAMA_API_KEY",
            choices="grammar",
            supports=_CHAT | {"choices"},
            timeout_s=_QUEUE_S,
            samples_per_call=1,
        ),
        Family(
            "llamacpp",
            "a GGUF file, as in llamacpp:models/qwen.gguf, or llamacpp:smollm2",
            choices="grammar",
            supports=_CHAT | {"choices"},
            samples_per_call=1,
            context_length=4096,
        ),
        Family("scripted", supports=frozenset({"seed", "stream"})),
        Family(
            "langchain",
            "a name; make it by LLM.from_langchain",
            supports=frozenset({"stream"}),
            samples_per_call=1,
        ),
    )
}


def family_of(model: str) -> Family:
    """Return the family that a model's name begins with.

    Raises:
        UsageError: there is no such family, or no model behind it.
    """
    name, colon, rest = model.partition(":")
    family = FAMILIES.get(name)
    if family is None or not colon or (family.model_wanted and not rest):
        wanted = family.model_wanted if family else f"BACKEND:MODEL with {', '.join(FAMILIES)}"
        raise UsageError(f"an LLM must be {wanted}; got {model!r}; name the back-end and the model")
    return family
