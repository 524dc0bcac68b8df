"""The families of back-ends, and what is known of each without asking it."""

from __future__ import annotations

from dataclasses import dataclass

from limbeck.errors import UsageError

__all__ = ["CAPABILITIES", "FAMILIES", "Family", "family_of"]

CAPABILITIES = frozenset({"json_schema", "logprobs", "prompt_logprobs", "seed", "stream"})
"""What a node may ask of an LLM beyond text for messages."""

_CHAT = CAPABILITIES - {"prompt_logprobs"}
"""What OpenAI's chat completions can: they score no text that is given to them."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of back-ends.

    Attributes:
        model_wanted: what stands behind the colon, in words; empty where nothing must.
        base_url: where the server is unless the user says so.
        key_variable: the environment variable that holds the key unless the user names one.
        key_required: a server of the family answers nobody without a key.
        max_tokens: the name of the parameter that bounds a completion.
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
            supports=CAPABILITIES,
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
            "llamacpp",
            "a GGUF file, as in llamacpp:models/qwen.gguf, or llamacpp:smollm2",
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
