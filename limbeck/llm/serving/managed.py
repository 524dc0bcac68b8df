"""A back-end whose server is ours: up before each call, and looked at after one that failed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock

from limbeck.llm.backend import Backend, Completions
from limbeck.llm.request import Failed, Request
from limbeck.llm.serving.command import Served, serving_command
from limbeck.llm.serving.logs import new_log
from limbeck.llm.serving.server import Server, Upkeep
from limbeck.llm.shared import Shared
from limbeck.progress import announcer

__all__ = ["Managed", "OwnServer", "own_servers"]


@dataclass(frozen=True)
class OwnServer:
    """A server that whoever in this process asks for the same one uses together.

    Attributes:
        server: it is started when it is first needed.
        key: what its requests must hold.
    """

    server: Server
    key: str


def _made(served: Served) -> OwnServer:
    key = secrets.token_hex(16)
    log = new_log(served.model)
    tell = announcer()

    def changed(server: Server, why: str) -> None:
        if server.state == "starting":
            tell(f"vLLM of {served.model}: {why}; its log is {log}")

    server = Server(
        partial(serving_command, served, key=key),
        log=log,
        key=key,
        upkeep=Upkeep(
            start_timeout_s=served.engine.start_timeout_s, restarts=served.engine.restarts
        ),
        changed=changed,
    )
    return OwnServer(server, key)


own_servers: Shared[Served, OwnServer] = Shared(_made, lambda own: own.server.retire())
"""The servers of this process by what they serve; the last one who releases one stops it."""


class Managed:
    """A back-end that asks a server of ours. The server is not waited for by any call's timeout."""

    def __init__(self, served: Served, connected: Callable[[str, str], Backend]) -> None:
        """Keep what is served; the first call takes the server, and the first one after `close`.

        Args:
            served: the model.
            connected: returns the back-end that asks the server at a base URL with a key.
        """
        self._lease = own_servers.lease(served)
        self._connected = connected
        self._lock = Lock()
        self._backend: tuple[tuple[str, str], Backend] | None = None

    def complete(
        self, request: Request, first: int, n: int, listen: Callable[[str], None] | None
    ) -> Completions:
        """Return the back-end's completions, once the server is up.

        Raises:
            Failed: the call failed; a server that died or hangs meanwhile is being started anew.
            LLMError: the server does not start, or was closed meanwhile.
        """
        own = self._lease.held()
        address = own.server.ready()
        try:
            return self._at(address, own.key).complete(request, first, n, listen)
        except Failed as error:
            if error.retry:
                own.server.suspect()
            raise

    def close(self) -> None:
        """Close the connections; stop the server unless another LLM uses it."""
        with self._lock:
            connected, self._backend = self._backend, None
        if connected is not None:
            connected[1].close()
        self._lease.release()

    def _at(self, address: str, key: str) -> Backend:
        """Return the back-end of an address: the server may have been started anew at another."""
        where = (f"{address}/v1", key)
        with self._lock:
            old = self._backend
            if old is not None and old[0] == where:
                return old[1]
            made = self._connected(*where)
            self._backend = (where, made)
        if old is not None:
            old[1].close()
        return made
