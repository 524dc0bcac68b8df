"""Looks at a server from outside: whether it is well, and whether its engine hangs."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from http.client import HTTPException

from limbeck.llm.serving.command import Command

__all__ = ["Pulse"]

_HEALTH_TIMEOUT_S = 10.0
_BETWEEN_S = 1.0
_TOKENS = re.compile(r"^vllm:(?:prompt|generation)_tokens_total\b.* (\S+)$", re.MULTILINE)


class Pulse:
    """Asks the server of a command."""

    def __init__(self, command: Command, *, key: str, patience_s: float) -> None:
        """Keep where it is.

        Args:
            command: it was started by.
            key: sent with each request.
            patience_s: how long an engine may do nothing.
        """
        self._command = command
        self._key = key
        self._patience_s = patience_s

    def healthy(self) -> bool:
        """Return whether the server says that it is well."""
        return self._status() == 200

    def hangs(self) -> bool:
        """Return whether the server is ill, or its engine does nothing though it has work.

        vLLM's /health answers 200 while its engine stands still, and a request that is not answered
        proves nothing: a server with a long queue is busy, and to kill it would be the worst. What
        tells them apart are vLLM's counters of tokens: an engine that works moves them within a
        second or so. If they stand still it is idle, or computes one long step, or hangs: a
        completion of one token is asked for, which an idle engine answers at once. One that hangs
        has neither answered nor moved a token when the patience ends; it has to be longer than the
        longest step, thousands of prompt tokens on a slow machine. Where there are no such counters
        a hang and a queue look alike, and /health is believed.
        """
        status = self._status()
        if status is not None and status != 200:
            return True
        before = self._tokens()
        if before is not None:
            time.sleep(_BETWEEN_S)
            if self._tokens() not in {None, before}:
                return False
        if self._completes():
            return False
        after = self._tokens()
        if before is None or after is None:
            return not self.healthy()
        return after == before

    def _status(self) -> int | None:
        """Return the status of /health, None where nobody answers."""
        answer = self._asked("/health", None, _HEALTH_TIMEOUT_S)
        return None if answer is None else answer[0]

    def _tokens(self) -> float | None:
        """Return how many tokens the engine ever read and wrote, None where that is not told."""
        answer = self._asked("/metrics", None, _HEALTH_TIMEOUT_S)
        counted = _TOKENS.findall(answer[1]) if answer is not None else []
        return sum(map(float, counted)) if counted else None

    def _completes(self) -> bool:
        """Return whether a completion of one token is answered, be it by a refusal."""
        asked = {
            "model": self._command.model,
            "messages": [{"role": "user", "content": "a"}],
            "max_tokens": 1,
        }
        return self._asked("/v1/chat/completions", asked, self._patience_s) is not None

    def _asked(self, path: str, body: object, timeout_s: float) -> tuple[int, str] | None:
        """Return the status and the text of an answer, None where none comes."""
        request = urllib.request.Request(  # noqa: S310 - our own server's address
            self._command.address + path,
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json"}
            | ({"authorization": f"Bearer {self._key}"} if self._key else {}),
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""
        except (OSError, HTTPException):
            return None
