"""TREC runs and qrels, read and written; packed where the name ends in `.gz`.

A run line is `query_id Q0 doc_id rank score tag`, a qrels line `query_id 0 doc_id grade`. BEIR
writes qrels in three columns, with tabs and a header; `read_qrels` takes both forms.
"""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from limbeck.artifact import write_atomically
from limbeck.errors import DataError
from limbeck.types import Documents, Qrels, Run

__all__ = [
    "read_either",
    "read_qrels",
    "read_run",
    "require_carried",
    "write_qrels",
    "write_run",
]

_HEADERS = frozenset({"query-id", "query_id", "qid"})
_RUN_COLUMNS = 6
_BREAKS = frozenset("\t\n\r")
_BLANKS = _BREAKS | frozenset(" \x0b\x0c")
"""What separates columns: ASCII only, as in trec_eval; an id may hold any other space."""


def read_run(path: Path, corpus: Documents, *, kind: str = "unknown") -> Run:
    """Return the run of a TREC file, ranked by its scores and the tie rule.

    The rank column is not read; trec_eval does not read it either. Queries stand in the order in
    which the file first names them. A query without hits leaves no line in a TREC file.

    Args:
        path: the file.
        corpus: the documents that the run ranks.
        kind: the score kind, which a TREC file does not tell.

    Raises:
        DataError: a line is malformed, ranks a document that the corpus does not hold, or ranks one
            again; the message names the line.
    """
    numbers: dict[str, int] = {}
    scores: dict[tuple[int, int], float] = {}
    for where, line in _lines(path):
        query_id, doc_id, score = _run_fields(line, where)
        row = corpus.row(doc_id)
        if row is None:
            raise DataError(
                f"{where} must rank a document of the corpus; it has {doc_id!r}; "
                "load the corpus that the run was made with"
            )
        hit = (numbers.setdefault(query_id, len(numbers)), row)
        if hit in scores:
            raise DataError(f"{where} ranks {doc_id!r} for {query_id!r} again; keep one line")
        scores[hit] = score
    queries, rows = np.array(list(scores), dtype=np.int32).reshape(-1, 2).T
    order = np.argsort(queries, kind="stable")
    bounds = np.searchsorted(queries[order], np.arange(len(numbers) + 1))
    values = np.array(list(scores.values()), dtype=np.float32)[order]
    return Run.ranked(tuple(numbers), bounds, rows[order], values, kind=kind, corpus=corpus)


def read_either(path: Path, corpus: Documents, *, kind: str = "unknown") -> Run:
    """Return the run of a TREC file, or judgements as a run whose scores are their grades.

    The number of columns in the first line tells which it is: a run has six.

    Raises:
        DataError: a line is malformed, or names a document that the corpus does not hold.
    """
    _, first = next(_lines(path), ("", b""))
    if len(first.split()) >= _RUN_COLUMNS:
        return read_run(path, corpus, kind=kind)
    held = read_qrels(path).judgements
    return Run.from_hits(
        {q: grades.items() for q, grades in held.items()}, kind=kind, corpus=corpus
    )


def _run_fields(line: bytes, where: str) -> tuple[str, str, float]:
    fields = _fields(line, where, columns=(_RUN_COLUMNS,), form="query_id Q0 doc_id rank score tag")
    try:
        score = float(fields[4])
    except ValueError:
        score = float("nan")
    if np.isnan(score):
        raise DataError(
            f"{where} must have a number as its score; got {fields[4]!r}; mend the line"
        )
    return fields[0], fields[2], score


def write_run(run: Run, path: Path, *, tag: str = "limbeck") -> None:
    """Write a run as a TREC file; the scores read back bit-equal as float32.

    Columns are parted by a space. Where an id holds spaces they are parted by tabs, which
    `read_run` understands and trec_eval does not.

    Raises:
        DataError: an id holds a tab or a line break, which the format cannot carry.
        ArtifactError: the file cannot be written.
    """
    doc_ids = run.corpus.doc_ids
    named = [doc_ids[row] for row in run.rows.tolist()]
    blank = _separator({*run.query_ids, *named}, path)
    scores = run.scores.astype(str).tolist()
    lines: list[str] = []
    for position, query_id in enumerate(run.query_ids):
        where = run.segment(position)
        hits = zip(named[where], scores[where], strict=True)
        lines.extend(
            blank.join((query_id, "Q0", doc_id, str(rank), score, tag))
            for rank, (doc_id, score) in enumerate(hits, start=1)
        )
    _write_lines(path, lines)


def read_qrels(path: Path) -> Qrels:
    """Return the judgements of a TREC file, or of a BEIR file with or without its header.

    Raises:
        DataError: a line is malformed, a grade is no integer, or one document is given two grades
            for a query; the message names the line.
    """
    judgements: dict[str, dict[str, int]] = {}
    for number, (where, line) in enumerate(_lines(path)):
        fields = _fields(line, where, columns=(3, 4), form="query_id doc_id grade (BEIR) or TREC's")
        if number == 0 and fields[0].lower() in _HEADERS:
            continue
        query_id, doc_id, grade = fields[0], fields[-2], _grade(fields[-1], where)
        known = judgements.setdefault(query_id, {}).setdefault(doc_id, grade)
        if known != grade:
            raise DataError(
                f"{where} must not judge again; {doc_id!r} has grade {known} for {query_id!r} "
                f"above and {grade} here; keep one"
            )
    return Qrels(judgements)


def _grade(field: str, where: str) -> int:
    try:
        return int(field)
    except ValueError:
        raise DataError(f"{where} must have an integer grade; got {field!r}; mend it") from None


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write judgements: in BEIR's form where the name ends in `.tsv` or `.tsv.gz`, else in TREC's.

    Raises:
        DataError: an id holds a tab or a line break, which neither form can carry.
        ArtifactError: the file cannot be written.
    """
    beir = ".tsv" in path.suffixes[-2:]
    ids = [*qrels.judgements, *(doc_id for of in qrels.judgements.values() for doc_id in of)]
    blank = _separator(ids, path)
    lines = ["query-id\tcorpus-id\tscore"] if beir else []
    for query_id, grades in qrels.judgements.items():
        for doc_id, grade in grades.items():
            row = (query_id, doc_id, str(grade)) if beir else (query_id, "0", doc_id, str(grade))
            lines.append(("\t" if beir else blank).join(row))
    _write_lines(path, lines)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each line that is not blank with its place, for messages."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.removeprefix(BOM_UTF8) if number == 1 else line
                if text.strip():
                    yield f"{path}, line {number}", text
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be readable; got: {error}; give the right file") from error


def _fields(line: bytes, where: str, *, columns: Sequence[int], form: str) -> list[str]:
    """Return a line's columns, parted by tabs if that gives a right number of them."""
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) not in columns:
        fields = line.split()
    if len(fields) not in columns or not all(fields):
        raise DataError(f"{where} must read: {form}; it has {len(fields)} columns; mend the line")
    try:
        return [field.decode() for field in fields]
    except UnicodeDecodeError:
        raise DataError(f"{where} must be UTF-8; it is not; convert the file") from None


def _separator(ids: Collection[str], path: Path) -> str:
    """Return a space, or a tab where an id holds a space."""
    require_carried(ids, str(path))
    return "\t" if set().union(*ids) & _BLANKS else " "


def require_carried(ids: Iterable[str], where: str) -> None:
    """Raise DataError where an id holds a tab or a line break, which no TREC file can carry."""
    name = next((i for i in ids if not _BREAKS.isdisjoint(i)), None)
    if name is not None:
        raise DataError(
            f"{where} cannot carry an id with a tab or a line break; got {name!r}; rename it"
        )


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    data = "\n".join((*lines, "")).encode()
    # mtime=0: the same run gives the same bytes.
    write_atomically(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
