from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from limbeck.errors import CassetteError
from limbeck.llm.request import Sample, Token
from limbeck.llm.tape import Tape, tape_path
from tests.llm.layers import request

ROOT = Path(__file__).parents[2]


def _tape(path: Path) -> Tape:
    return Tape(path, recorded=True)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def test_samples_are_addressed_by_request_and_index_and_all_kept(tmp_path):
    tape = _tape(tmp_path / "x")
    one, other = request("a", temperature=1.0), request("b", temperature=1.0)
    tape.record(one, {0: Sample("a0"), 1: Sample("a1")})
    tape.record(other, {0: Sample("b0")})
    tape.record(one, {2: Sample("a2")})
    tape.close()
    again = _tape(tmp_path / "x")
    assert [s.text for s in again.samples(one, range(5)).values()] == ["a0", "a1", "a2"]
    assert again.samples(other, [0]) == {0: Sample("b0")}
    assert again.samples(request("a", temperature=0.0), [0]) == {}


@pytest.mark.parametrize(
    "sample",
    [
        Sample("plain"),
        Sample("all", "stop", 3, 4, estimated=True),
        Sample('Zeilen\n\u2028\x85 и 水 🙂 \\ " \x00'),
        Sample("p", logprobs=(Token("p", -0.25, (("p", -0.25), ("q", -1.5))), Token("", -0.1))),
        Sample("none told", logprobs=()),
        Sample("half", logprobs=(Token("\ud83d", -0.5, (("\ud83d", -0.5), ("水", -1.0))),)),
    ],
)
def test_a_sample_comes_back_as_it_was(tmp_path, sample):
    for close in (False, True):
        tape = _tape(tmp_path / f"{close}.jsonl")
        tape.record(request(), {7: sample})
        if close:
            tape.close()
        assert Tape(tmp_path / f"{close}.jsonl", recorded=False).samples(request(), [7]) == {
            7: sample
        }


def test_a_request_that_utf8_cannot_hold_is_recorded_and_stops_no_later_one(tmp_path):
    tape = _tape(tmp_path / "x")
    half = request("a", stop=("\ud83d",))
    tape.record(half, {0: Sample("a")})
    tape.record(request("b"), {0: Sample("b")})
    tape.close()
    assert tape.samples(half, [0]) == {0: Sample("a")}
    assert tape.samples(request("b"), [0]) == {0: Sample("b")}


def test_the_file_is_sorted_readable_and_the_same_whatever_the_order(tmp_path):
    requests = [request(text, temperature=0.5) for text in "cab"]
    for name, order in (("one", requests), ("two", requests[::-1])):
        tape = _tape(tmp_path / name)
        for r in order:
            tape.record(r, {1: Sample("second")})
            tape.record(r, {0: Sample("first", "stop", 3, 1)})
        tape.close()
    one, two = (tmp_path / f"{name}.jsonl" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    lines = [json.loads(line) for line in one.read_text().splitlines()]
    assert lines[0] == {"cassette": 1}
    keys = [line["key"] for line in lines if "request" in line]
    assert keys == sorted(keys) == sorted(r.key for r in requests)
    assert lines[1]["request"]["messages"][0]["role"] == "user"
    assert lines[2] == {
        "key": keys[0],
        "sample": 0,
        "text": "first",
        "finish": "stop",
        "prompt_tokens": 3,
        "completion_tokens": 1,
    }
    assert lines[3] == {"key": keys[0], "sample": 1, "text": "second"}
    assert not list(tmp_path.glob("*.journal"))


def test_what_is_recorded_is_on_disk_before_record_returns(tmp_path):
    _tape(tmp_path / "x").record(request(), {0: Sample("a")})
    assert Tape(tmp_path / "x", recorded=False).samples(request(), [0]) == {0: Sample("a")}


def test_a_later_recording_replaces_an_earlier_one(tmp_path):
    tape = _tape(tmp_path / "x")
    tape.record(request(), {0: Sample("old"), 1: Sample("stays")})
    tape.close()
    tape.record(request(), {0: Sample("new")})
    assert [s.text for s in tape.samples(request(), [0, 1]).values()] == ["new", "stays"]
    tape.close()
    assert [s.text for s in tape.samples(request(), [0, 1]).values()] == ["new", "stays"]


def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path):
    path = tape_path(tmp_path / "x")
    tape = _tape(path)
    tape.record(request("kept"), {0: Sample("kept")})
    whole = _journal(path).read_bytes()
    tape.record(request("torn"), {0: Sample("torn")})
    full = _journal(path).read_bytes()
    for size in range(len(whole), len(full)):
        _journal(path).write_bytes(full[:size])
        assert Tape(path, recorded=False).samples(request("kept"), [0]) == {0: Sample("kept")}
        assert Tape(path, recorded=False).samples(request("torn"), [0]) == {}
    _journal(path).write_bytes(full[:-3])
    tape.record(request("after"), {0: Sample("after")})
    again = _tape(path)
    assert again.samples(request("after"), [0]) == {0: Sample("after")}
    assert again.samples(request("kept"), [0]) == {0: Sample("kept")}


def _damaged(path: Path, number: int, line: str) -> None:
    lines = path.read_text().split("\n")
    lines[number - 1] = line
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("number", "line", "told"),
    [
        (2, "<<<<<<< HEAD", "line 2"),
        (3, '{"key": "0", "sample": 0, "text": "x"}', "line 3.*no line before"),
        (3, '{"sample": 0}', "line 3"),
        (2, '{"key": "0", "request": {"model": "m"}}', "line 2.*not the one of its key"),
        (3, "[1]", "line 3"),
        (1, '{"cassette": 99}', "line 1.*format 99"),
    ],
)
def test_any_other_damage_names_the_line(tmp_path, number, line, told):
    path = tape_path(tmp_path / "x")
    tape = _tape(path)
    tape.record(request(), {0: Sample("a"), 1: Sample("b")})
    tape.close()
    _damaged(path, number, line)
    for recorded in (True, False):
        with pytest.raises(CassetteError, match=f"(?s){told}.*take the file back"):
            Tape(path, recorded=recorded).samples(request(), [0])


def test_a_damaged_line_inside_the_journal_is_damage(tmp_path):
    path = tape_path(tmp_path / "x")
    tape = _tape(path)
    tape.record(request(), {0: Sample("a")})
    _damaged(_journal(path), 1, '{"key": ')
    with pytest.raises(CassetteError, match="journal, line 1"):
        _tape(path).samples(request(), [0])
    assert _journal(path).exists(), "nothing is thrown away"


def test_reading_writes_nothing(tmp_path):
    tape = _tape(tmp_path / "x")
    tape.record(request(), {0: Sample("a")})
    before = sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir())
    reader = Tape(tmp_path / "x", recorded=False)
    assert reader.samples(request(), [0])
    reader.close()
    assert sorted((p.name, p.read_bytes()) for p in tmp_path.iterdir()) == before


def test_a_missing_tape_is_empty(tmp_path):
    assert Tape(tmp_path / "no" / "x", recorded=False).samples(request(), [0]) == {}


def test_what_cannot_be_written_is_told_and_written_when_it_can(tmp_path, monkeypatch):
    tape = _tape(tmp_path / "x")
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CassetteError, match=r"No space left on device.*make room"):
        tape.record(request("a"), {0: Sample("a")})
    monkeypatch.setattr(os, "fsync", real)
    tape.record(request("b"), {0: Sample("b")})
    again = _tape(tmp_path / "x")
    assert again.samples(request("a"), [0]) == {0: Sample("a")}
    assert again.samples(request("b"), [0]) == {0: Sample("b")}


def test_threads_share_an_fsync(tmp_path, monkeypatch):
    """While one thread is in fsync the others queue, and the next fsync is for all of them."""
    tape = _tape(tmp_path / "x")
    real, n_fsyncs, queued = os.fsync, [0], threading.Event()

    def slow(descriptor: int) -> None:
        n_fsyncs[0] += 1
        if n_fsyncs[0] == 1:
            queued.wait(5)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(tape.record, request(str(n)), {0: Sample(str(n))}) for n in range(8)]
        while len(tape._queue) < 8:
            pass
        queued.set()
        for future in futures:
            future.result()
    assert n_fsyncs[0] == 2
    assert all(_tape(tmp_path / "x").samples(request(str(n)), [0]) for n in range(8))


_WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from limbeck.llm.request import Sample
    from limbeck.llm.tape import Tape
    from tests.llm.layers import request

    path, name, folds = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "folds"
    tape = Tape(path, recorded=True)
    n = 0
    while True:
        tape.record(request(f"{name} {n}"), {0: Sample("x" * 300), 1: Sample(f"{name} {n}")})
        print(n, flush=True)
        n += 1
        if folds and n % 3 == 0:
            tape.close()
""")


def _start(path: Path, name: str, folds: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), name, folds],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def _killed(process: subprocess.Popen[str], *, after: int, delay_s: float) -> int:
    """Kill a writer some time after so many acknowledgements, and return how many it gave."""
    assert process.stdout is not None
    for _ in range(after):
        assert process.stdout.readline()
    threading.Event().wait(delay_s)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return after + rest.count("\n")


@pytest.mark.parametrize("folds", ["appends", "folds"])
def test_nothing_acknowledged_is_lost_by_sigkill(tmp_path, folds):
    """Two processes record on one tape, round after round, and each is killed at some moment."""
    path = tape_path(tmp_path / "x")
    rng = random.Random(7)
    expected: dict[str, int] = {}
    for round_number in range(4):
        names = [f"{side}{round_number}" for side in "ab"]
        processes = [_start(path, name, folds) for name in names]
        for name, process in zip(names, processes, strict=True):
            acknowledged = _killed(process, after=rng.randint(1, 8), delay_s=rng.uniform(0.0, 0.02))
            expected[name] = acknowledged
    tape = _tape(path)
    for name, acknowledged in expected.items():
        for n in range(acknowledged):
            held = tape.samples(request(f"{name} {n}"), [0, 1])
            assert len(held) == 2, f"{name} {n} of {acknowledged} acknowledged"
            assert held[1].text == f"{name} {n}"
    tape.close()
    assert not _journal(path).exists()
    assert Tape(path, recorded=False).samples(request("a0 0"), [1])


def test_the_journal_is_folded_when_the_process_ends(tmp_path):
    code = _WRITER.replace("while True:", "for n in range(2):").replace("n += 1", "n = n")
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x"), "a", "appends"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert tape_path(tmp_path / "x").exists()
    assert not _journal(tape_path(tmp_path / "x")).exists()
