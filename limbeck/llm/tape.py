"""The tape: recorded requests and samples on disk, for cassettes.

A tape is a JSONL file sorted by request: a line for each request, readable, and after it a line for
each of its samples. What is recorded goes first to a journal beside it, by append and fsync, before
anyone is told; the journal is folded into the sorted file when a tape is opened for recording, when
it is closed, and when the process ends. A kill at any moment loses nothing that was acknowledged:
at worst the journal's last line is torn, and that one was not.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from limbeck.artifact import locked, write_atomically
from limbeck.errors import ArtifactError, CassetteError
from limbeck.fingerprint import canonical_json, digest
from limbeck.llm.nearest import difference
from limbeck.llm.request import Request, Sample, Token, encodable

__all__ = ["Tape", "tape_path"]

_VERSION = 1


def tape_path(path: Path) -> Path:
    """Return the file of a tape: the path, with ".jsonl" if it lacks that."""
    return path if path.suffix == ".jsonl" else path.with_name(path.name + ".jsonl")


@dataclass
class _Recordings:
    """Requests by key, and samples by key and index."""

    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, dict[int, Sample]] = field(default_factory=dict)

    def put(self, key: str, request: dict[str, Any], samples: Mapping[int, Sample]) -> None:
        self.requests[key] = request
        self.samples.setdefault(key, {}).update(samples)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the sorted file."""
        yield _dumped({"cassette": _VERSION})
        for key in sorted(self.requests):
            yield from _lines(key, self.requests[key], self.samples.get(key, {}))


class Tape:
    """The recordings of one file; safe for threads and, by a lock file, for processes."""

    def __init__(self, path: Path, *, recorded: bool) -> None:
        """Name the file; nothing is read before the first use.

        Args:
            path: the file; ".jsonl" is added if need be.
            recorded: whether it may be written to; else it may lie in a read-only place.
        """
        self.path = tape_path(path)
        self._recorded = recorded
        self._journal = self.path.with_name(self.path.name + ".journal")
        self._recordings: _Recordings | None = None
        self._opening = Lock()
        self._writing = Lock()
        self._queueing = Lock()
        self._queue: list[str] = []
        self._n_queued = 0
        self._n_written = 0

    def samples(self, request: Request, indices: Iterable[int]) -> dict[int, Sample]:
        """Return those of a request's samples that are recorded, by index.

        Raises:
            CassetteError: the file is damaged.
        """
        held = self._held().samples.get(request.key, {})
        return {index: held[index] for index in indices if index in held}

    def record(self, request: Request, samples: Mapping[int, Sample]) -> None:
        """Keep samples; they are on disk when this returns.

        Raises:
            CassetteError: the file is damaged or cannot be written.
        """
        if not samples:
            return
        held = self._held()
        plain = request.plain()
        self._write("".join(_lines(request.key, plain, samples)))
        _fold_at_exit(self.path)
        with self._opening:
            held.put(request.key, plain, samples)

    def nearest(self, request: Request) -> str:
        """Return how a request differs from the nearest recorded one, or which samples it has."""
        held = self._held()
        if request.key in held.requests:
            return (
                f"of this request the samples {sorted(held.samples.get(request.key, {}))} are held"
            )
        return difference(request.plain(), list(held.requests.values()))

    def close(self) -> None:
        """Fold the journal into the sorted file, and forget what was read.

        Raises:
            CassetteError: a file is damaged or cannot be written.
        """
        self._fold()
        with self._opening:
            self._recordings = None

    def _fold(self) -> None:
        if not self._recorded or not self._journal.exists():
            return
        try:
            with self._writing, locked(self.path):
                recordings = self._read()
                write_atomically(self.path, "".join(recordings.lines()))
                self._journal.unlink(missing_ok=True)
        except (OSError, ArtifactError) as error:
            raise CassetteError(_unwritable(self.path, error)) from None

    def _held(self) -> _Recordings:
        with self._opening:
            if self._recordings is None:
                self._fold()
                self._recordings = self._read()
            return self._recordings

    def _read(self) -> _Recordings:
        """Read both files, the journal's entries over the sorted file's.

        The journal is read first: another process that folds it meanwhile has put what it held
        into the sorted file by the time that is read.
        """
        journal = _lines_of(self._journal)
        recordings = _Recordings()
        _parse(_lines_of(self.path), recordings, path=self.path, torn=False)
        _parse(journal, recordings, path=self._journal, torn=True)
        return recordings

    def _write(self, lines: str) -> None:
        """Append lines to the journal; threads that come meanwhile share the next fsync."""
        with self._queueing:
            self._queue.append(lines)
            self._n_queued += 1
            mine = self._n_queued
        with self._writing:
            if self._n_written >= mine:
                return
            with self._queueing:
                batch, n_taken = "".join(self._queue), len(self._queue)
                last = self._n_queued
            self._append(batch)
            with self._queueing:
                del self._queue[:n_taken]
            self._n_written = last

    def _append(self, lines: str) -> None:
        try:
            with locked(self.path), open(self._journal, "a+b") as file:
                _drop_torn_line(file.fileno(), self._journal)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        except (OSError, ArtifactError) as error:
            raise CassetteError(_unwritable(self._journal, error)) from None


_recorded: set[Path] = set()
"""Tapes that were recorded on by this process. None is folded by a garbage collector's call: that
may come while the same thread holds the lock."""


def _fold_at_exit(path: Path) -> None:
    if not _recorded:
        atexit.register(_fold_all)
    _recorded.add(path.absolute())


def _fold_all() -> None:
    for path in sorted(_recorded):
        with suppress(CassetteError):  # the journal stays, and the next opening folds it
            Tape(path, recorded=True).close()


def _unwritable(path: Path, error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else error
    return (
        f"{path} must be writable, so that no answer that was paid for is lost; got: {told}; "
        "make room or give another cassette, and run again: what was recorded is kept"
    )


def _drop_torn_line(descriptor: int, path: Path) -> None:
    """Cut off what follows the last line end: a writer was killed, or the disk full, there."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, path.read_bytes().rfind(b"\n") + 1)


def _lines_of(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CassetteError(f"{path} must be a readable cassette; got: {error.strerror}") from None


def _dumped(value: object) -> str:
    """Return a value's line, readable; one with lone surrogates, which UTF-8 lacks, in escapes."""
    line = json.dumps(value, ensure_ascii=False)
    return (line if encodable(line) == line else json.dumps(value)) + "\n"


def _lines(key: str, request: Mapping[str, Any], samples: Mapping[int, Sample]) -> Iterator[str]:
    yield _dumped({"key": key, "request": request})
    for index in sorted(samples):
        yield _dumped({"key": key, "sample": index, **_plain(samples[index])})


def _plain(sample: Sample) -> dict[str, Any]:
    """Return a sample as JSON data, without what it lacks."""
    plain: dict[str, Any] = {"text": sample.text}
    for name in ("finish", "prompt_tokens", "completion_tokens", "estimated"):
        value = getattr(sample, name)
        if value:
            plain[name] = value
    if sample.logprobs is not None:
        plain["logprobs"] = [
            [t.text, t.logprob, *([t.top] if t.top else [])] for t in sample.logprobs
        ]
    return plain


def _sample(line: Mapping[str, Any]) -> Sample:
    tokens = line.get("logprobs")
    return Sample(
        text=_typed(line["text"], str),
        finish=line.get("finish"),
        prompt_tokens=_typed(line.get("prompt_tokens", 0), int),
        completion_tokens=_typed(line.get("completion_tokens", 0), int),
        estimated=_typed(line.get("estimated", False), bool),
        logprobs=None if tokens is None else tuple(map(_token, tokens)),
    )


def _token(told: list[Any]) -> Token:
    text, logprob, *top = told
    return Token(text, logprob, tuple((t, p) for t, p in top[0]) if top else ())


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _parse(lines: list[bytes], recordings: _Recordings, *, path: Path, torn: bool) -> None:
    """Take the lines of a file into the recordings.

    Args:
        lines: the parts between line ends; the last one is empty, or was torn by a kill.
        recordings: what is added to; a later line replaces an earlier one.
        path: for messages.
        torn: whether a last line without an end may be left out.

    Raises:
        CassetteError: a line is damaged; the message names it.
    """
    whole = lines[:-1] if torn else lines
    for number, line in enumerate(whole, start=1):
        if not line:
            continue
        try:
            _take(json.loads(line), recordings)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CassetteError(
                f"{path}, line {number}, must be a request or a sample; got: {error}; "
                "take the file back from version control, or delete the line and record again"
            ) from None


def _take(line: dict[str, Any], recordings: _Recordings) -> None:
    if "cassette" in line:
        if line["cassette"] != _VERSION:
            raise ValueError(f"cassette format {line['cassette']}, and {_VERSION} is read")
        return
    key = _typed(line["key"], str)
    if "request" in line:
        request = _typed(line["request"], dict)
        if digest(canonical_json(request)) != key:
            raise ValueError(f"the request is not the one of its key {key}")
        recordings.put(key, request, {})
    elif key not in recordings.requests:
        raise ValueError(f"a sample of {key}, whose request is on no line before it")
    else:
        recordings.samples[key][_typed(line["sample"], int)] = _sample(line)
