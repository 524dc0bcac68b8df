"""Any server with OpenAI's chat completions, by the openai SDK.

The bodies of plain answers are read here, byte by byte, and not by the SDK: so a server that
trickles is left in time and its connection closed, and an answer that is no JSON or lacks its parts
is told as what it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from limbeck.errors import LLMError, UsageError
from limbeck.llm.backend import Completion, Completions
from limbeck.llm.choices import chosen_from
from limbeck.llm.refusals import Refused, passing, retry_after_s
from limbeck.llm.request import Abandoned, Failed, Request, Token
from limbeck.llm.scoring import scored, scoring_body
from limbeck.llm.secrets import Scrubber

if TYPE_CHECKING:
    import openai

__all__ = ["OpenAICompatible"]

_LONGEST_MESSAGE = 300
_MENDS = {
    400: "mend or drop the parameter that it names, or shorten the prompt",
    402: "pay the account's bill",
    404: "look at the model's name and at base_url, which mostly ends with /v1",
    422: "mend or drop the parameter that it names",
}
_LAST_MEND = "look at base_url"


class OpenAICompatible:
    """The back-end of the families openai, azure, vllm, ollama and llamacpp."""

    def __init__(
        self,
        model: str,
        *,
        connect: Callable[[], tuple[str, str]],
        timeout_s: float,
        max_tokens: str = "max_tokens",
        choices: str = "",
        key_from: str = "",
        trust_env: bool = True,
    ) -> None:
        """Keep what a connection needs; none is opened before the first call.

        Args:
            model: the name that the server knows.
            connect: returns the base URL and the key.
            timeout_s: seconds a call may take.
            max_tokens: the name of the parameter that bounds a completion.
            choices: the parameter that holds a completion to one of some texts.
            key_from: where the key comes from, for messages.
            trust_env: whether proxies of the environment are used.
        """
        self._model = model
        self._connect = connect
        self._timeout_s = timeout_s
        self._max_tokens = max_tokens
        self._choices = choices
        self._key_from = key_from
        self._trust_env = trust_env
        self._lock = Lock()
        self._open: openai.OpenAI | None = None
        self._scrub = Scrubber(())

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return the completions of one request to the server."""
        client = self._client()
        body = self._body(request, first, n)
        with self._told():
            if request.mode == "score":
                answer = self._answer(client, scoring_body(body))
                return Completions((scored(answer, request.messages[-1].content),), *_usage(answer))
            if listen is None:
                return _completions(self._answer(client, body))
            return self._streamed(client, body, listen)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._open = self._open, None
        if client is not None:
            client.close()

    def _client(self) -> openai.OpenAI:
        with self._lock:
            self._open = self._open or self._connected()
            return self._open

    def _connected(self) -> openai.OpenAI:
        import openai

        base_url, key = self._connect()
        self._scrub = Scrubber((key,))
        http = None if self._trust_env else openai.DefaultHttpxClient(trust_env=False)
        try:
            return openai.OpenAI(
                api_key=key,
                base_url=base_url,
                timeout=self._timeout_s,
                max_retries=0,
                http_client=http,
            )
        except Exception as error:  # noqa: BLE001 - URLs are read by the HTTP library
            raise UsageError(
                f"{self._model} needs a base_url such as http://127.0.0.1:8000/v1; the one given "
                f"cannot be read ({type(error).__name__}); mend it"
            ) from None

    def _body(self, request: Request, first: int, n: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [message._asdict() for message in request.messages],
            self._max_tokens: request.max_tokens,
        }
        if n > 1:
            body["n"] = n
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop"] = list(request.stop)
        if request.seed is not None:
            body["seed"] = request.seed + first
        if request.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.schema:
            schema = {"name": "answer", "strict": True, "schema": json.loads(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        more = json.loads(request.extra or "{}")
        if request.choices:
            more |= chosen_from(request.choices, self._choices)
        if more:
            body["extra_body"] = more
        return body

    def _answer(self, client: openai.OpenAI, body: dict[str, Any]) -> object:
        ends_at = time.monotonic() + self._timeout_s
        read = bytearray()
        with client.chat.completions.with_streaming_response.create(**body) as response:
            for part in response.iter_bytes():
                read += part
                _in_time(ends_at)
        try:
            return json.loads(read)
        except ValueError:
            raise Failed("nonsense answer") from None

    def _streamed(
        self, client: openai.OpenAI, body: dict[str, Any], listen: Callable[[str], None]
    ) -> Completions:
        ends_at = time.monotonic() + self._timeout_s
        heard = _Heard()
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        with client.chat.completions.create(**body) as chunks:
            for chunk in chunks:
                delta = heard.take(chunk.model_dump(warnings=False))
                if delta:
                    listen(delta)
                _in_time(ends_at)
        return heard.completions()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the errors of the SDK, and of the HTTP library below it, into ours.

        They are not chained: what they hold of the request may hold the key.
        """
        import openai

        try:
            yield
        except (Failed, Abandoned, LLMError):
            raise
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except openai.APITimeoutError:
            raise Failed("timeout") from None
        except openai.APIConnectionError:
            raise Failed("no connection") from None
        except openai.APIError as error:
            raise Failed(f"error in the stream: {self._short(str(error))}") from None
        except Exception as error:  # noqa: BLE001 - while a body is read, the errors of httpx come
            raise Failed(_reason(error)) from None

    def _refused(self, error: openai.APIStatusError) -> Exception:
        """Return what a status means: a failure of this call, or an end of all."""
        status = error.status_code
        if error.code == "content_filter":
            return Failed("content filter", retry=False)
        if passing(status) and error.code != "insufficient_quota":
            return Failed(f"http {status}", retry_after_s=retry_after_s(error.response.headers))
        if status in {401, 403}:
            mend = f"give a key that may use this model by {self._key_from or 'api_key'}"
        else:
            mend = "top up the account" if status == 429 else _MENDS.get(status, _LAST_MEND)
        return Refused.of(
            status,
            f"{error.code} {error.message}",
            f"{self._model} must be served to us; the server answered http {status}: "
            f"{self._short(error.message)}; {mend}",
        )

    def _short(self, message: str) -> str:
        return " ".join(self._scrub(message).split())[:_LONGEST_MESSAGE]


def _reason(error: Exception) -> str:
    if "timeout" in type(error).__name__.lower():
        return "timeout"
    return "nonsense answer" if isinstance(error, ValueError) else "connection broken"


def _in_time(ends_at: float) -> None:
    if time.monotonic() > ends_at:
        raise Failed("timeout")


def _completions(answer: object) -> Completions:
    """Return the completions of a parsed answer.

    Raises:
        Failed: the answer has not the parts that it must have.
    """
    try:
        assert isinstance(answer, dict)
        choices = sorted(answer["choices"], key=lambda choice: choice.get("index") or 0)
        made = tuple(_completion(choice) for choice in choices)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise Failed("nonsense answer") from None
    if not made:
        raise Failed("no choices in the answer")
    return Completions(made, *_usage(answer))


def _completion(choice: Mapping[str, Any]) -> Completion:
    content = choice["message"].get("content") or ""
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    if not isinstance(content, str):
        raise TypeError(content)
    finish = choice.get("finish_reason")
    tokens = (choice.get("logprobs") or {}).get("content")
    return Completion(content, finish, None if tokens is None else tuple(map(_token, tokens)))


def _token(told: Mapping[str, Any]) -> Token:
    top = tuple((str(t["token"]), float(t["logprob"])) for t in told.get("top_logprobs") or ())
    return Token(str(told["token"]), float(told["logprob"]), top)


def _usage(answer: object) -> tuple[int | None, int | None]:
    usage = answer.get("usage") if isinstance(answer, dict) else None
    told = usage if isinstance(usage, dict) else {}
    counts = (told.get("prompt_tokens"), told.get("completion_tokens"))
    prompt, completion = (c if isinstance(c, int) and c >= 0 else None for c in counts)
    return prompt, completion


class _Heard:
    """Gathers the chunks of a stream."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._tokens: list[Token] = []
        self._finish: str | None = None
        self._usage: tuple[int | None, int | None] = (None, None)

    def take(self, chunk: Mapping[str, Any]) -> str:
        """Return the text that a chunk adds."""
        if chunk.get("usage"):
            self._usage = _usage(chunk)
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            self._tokens += map(_token, (choice.get("logprobs") or {}).get("content") or ())
            delta = (choice.get("delta") or {}).get("content") or ""
            self._texts.append(delta)
            return str(delta)
        return ""

    def completions(self) -> Completions:
        """Return what the whole stream was.

        Raises:
            Failed: there was no text, or nothing told its end: half an answer is none.
        """
        if not self._texts:
            raise Failed("no choices in the answer")
        if self._finish is None and self._usage == (None, None):
            raise Failed("stream broken off")
        made = Completion("".join(self._texts), self._finish, tuple(self._tokens) or None)
        return Completions((made,), *self._usage)
