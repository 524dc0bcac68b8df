"""Commands about language models: serve one here, ask a server what it can."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from limbeck.cli.app import closing, one_line, root
from limbeck.cli.options import JSON
from limbeck.errors import UsageError
from limbeck.llm.serving.engine import Engine

if TYPE_CHECKING:
    from limbeck.llm.serving.command import Served
    from limbeck.llm.serving.server import Server

__all__ = ["llm"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULT_PORTS = {"vllm": 8000, "llamacpp": 8080}
_DEFAULT_PORT_HELP = "Port to listen on; unless given, 8000 for vLLM, 8080 for llama.cpp."
_SECRETS = (("--api-k", "--api-key", "VLLM_API_KEY"), ("--hf-t", "--hf-token", "HF_TOKEN"))
"""The start by which vLLM knows an option that holds one, its name, and the variable to use."""

_LOOK_EVERY_S = 30.0
"""How often a server is looked at that nobody complained of: whoever asks it has other programs."""


@root.group()
def llm() -> None:
    """Serve a language model on this machine, or ask a server what it can."""


def _engine_options(command: _Command) -> _Command:
    """Add an option for each field of `Engine`; a spec has the same under `engine`."""
    hints = typing.get_type_hints(Engine)
    for f in reversed(dataclasses.fields(Engine)):
        plain = next(t for t in (*typing.get_args(hints[f.name]), hints[f.name]) if t is not None)
        name = f.name.replace("_", "-")
        command = click.option(
            f"--{name}/--no-{name}" if plain is bool else f"--{name}",
            f.name,
            type=plain,
            default=f.default,
            show_default=f.default is not None,
            help=_DEFAULT_PORT_HELP if f.name == "port" else f.metadata["help"],
        )(command)
    return command


@llm.command("serve")
@click.argument("model")
@click.argument("vllm_arguments", nargs=-1)
@_engine_options
@click.option("--name", default="", help="What requests call the model, unless MODEL.")
@click.option("--revision", default="", help="Of the model on the Hugging Face hub.")
@click.option(
    "--context-length",
    type=click.IntRange(min=1),
    help="Tokens of a prompt and its answer together; unless given, the model's own, "
    "with llama.cpp 4096.",
)
def _serve(
    model: str,
    vllm_arguments: tuple[str, ...],
    name: str,
    revision: str,
    context_length: int | None,
    **engine: Any,
) -> None:
    """Serve MODEL until Ctrl-C: by vLLM, or a GGUF file (or `smollm2`) by llama.cpp.

    MODEL is a folder or a name on the Hugging Face hub, or a GGUF file. What vLLM wrote goes to
    standard error. If the server dies or hangs, it is started again. What stands behind `--` goes
    to vLLM as it is. A key in VLLM_API_KEY (llama.cpp: LLAMA_API_KEY) is asked of those who call.
    """
    from limbeck.llm.serving.command import Served

    family = _family(model)
    engine["port"] = _DEFAULT_PORTS[family] if engine["port"] is None else engine["port"]
    served = Served(
        family=family,
        model=_found(model),
        name=name or _short(model),
        revision=revision,
        context_length=context_length,
        engine=Engine(**engine),
        arguments=vllm_arguments,
    )
    _refuse_keys(vllm_arguments)
    _refuse_foreign(served)
    _watch(served)


def _family(model: str) -> str:
    from limbeck.llm.llamacpp import PACKAGED

    is_llama = model in PACKAGED or model.endswith(".gguf") or model.startswith("llamacpp:")
    return "llamacpp" if is_llama else "vllm"


def _found(model: str) -> str:
    from limbeck.llm.llamacpp import find_gguf

    if _family(model) == "llamacpp":
        return str(find_gguf(model.removeprefix("llamacpp:")))
    name = model.removeprefix("vllm:")
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise UsageError(
            f"a model must be a folder, a name on the hub or a GGUF file; {name} does not exist; "
            "give the right path"
        )
    return str(Path(name).expanduser().resolve()) if Path(name).expanduser().is_dir() else name


def _short(model: str) -> str:
    """Return what requests call a model: its name on the hub, or that of its file or folder."""
    name = model.partition(":")[2] if model.startswith(("vllm:", "llamacpp:")) else model
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else name


def _refuse_foreign(served: Served) -> None:
    """Refuse what the family has no use for.

    Raises:
        UsageError: it has no such option.
    """
    from limbeck.llm.serving.command import vllm_problem

    foreign = served.engine.foreign_to(served.family)
    named = [f"--{name.replace('_', '-')}" for name in foreign]
    if served.family == "llamacpp" and served.arguments:
        named.append("arguments behind --")
    if named:
        raise UsageError(f"{', '.join(named)}: llama.cpp has no such option here; leave it out")
    problem = vllm_problem(elsewhere=True) if served.family == "vllm" else None
    if problem is not None:
        raise UsageError("; ".join(problem))


def _refuse_keys(arguments: tuple[str, ...]) -> None:
    """Refuse a secret among vLLM's arguments, in any way that vLLM would read it.

    Raises:
        UsageError: there is one.
    """
    names = [argument.partition("=")[0].replace("_", "-") for argument in arguments]
    for shortest, option, variable in _SECRETS:
        if any(name.startswith(shortest) for name in names):
            raise UsageError(
                "a secret must stand on no command line, where all users of this machine see it; "
                f"got {option} behind --; export it as {variable}"
            )


def _key(family: str) -> str:
    """Return the key that callers must send, empty where none is set.

    Raises:
        UsageError: no request could hold it.
    """
    from limbeck.llm.serving.command import KEY_VARIABLES

    key = os.environ.get(KEY_VARIABLES[family], "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"{KEY_VARIABLES[family]} must hold printable ASCII characters; it has others; "
            "give another key"
        )
    return key


def _watch(served: Served) -> None:
    """Serve until Ctrl-C; say what happens, and show what the server writes."""
    from limbeck.llm.serving.command import LLAMACPP_CONTEXT, serving_command
    from limbeck.llm.serving.logs import new_log
    from limbeck.llm.serving.server import Server, Upkeep

    key = _key(served.family)
    server = Server(
        partial(serving_command, served, key=key),
        log=new_log(served.name),
        key=key,
        upkeep=Upkeep(
            start_timeout_s=served.engine.start_timeout_s,
            restarts=served.engine.restarts,
            look_every_s=_LOOK_EVERY_S,
        ),
        listen=lambda text: click.echo(text, err=True, nl=False),
        changed=_Shown(served),
    )
    if served.family == "llamacpp" and served.context_length is None:
        click.echo(f"context length {LLAMACPP_CONTEXT}; --context-length gives another", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.ready()
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


class _Shown:
    """Prints each change of a server."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._began: float | None = None

    def __call__(self, server: Server, why: str) -> None:
        """Print a change; a failure is the command's own error, and a doubt that passes is none."""
        if server.state == "starting":
            self._began = time.monotonic()
        if server.state in {"starting", "closing"}:
            click.echo(why, err=True)
        if server.state == "healthy" and self._began is not None:
            took_s, self._began = time.monotonic() - self._began, None
            click.echo(f"ready after {took_s:.0f} s: {self._how_to_use(f'{server.address}/v1')}")
            sys.stdout.flush()

    def _how_to_use(self, url: str) -> str:
        backend = "vllm" if self._served.family == "vllm" else "llama-server"
        spec = f"{{backend: {backend}, model: {self._served.name}, base_url: {url}}}"
        return f"{url}\nin a spec: {spec}"


@llm.command("probe")
@click.argument("model")
@click.option("--base-url", help="Where the server is, unless the back-end's usual place.")
@click.option("--api-key", help="A reference such as '${env:MY_KEY}'.")
@JSON
def _probe(model: str, base_url: str | None, api_key: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Ask the server of BACKEND:MODEL what it can, by a dozen short requests.

    What is found is kept in the cache for `limbeck check` until the server is another one.
    """
    from limbeck.llm.model import LLM

    with closing(LLM(model, base_url=base_url, api_key=api_key)) as asked:
        found = asked.probe(again=True)
    if found is None:
        raise UsageError(f"{model} must have a server to be asked; it has none: it runs here")
    if as_json:
        click.echo(json.dumps(found.plain()))
        return
    for line in found.lines():
        click.echo(one_line(line))
