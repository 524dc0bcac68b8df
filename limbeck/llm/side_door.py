"""What servers tell beside completions: their models, their version, the tokens of a text."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any

from limbeck.llm.refusals import passing, retry_after_s
from limbeck.llm.request import Failed
from limbeck.llm.retry import Patience

if TYPE_CHECKING:
    import httpx

__all__ = ["SideDoor"]

_TIMEOUT_S = 10.0
_NOT_LET_IN = frozenset({401, 403})


class SideDoor:
    """A server of chat completions, at other paths. Calls come from many threads.

    A path that begins with a slash is one of the server, another one of its API: with the base URL
    http://127.0.0.1:8000/v1, "/version" is http://127.0.0.1:8000/version, and "models" is
    http://127.0.0.1:8000/v1/models.
    """

    def __init__(
        self,
        connect: Callable[[], tuple[str, str]],
        *,
        patience: Patience | None = None,
        trust_env: bool = True,
    ) -> None:
        """Keep what a connection needs; nothing is asked.

        Args:
            connect: returns the base URL, which mostly ends with /v1, and the key.
            patience: with the server; None asks once.
            trust_env: whether proxies of the environment are used.
        """
        self._connect = connect
        self._patience = patience or Patience(retries=0, first_wait_s=0.0)
        self._trust_env = trust_env
        self._lock = Lock()
        self._open: tuple[httpx.Client, str] | None = None

    def get(self, path: str) -> Any:
        """Return the JSON at a path, None where the server has none there.

        Raises:
            Failed: the server cannot be reached, is not well, or does not take the key.
        """
        return _read(self.text(path))

    def post(self, path: str, body: object) -> Any:
        """Return the JSON that answers a body, None where the server has none there.

        Raises:
            Failed: the server cannot be reached, is not well, or does not take the key.
        """
        return _read(self._patience(lambda: self._asked("POST", path, body)))

    def text(self, path: str) -> str | None:
        """Return the text at a path, None where the server has none there.

        Raises:
            Failed: the server cannot be reached, is not well, or does not take the key.
        """
        return self._patience(lambda: self._asked("GET", path, None))

    def close(self) -> None:
        """Close the connections; a later question opens others."""
        with self._lock:
            opened, self._open = self._open, None
        if opened is not None:
            opened[0].close()

    def _asked(self, method: str, path: str, body: object) -> str | None:
        import httpx

        client, base_url = self._opened()
        url = base_url.removesuffix("/v1") + path if path.startswith("/") else f"{base_url}/{path}"
        try:
            answer = client.request(method, url, json=body)
        except httpx.TimeoutException:
            raise Failed("timeout") from None
        except (httpx.ConnectError, httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise Failed("no connection") from None
        except httpx.HTTPError:
            raise Failed("connection broken") from None
        if passing(answer.status_code):
            wait_s = retry_after_s(answer.headers)
            raise Failed(f"http {answer.status_code}", retry_after_s=wait_s)
        if method == "POST" and answer.status_code in _NOT_LET_IN:
            raise Failed(f"http {answer.status_code}: it wants another key", retry=False)
        return answer.text if answer.is_success else None

    def _opened(self) -> tuple[httpx.Client, str]:
        import httpx

        with self._lock:
            if self._open is None:
                base_url, key = self._connect()
                client = httpx.Client(
                    headers={"authorization": f"Bearer {key}"},
                    timeout=_TIMEOUT_S,
                    trust_env=self._trust_env,
                )
                self._open = client, base_url.rstrip("/")
            return self._open


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return None
