"""A real HTTP server with OpenAI's chat completions and faults by script."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """What the server does with one request."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    trickle_s: float = 0.0


def chat(*texts: str | None, usage: bool = True, finish: str = "stop", **more: object) -> Answer:
    """Return an answer with one choice a text: 7 prompt tokens, and a token for each word."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        for i, text in enumerate(texts)
    ]
    body: dict[str, object] = {"id": "x", "object": "chat.completion", "choices": choices, **more}
    if usage:
        n = sum(len((text or "").split()) for text in texts)
        body["usage"] = {"prompt_tokens": 7, "completion_tokens": n, "total_tokens": 7 + n}
    return Answer(body=body)


Script = Callable[[dict, int], Answer]


class Server:
    """Its address, what it was asked, and how many requests were ever under way at once.

    `beside` holds what it tells at other paths.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.beside: dict[str, object] = {}
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _beside(self, path: str) -> Answer:
        told = self.beside.get(path)
        return Answer(404 if told is None else 200, told)

    @contextmanager
    def _counted(self, body: dict, headers: dict[str, str]) -> Iterator[int]:
        with self._lock:
            number = len(self.asked)
            self.asked.append(body)
            self.headers.append(headers)
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield number
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                _send(self, server._beside(self.path), stream=False)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._counted(
                    body, {k.lower(): v for k, v in self.headers.items()}
                ) as number:
                    answer = server.script(body, number)
                    time.sleep(answer.delay_s)
                try:
                    _send(self, answer, stream=bool(body.get("stream")))
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        return Handler


def _send(to: BaseHTTPRequestHandler, answer: Answer, *, stream: bool) -> None:
    if stream and answer.status == 200:
        data, kind = _events(answer.body), "text/event-stream"
    elif isinstance(answer.body, bytes):
        data, kind = answer.body, "application/json"
    else:
        data, kind = json.dumps(answer.body).encode(), "application/json"
    to.send_response(answer.status)
    for name, value in {"content-type": kind, **answer.headers}.items():
        to.send_header(name, value)
    to.send_header("content-length", str(len(data)))
    to.end_headers()
    if answer.trickle_s:
        for byte in data:
            to.wfile.write(bytes([byte]))
            to.wfile.flush()
            time.sleep(answer.trickle_s)
    else:
        to.wfile.write(data)


def _events(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    assert isinstance(body, dict)
    events: list[dict] = []
    for choice in body["choices"]:
        words = (choice["message"]["content"] or "").split(" ")
        for i, word in enumerate(words):
            delta = {"content": word if i == 0 else " " + word}
            events.append({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        events.append(
            {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
        )
    events.append({"choices": [], "usage": body.get("usage")})
    lines = [f"data: {json.dumps({'id': 'x', 'object': 'chunk', **event})}\n\n" for event in events]
    return "".join([*lines, "data: [DONE]\n\n"]).encode()
