"""Any LangChain chat model as a back-end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from limbeck.errors import LLMError
from limbeck.llm.backend import Completion, Completions
from limbeck.llm.refusals import Refused, passing
from limbeck.llm.request import Abandoned, Failed, Request
from limbeck.llm.secrets import Scrubber

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

__all__ = ["LangChain", "name_of"]


def name_of(chat_model: BaseChatModel) -> str:
    """Return class and model name of a chat model, for cassettes and fingerprints."""
    told = getattr(chat_model, "model_name", None) or getattr(chat_model, "model", None)
    return type(chat_model).__name__ + (f"/{told}" if isinstance(told, str) else "")


@dataclass(frozen=True, eq=False)
class LangChain:
    """A chat model; each sample is one `invoke`.

    Attributes:
        sampling: temperature, top_p, max_tokens and seed are given to each `invoke`. Where the
            model does not take them there, they are set on the model itself and this is False.
    """

    chat_model: BaseChatModel
    sampling: bool = True

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return one completion."""
        assert n == 1
        messages = [(message.role, message.content) for message in request.messages]
        given = self._parameters(request, first)
        stop = list(request.stop) or None
        try:
            if listen is None:
                return _completions(self.chat_model.invoke(messages, stop=stop, **given))
            whole: Any = None
            for chunk in self.chat_model.stream(messages, stop=stop, **given):
                whole = chunk if whole is None else whole + chunk
                if chunk.text:
                    listen(str(chunk.text))
            return _completions(whole)
        except (Failed, Abandoned, LLMError):
            raise
        except Exception as error:  # noqa: BLE001 - each provider has errors of its own
            raise _failure(error) from None

    def close(self) -> None:
        """Do nothing: the chat model is its maker's to close."""

    def _parameters(self, request: Request, first: int) -> dict[str, Any]:
        if not self.sampling:
            return {}
        given = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "seed": None if request.seed is None else request.seed + first,
        }
        return {name: value for name, value in given.items() if value is not None}


def _completions(message: AIMessage | None) -> Completions:
    if message is None:
        raise Failed("no choices in the answer")
    usage: Mapping[str, Any] = message.usage_metadata or {}
    finish = message.response_metadata.get("finish_reason")
    made = Completion(str(message.text), finish if isinstance(finish, str) else None)
    return Completions((made,), usage.get("input_tokens"), usage.get("output_tokens"))


def _failure(error: Exception) -> Exception:
    """Return what a provider's error means; most carry the HTTP status."""
    status = getattr(error, "status_code", None)
    name = type(error).__name__
    if isinstance(status, int):
        if passing(status):
            return Failed(f"http {status}")
        what = f"http {status}"
    elif isinstance(error, (TypeError, ValueError, NotImplementedError)):
        what = name
    else:
        return Failed("timeout" if "timeout" in name.lower() else name)
    message = (
        f"the chat model must take the call; it raised {what}: {Scrubber(())(str(error))[:300]}; "
        "look at its key and name; where it takes no temperature, top_p, max_tokens or seed in "
        "invoke, set them on it and use from_langchain(..., sampling=False)"
    )
    return Refused.of(status, str(error), message) if isinstance(status, int) else LLMError(message)
