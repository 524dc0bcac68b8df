"""A program that serves a llama.cpp model over HTTP, by xllamacpp, until it is told to stop."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from queue import SimpleQueue

from limbeck.errors import LimbeckError
from limbeck.llm.llamacpp import serve_gguf

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the key is read from LLAMA_API_KEY."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context-length", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    options = parser.parse_args(arguments)
    over: SimpleQueue[None] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.put(None))
    try:
        server = serve_gguf(
            options.model,
            name=options.name,
            host=options.host,
            port=options.port,
            context_length=options.context_length,
            slots=options.slots,
            key=os.environ.pop("LLAMA_API_KEY", ""),
            verbosity=3,
        )
    except LimbeckError as error:
        sys.exit(f"Error: {error}")
    over.get()
    del server


if __name__ == "__main__":
    main()
