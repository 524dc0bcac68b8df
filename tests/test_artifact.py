"""Artifacts: whole or not there."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from limbeck import artifact as artifact_module
from limbeck.artifact import Artifact, locked, settled, write_artifact, write_atomically, write_meta
from limbeck.errors import ArtifactError


def _write(path, *, value=1):
    return write_artifact(
        path,
        kind="bm25",
        version=3,
        parameters={"k1": 0.9},
        arrays={"rows": np.full(1000, value, dtype=np.int32)},
        lines={"terms": ["a", "zwei\u2028", {"x": 1}]},
    )


def test_what_is_written_is_read_back(tmp_path):
    found = Artifact.load(_write(tmp_path / "index"), kind="bm25", version=3)
    assert found.parameters == {"k1": 0.9}
    assert isinstance(found.array("rows"), np.memmap)
    assert found.lines("terms") == ["a", "zwei\u2028", {"x": 1}]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_says_who_may_read(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "tape", "x")
        _write(tmp_path / "index")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("tape", "index")]
    assert modes == [0o666 & ~umask, 0o777 & ~umask]
    assert (tmp_path / "index" / "rows.npy").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "index" / "meta.json").stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_was_private_stays_private(tmp_path):
    tape, index = tmp_path / "tape", _write(tmp_path / "index")
    write_atomically(tape, "x")
    tape.chmod(0o600)
    index.chmod(0o700)
    write_atomically(tape, "y")
    _write(index)
    assert tape.read_text() == "y"
    assert [place.stat().st_mode & 0o777 for place in (tape, index)] == [0o600, 0o700]


def test_what_a_killed_writer_left_is_swept_when_it_is_old(tmp_path):
    names = [".index.0123abcd", ".index.old.0123abcd", ".index.notes", ".other.0123abcd"]
    long_ago = time.time() - 2 * 24 * 3600
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.npy").touch()
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / ".index.ffffffff").mkdir()  # of a writer that may live
    _write(tmp_path / "index")
    left = {place.name for place in tmp_path.iterdir()}
    assert left == {"index", ".index.notes", ".other.0123abcd", ".index.ffffffff"}


def test_an_artifact_is_replaced_whole(tmp_path):
    place = tmp_path / "index"
    _write(place, value=1)
    held = Artifact.load(place, kind="bm25", version=3).array("rows")
    _write(place, value=2)
    assert held[0] == 1  # a reader keeps what it opened
    assert Artifact.load(place, kind="bm25", version=3).array("rows")[0] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "rows.npy").unlink(), "it is missing"),
        (lambda p: os.truncate(p / "rows.npy", 100), "it has 100 bytes"),
        (lambda p: os.truncate(p / "terms.jsonl", 3), "it has 3 bytes"),
        (lambda p: (p / "meta.json").unlink(), "there is none"),
        (lambda p: (p / "meta.json").write_text("{"), "must be readable"),
        (lambda p: (p / "meta.json").write_text("{}"), "must be a Limbeck artifact"),
        *(
            (
                lambda p, part=part: (p / "meta.json").write_text(
                    (p / "meta.json").read_text().replace(f'"{part}"', '"lost"')
                ),
                "must be a Limbeck artifact",
            )
            for part in ("kind", "version", "parameters", "files")
        ),
    ],
)
def test_a_damaged_artifact_is_refused(tmp_path, spoil, said):
    place = _write(tmp_path / "index")
    spoil(place)
    with pytest.raises(ArtifactError, match=said):
        Artifact.load(place, kind="bm25", version=3)


def test_another_kind_or_format_is_refused(tmp_path):
    place = _write(tmp_path / "index")
    with pytest.raises(ArtifactError, match="it holds 'bm25'"):
        Artifact.load(place, kind="dense", version=3)
    with pytest.raises(ArtifactError, match="it has 3; build it again"):
        Artifact.load(place, kind="bm25", version=4)


def test_a_spoilt_array_of_the_right_size_is_refused(tmp_path):
    place = _write(tmp_path / "index")
    file = place / "rows.npy"
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(ArtifactError, match="must be a readable array"):
        Artifact.load(place, kind="bm25", version=3).array("rows")


def test_other_peoples_files_are_left_alone(tmp_path):
    place = tmp_path / "home"
    place.mkdir()
    (place / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="must be free or an artifact"):
        _write(place)
    assert (place / "letter.txt").read_text() == "dear"


def test_a_full_disk_leaves_the_old_artifact_and_no_scraps(tmp_path, monkeypatch):
    place = _write(tmp_path / "index", value=1)

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact_module.np, "save", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        _write(place, value=2)
    assert Artifact.load(place, kind="bm25", version=3).array("rows")[0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_a_full_disk_for_real(tmp_path):
    """/dev/full answers ENOSPC to every write."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    full, told = pytest.raises(ArtifactError, match="the disk is full"), artifact_module.writing
    with full, told(tmp_path), open("/dev/full", "w") as file:
        file.write("x")


def test_a_text_is_replaced_atomically(tmp_path):
    path = tmp_path / "deep" / "report.json"
    write_atomically(path, "one")
    write_atomically(path, "zwei ü")
    assert path.read_text(encoding="utf-8") == "zwei ü"
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


_KILLED = """
import sys, numpy as np
from limbeck import artifact
real = np.save
def slow(path, array, **kwargs):
    real(path, array, **kwargs)
    print("written", flush=True)
    import time; time.sleep(60)
artifact.np.save = slow
artifact.write_artifact(
    sys.argv[1], kind="bm25", version=3, parameters={}, arrays={"rows": np.ones(9)}
)
"""


def test_a_kill_in_the_middle_leaves_nothing_at_the_place(tmp_path):
    place = tmp_path / "index"
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(place)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with pytest.raises(ArtifactError, match="there is none"):
        Artifact.load(place, kind="bm25", version=3)
    assert Artifact.load(_write(place), kind="bm25", version=3).parameters == {"k1": 0.9}


def test_writers_of_one_place_do_not_hinder_each_other(tmp_path):
    """Two evaluations into one folder finish the same pipeline."""

    def write(number: int) -> None:
        arrays = {"a": np.full(9, number)}
        write_artifact(tmp_path / "x", kind="k", version=1, parameters={}, arrays=arrays)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(80)))
    array = Artifact.load(tmp_path / "x", kind="k", version=1).array("a")
    assert (array == array[0]).all()
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_a_lock_keeps_others_out(tmp_path):
    place = tmp_path / "index"
    code = (
        "import sys; from pathlib import Path; from limbeck.artifact import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True)"
    )
    with locked(place):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, text=True
        )
        time.sleep(1.0)
        assert other.poll() is None
    out, _ = other.communicate(timeout=30)
    assert out == "in\n"


def test_meta_is_readable_by_people(tmp_path):
    meta = json.loads((_write(tmp_path / "index") / "meta.json").read_text())
    assert meta["kind"] == "bm25"
    assert set(meta["files"]) == {"rows.npy", "terms.jsonl"}


def test_what_was_changed_while_it_was_read_is_read_again(tmp_path):
    """A reader that came between a new meta.json and the old files met a broken artifact."""
    _write(tmp_path / "a")
    n_read = []

    def read() -> int:
        n_read.append(1)
        if len(n_read) == 2:
            return 2
        write_meta(tmp_path / "a", [], "bm25", len(n_read), {})
        raise ArtifactError("gone")

    assert settled(tmp_path / "a", read) == 2


def test_what_stays_as_it_was_is_read_once(tmp_path):
    n_read = []

    def read() -> None:
        n_read.append(1)
        raise ArtifactError("gone")

    with pytest.raises(ArtifactError, match="gone"):
        settled(tmp_path / "a", read)
    assert len(n_read) == 1
