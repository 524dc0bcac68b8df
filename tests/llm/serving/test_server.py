"""A server process of our own: started, watched, started anew, stopped, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from limbeck.errors import LLMError
from limbeck.llm.serving.command import Command
from limbeck.llm.serving.server import Server, State, Upkeep

KEY = "planted-key"

HEALTHY = """
    import http.server, os, subprocess, sys, time
    def told(name): return os.path.exists(os.path.join(sys.argv[2], name))
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(500 if told("ill") else 200)
            self.end_headers()
            if self.path == "/metrics" and not told("uncounted"):
                tokens = time.time() if told("busy") else 7
                self.wfile.write(b'vllm:generation_tokens_total{engine="0"} %f\\n' % tokens)
        def do_POST(self):
            while told("hangs"):
                time.sleep(0.05)
            known = self.headers["authorization"] == "Bearer " + os.environ["KEY"]
            print("asked", self.path, "with the key" if known else "", flush=True)
            self.send_response(200)
            self.end_headers()
        def log_message(self, *_): pass
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("pids", os.getpid(), child.pid, "key", os.environ["KEY"], flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
DIES = """
    import sys, time
    time.sleep(1)
    print("ValueError: out of memory")
    sys.exit(3)
"""
LOADS_FOR_EVER = "import time\nprint('loading', flush=True)\ntime.sleep(600)"


def after(healthy_starts: int, script: str) -> str:
    """Return a program that is healthy so often, and then runs the script instead."""
    count = """
import os, sys
count = os.path.join(sys.argv[2], "count")
number = os.path.getsize(count) if os.path.exists(count) else 0
with open(count, "a") as file:
    file.write("x")
"""
    then = f"if number >= {healthy_starts}:\n{textwrap.indent(textwrap.dedent(script), '    ')}"
    return f"{count}{then}\n{textwrap.dedent(HEALTHY)}"


@pytest.fixture
def made(tmp_path):
    """Return a function from a script to a server that runs it; the script's second argument is a
    folder whose files make it ill, busy, or hang.
    """
    servers: list[Server] = []

    def make(script: str = HEALTHY, *, port: int | None = None, **settings) -> Server:
        program = tmp_path / f"program{len(servers)}.py"
        program.write_text(textwrap.dedent(script))

        def command() -> Command:
            chosen = free_port() if port is None else port
            argv = (sys.executable, str(program), str(chosen), str(tmp_path))
            address = f"http://127.0.0.1:{chosen}"
            return Command("fake:model", argv, {"KEY": KEY}, address, "model")

        upkeep = {"start_timeout_s": 20.0, "restarts": 1, "pause_s": 0.1, "patience_s": 1.5}
        told = {name: settings.pop(name) for name in ("listen", "changed") if name in settings}
        log = tmp_path / "logs" / f"log{len(servers)}"
        servers.append(
            Server(command, log=log, key=KEY, upkeep=Upkeep(**upkeep | settings), **told)
        )
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def waited_for(condition: Callable[[], bool], limit_s: float = 15.0) -> bool:
    ends_at = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True


def pids_of(server: Server) -> list[int]:
    """Return the process that serves and its child, of the last start."""
    line = [line for line in server.tail().splitlines() if line.startswith("pids")][-1]
    return [int(word) for word in line.split()[1:3]]


def gone(pids: list[int]) -> bool:
    return waited_for(lambda: not any(map(runs, pids)))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def together(server: Server, callers: int) -> list[Future[str]]:
    """Return what so many threads will get that wait for the server."""
    pool = ThreadPoolExecutor(callers)
    calls = [pool.submit(server.ready) for _ in range(callers)]
    pool.shutdown(wait=False)
    return calls


def looking(pool: ThreadPoolExecutor, server: Server) -> Future[None]:
    """Return a look at a server that hangs, once it is under way."""
    looked = pool.submit(server.suspect)
    assert waited_for(lambda: server.state is State.SUSPECT)
    return looked


def test_it_starts_once_for_all_who_need_it(made):
    server = made()
    assert server.state is State.STOPPED
    assert {call.result() for call in together(server, 8)} == {server.address}
    assert server.starts == 1
    assert server.state is State.HEALTHY


def test_what_it_started_ends_with_it_and_it_can_be_started_again(made):
    server = made()
    server.ready()
    pids = pids_of(server)
    server.close()
    assert (server.state, server.running()) == (State.STOPPED, False)
    assert gone(pids)
    server.ready()
    assert all(map(runs, pids_of(server)))


def test_after_a_kill_it_is_started_again_unasked_and_nothing_is_left_of_the_first(made):
    """vLLM's engine outlives a server that is killed, and holds the GPU's memory."""
    server = made()
    server.ready()
    first = pids_of(server)
    os.kill(first[0], signal.SIGKILL)
    assert gone(first)
    assert waited_for(lambda: server.starts == 2)
    server.ready()
    assert all(map(runs, pids_of(server)))


def test_one_that_dies_too_often_is_given_up_and_says_why(made):
    server = made(restarts=0)
    server.ready()
    os.kill(pids_of(server)[0], signal.SIGKILL)
    assert waited_for(lambda: server.state is State.FAILED)
    with pytest.raises(LLMError, match=r"must stay up .* ended with status 137: .*pids .* 0 times"):
        server.ready()


def test_one_that_is_ill_is_killed_and_started_again(made, tmp_path):
    server = made()
    server.ready()
    server.suspect()
    assert server.starts == 1, "it was well"
    first = pids_of(server)
    (tmp_path / "ill").touch()
    server.suspect()
    assert gone(first)
    (tmp_path / "ill").unlink()
    server.ready()
    assert server.starts == 2


def test_one_whose_engine_hangs_is_started_again(made, tmp_path):
    """Before, /health alone was asked: vLLM's answers 200 while its engine is stopped."""
    states: list[str] = []
    server = made(changed=lambda server, why: states.append(f"{server.state}: {why}"))
    server.ready()
    server.suspect()
    assert waited_for(lambda: "asked /v1/chat/completions with the key" in server.tail())
    (tmp_path / "hangs").touch()
    server.suspect()
    (tmp_path / "hangs").unlink()
    server.ready()
    assert server.starts == 2
    assert states == [
        "starting: starting",
        "healthy: ready",
        "suspect: a call failed",
        "healthy: it answers",
        "suspect: a call failed",
        "starting: it hangs: starting again",
        "healthy: ready",
    ]


@pytest.mark.parametrize("sign", ["busy", "uncounted"])
def test_one_that_may_be_busy_is_left_alone(made, tmp_path, sign):
    """Its queue is so long that a completion of one token is not answered; but tokens move, or
    nobody counts them.
    """
    server = made()
    server.ready()
    for name in ("hangs", sign):
        (tmp_path / name).touch()
    server.suspect()
    assert (server.state, server.starts) == (State.HEALTHY, 1)


def test_one_that_hangs_is_found_though_nobody_complains(made, tmp_path):
    server = made(look_every_s=0.2)
    server.ready()
    (tmp_path / "hangs").touch()
    assert waited_for(lambda: server.starts == 2)


def test_those_who_may_go_on_are_not_held_up_while_it_is_looked_at(made, tmp_path):
    server = made(patience_s=30.0)
    server.ready()
    (tmp_path / "hangs").touch()
    with ThreadPoolExecutor(1) as pool:
        looked = looking(pool, server)
        assert server.ready() == server.address
        (tmp_path / "hangs").unlink()
        looked.result(10)


def test_why_it_did_not_start_is_told_without_the_key(made):
    server = made(
        """
        import os, sys
        print("WARNING: an Error that matters not")
        print("loading with", os.environ["KEY"])
        print("ValueError: no kernel image for", os.environ["KEY"])
        sys.exit(3)
        """
    )
    with pytest.raises(LLMError, match="ended with status 3: ValueError: no kernel image") as error:
        server.ready()
    assert KEY not in str(error.value) + server.log.read_text()


def test_an_error_that_points_to_another_is_not_what_is_told(made):
    """vLLM's last words name no cause: "Engine core initialization failed. See root cause"."""
    server = made(
        """
        import sys
        print("ValueError: Available memory is less than desired", *["x" * 99] * 200, sep="\\n")
        print("    raise RuntimeError(")
        print("RuntimeError: Engine core initialization failed. See root cause above.")
        sys.exit(1)
        """
    )
    with pytest.raises(LLMError, match="ended with status 1: ValueError: Available memory is less"):
        server.ready()


def test_a_model_that_cannot_be_loaded_is_loaded_once(made):
    """Before, each of those who waited loaded it again, and the later ones were told "died"."""
    server = made(DIES, restarts=3)
    told = {str(call.exception()) for call in together(server, 8)}
    began = time.monotonic()
    with pytest.raises(LLMError) as later:
        server.ready()
    assert time.monotonic() - began < 0.5
    assert told == {str(later.value)}
    assert "ended with status 3: ValueError: out of memory" in str(later.value)
    assert server.starts == 1
    server.close()
    with pytest.raises(LLMError, match="out of memory"):
        server.ready()


def test_a_restart_that_fails_is_tried_again(made):
    """Before, it was given up: the memory of the dead process is not given back at once."""
    failing = "if number == 1:\n    print('ValueError: too little free memory')\n    sys.exit(1)"
    server = made(after(1, failing), restarts=3)
    server.ready()
    os.kill(pids_of(server)[0], signal.SIGKILL)
    assert waited_for(lambda: server.starts == 3)
    server.ready()


def test_when_all_restarts_are_used_it_is_told_why_the_last_one_failed(made):
    server = made(after(1, "print('ValueError: too little memory')\nsys.exit(1)"), restarts=2)
    server.ready()
    os.kill(pids_of(server)[0], signal.SIGKILL)
    assert waited_for(lambda: server.state is State.FAILED)
    with pytest.raises(LLMError, match=r"ValueError: too little memory; .*2 times in ten minutes"):
        server.ready()
    with pytest.raises(LLMError, match="too little memory"):
        server.wait()
    assert server.starts == 3


def test_one_that_never_gets_ready_is_stopped(made):
    server = made(LOADS_FOR_EVER, start_timeout_s=1.0)
    with pytest.raises(LLMError, match=r"not ready in 1 s: loading"):
        server.ready()
    assert not server.running()


def test_a_start_ends_at_once_when_it_is_closed_and_those_who_wait_are_told(made):
    """Before, `close` waited for the start, and the next caller began another before it got in."""
    server = made(LOADS_FOR_EVER)
    calls = together(server, 3)
    assert waited_for(server.running)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 3.0
    assert all("it was closed" in str(call.exception(3.0)) for call in calls)
    assert (server.state, server.running()) == (State.STOPPED, False)


def test_a_look_ends_at_once_when_it_is_closed(made, tmp_path):
    server = made(patience_s=60.0)
    server.ready()
    (tmp_path / "hangs").touch()
    with ThreadPoolExecutor(1) as pool:
        looked = looking(pool, server)
        began = time.monotonic()
        server.close()
        looked.result(1.0)
    assert time.monotonic() - began < 3.0


def test_one_that_is_retired_is_not_started_by_those_who_still_hold_it(made):
    server = made()
    server.ready()
    server.retire()
    with pytest.raises(LLMError, match="it was closed"):
        server.ready()
    assert not server.running()


def test_another_start_may_choose_another_port(made):
    """Before, it was chosen once: somebody who took it meanwhile kept the server from coming up."""
    server = made()
    first = server.ready()
    port = int(first.rpartition(":")[2])
    os.kill(pids_of(server)[0], signal.SIGKILL)
    assert waited_for(lambda: server.starts == 2)
    with socket.socket() as taken, contextlib.suppress(OSError):
        taken.bind(("127.0.0.1", port))
        assert server.ready() == server.address != first


def test_what_it_writes_is_heard_without_the_key(made):
    heard: list[str] = []
    server = made(listen=heard.append)
    server.ready()
    assert any(line.startswith("pids") for line in heard)
    assert KEY not in "".join(heard)


def test_its_log_goes_on_when_nobody_hears_it_any_more(made):
    """Before, a terminal that was gone ended the log, and the server stood still in the end."""

    def broken(text: str) -> None:
        raise BrokenPipeError(text)

    def gone_too(server: Server, why: str) -> None:
        raise BrokenPipeError(why)

    chatty = "for line in range(30):\n    print('line', line, flush=True)\n"
    script = chatty + textwrap.dedent(HEALTHY)
    server = made(script, listen=broken, changed=gone_too)
    server.ready()
    assert waited_for(lambda: "pids" in server.tail())
    assert server.tail().count("line") == 30


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("forks", [False, True])
def test_it_ends_when_its_owner_ends_however_that_is(tmp_path, end, forks):
    """Also where a forked child of the owner lives on and holds the keeper's line open."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(HEALTHY))
    port = free_port()
    owner = f"""
import os, sys, time
from pathlib import Path
from limbeck.llm.serving.command import Command
from limbeck.llm.serving.server import Server, Upkeep
argv = (sys.executable, {str(program)!r}, "{port}", {str(tmp_path)!r})
command = Command("fake:model", argv, {{"KEY": "k"}}, "http://127.0.0.1:{port}")
upkeep = Upkeep(start_timeout_s=20.0, restarts=0)
server = Server(lambda: command, log=Path({str(tmp_path / "log")!r}), key="", upkeep=upkeep)
server.ready()
child = os.fork() if {forks} else -1
if child:
    print(server.tail().strip(), child, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as run:
        words = run.stdout.readline().split()
        pids = [int(word) for word in words[1:3]]
        assert all(map(runs, pids))
        run.send_signal(end)
        run.wait(20)
        ended = gone(pids)
        if forks:
            os.kill(int(words[-1]), signal.SIGKILL)
    assert ended


def test_a_forked_child_does_not_keep_it_from_being_closed(made):
    """Before, `close` took 20 s and left the server: the child held the keeper's pipe open."""
    server = made()
    server.ready()
    pids = pids_of(server)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 5.0
        assert gone(pids)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_forked_child_starts_its_own(made):
    """And leaves its parent's alone: it has none of the threads that watch that one."""
    server = made()
    first = server.ready()
    pids = pids_of(server)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        own = server.ready()
        server.close()
        os._exit(own == first)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert all(map(runs, pids))


def test_nothing_is_left_when_the_keeper_is_killed(made):
    """Before, the server lived on, at its port, and no other could be started."""
    server = made(port=free_port())
    server.ready()
    pids = pids_of(server)
    keeper = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    assert gone(pids)
    assert waited_for(lambda: server.starts == 2)
    server.ready()


def test_another_server_at_its_port_is_not_taken_for_it(made):
    """Its /health would answer, and requests would go to a model that nobody asked for."""
    other = made()
    address = other.ready()
    server = made(port=int(address.rpartition(":")[2]))
    with pytest.raises(LLMError, match="which somebody uses"):
        server.ready()
    assert not server.running()
