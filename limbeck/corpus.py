"""The corpus: document ids to rows and back, with the texts left on disk.

Rows are numbered in the order of the tie rule (doc_id descending by code point), whatever the order
of the files, so that a result never depends on how a collection happens to be written down.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import mmap
import os
import reprlib
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from limbeck.errors import DataError, UsageError
from limbeck.fingerprint import canonical_json, digest
from limbeck.types import Document, require_several

__all__ = ["Corpus", "document_digest", "encodable", "read_jsonl", "require_id"]

_TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst"})


class _Source(Protocol):
    """Where documents are read from, by their position in the source."""

    def __len__(self) -> int: ...

    def read(self, position: int) -> Document: ...

    def place(self, position: int) -> str:
        """Return where a document is written, for messages."""
        ...


class Corpus:
    """A set of documents with unique ids; rows in the order of the tie rule."""

    def __init__(self, source: _Source, *, path: Path | None = None) -> None:
        """Read every document once to learn its id and its digest; texts are not kept.

        Raises:
            DataError: there is no document, an id is empty or no Unicode text, or stands twice.
        """
        self._source = source
        self.path = path
        found: dict[str, int] = {}
        digests: list[str] = []
        n_empty = 0
        for position in range(len(source)):
            document = source.read(position)
            require_id(document.doc_id, source.place(position))
            first = found.setdefault(document.doc_id, position)
            if first != position:
                raise DataError(
                    f"{source.place(position)} must have a document id of its own; "
                    f"{document.doc_id!r} is that of {source.place(first)}; rename one"
                )
            n_empty += not document.contents.strip()
            digests.append(document_digest(document))
        if not found:
            raise DataError(f"{path or 'the corpus'} must hold documents; it is empty; add some")
        order = sorted(found, reverse=True)
        self._positions = [found[doc_id] for doc_id in order]
        self._doc_ids: tuple[str, ...] = tuple(order)
        self.digests: tuple[str, ...] = tuple(digests[p] for p in self._positions)
        self.n_empty = n_empty

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Corpus:
        """Return the corpus of a BEIR folder, a JSONL file, or a folder of text files.

        A JSON line has `_id` (or `id`, `doc_id`), `text` and optionally `title` and `metadata`;
        `.gz` is unpacked. In a folder of files, each .txt, .md or .rst file is a document, its id
        the path below the folder.

        Raises:
            DataError: nothing is there, or a line is malformed; the message names the line.
        """
        given = Path(path)
        if given.is_dir():
            for name in ("corpus.jsonl", "corpus.jsonl.gz"):
                if (given / name).is_file():
                    return Corpus(_JsonLines(given / name), path=given)
            return Corpus(_TextFiles(given), path=given)
        if not given.is_file():
            raise DataError(f"a corpus must be a folder or a JSONL file; {given} does not exist")
        return Corpus(_JsonLines(given), path=given)

    @staticmethod
    def from_documents(documents: Iterable[Document | Mapping[str, Any]]) -> Corpus:
        """Return a corpus held in memory, from documents or from BEIR-like mappings.

        Raises:
            UsageError: one document is given, where several are taken.
            DataError: there is none, or one is malformed.
        """
        require_several(documents, "documents")
        made = [
            _encodable(d) if isinstance(d, Document) else _document(d, where=f"document {number}")
            for number, d in enumerate(documents, start=1)
        ]
        return Corpus(_Memory(made))

    def changed(
        self,
        *,
        added: Iterable[Document | Mapping[str, Any]] = (),
        deleted: Iterable[str] = (),
    ) -> Corpus:
        """Return this corpus with some documents more and some less; its texts stay where they lie.

        Args:
            added: documents; one whose id is taken stands in the place of the old one.
            deleted: ids of documents.

        Raises:
            UsageError: one document or one id is given, where several are taken.
            DataError: an id that is to be deleted is not there.
        """
        require_several(added, "documents")
        new = list(Corpus.from_documents(added).documents()) if (added := list(added)) else []
        gone = _ids(deleted)
        unknown = sorted(gone - self._rows.keys())
        if unknown:
            raise DataError(
                f"documents that are deleted must be in the corpus; {unknown[0]!r} is not; "
                "leave it out"
            )
        replaced = gone.union(document.doc_id for document in new)
        base, entries = self._parts()
        kept = [
            entry
            for doc_id, entry in zip(self._doc_ids, entries, strict=True)
            if doc_id not in replaced
        ]
        if not (kept or new):
            raise DataError("a corpus must hold documents; after this change it is empty; keep one")
        return Corpus(_Changed(base, [*kept, *new]), path=self.path)

    def added_lines(self) -> list[dict[str, Any]]:
        """Return the documents that `changed` brought in, which lie in memory and not at `path`.

        They are lines of JSON data, such as `load` reads.
        """
        _, entries = self._parts()
        return [
            {
                "_id": document.doc_id,
                "title": document.title,
                "text": document.text,
                "metadata": json.loads(canonical_json(document.metadata)),
            }
            for document in entries
            if isinstance(document, Document)
        ]

    def _parts(self) -> tuple[Corpus, Sequence[int | Document]]:
        """Return the corpus that was changed into this one, and for each row what stands there.

        A change of a change has the first corpus as its base, so that a text is one step away.
        """
        if isinstance(self._source, _Changed):
            return self._source.base, [self._source.entries[p] for p in self._positions]
        return self, range(len(self))

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._doc_ids)

    def __eq__(self, other: object) -> bool:
        """Two corpora are equal when all their ids and contents are."""
        return isinstance(other, Corpus) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def doc_ids(self) -> Sequence[str]:
        """The id of each row."""
        return self._doc_ids

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all ids and contents, free of the order and the form of the files."""
        return digest(
            *(part for pair in zip(self._doc_ids, self.digests, strict=True) for part in pair)
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {doc_id: row for row, doc_id in enumerate(self._doc_ids)}

    def row(self, doc_id: str) -> int | None:
        """Return the row of a document, None where the corpus does not hold it."""
        return self._rows.get(doc_id)

    def document(self, row: int) -> Document:
        """Return the document at a row, read from the source.

        Raises:
            DataError: it is not what it was when the corpus was loaded.
        """
        document = self._source.read(self._positions[row])
        if document_digest(document) != self.digests[row]:
            raise DataError(
                f"{self.path} must stay as it is while it is used; document "
                f"{self._doc_ids[row]!r} has changed; run again"
            )
        return document

    def digest(self, row: int) -> str:
        """Return the digest of title, text and metadata of the document at a row."""
        return self.digests[row]

    def documents(self) -> Iterator[Document]:
        """Yield all documents in row order."""
        for row in range(len(self)):
            yield self.document(row)

    def __repr__(self) -> str:
        """Return a short form for people."""
        return f"Corpus({str(self.path) if self.path else 'in memory'}, {len(self)} documents)"


def _ids(given: Iterable[str]) -> set[str]:
    require_several(given, "ids of documents")
    ids = set(given)
    for each in ids:
        if not isinstance(each, str):
            raise UsageError(f"ids of documents must be strings; got {each!r}; write '{each}'")
    return ids


def document_digest(document: Document) -> str:
    """Return the digest of a document's title, text and metadata."""
    return digest(document.title, document.text, canonical_json(document.metadata))


class _Memory:
    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    def read(self, position: int) -> Document:
        return self._documents[position]

    def place(self, position: int) -> str:
        return f"the corpus, document {position + 1}"


class _Changed:
    """Documents of a corpus, each by its row there, and others that are held in memory."""

    def __init__(self, base: Corpus, entries: Sequence[int | Document]) -> None:
        self.base = base
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, position: int) -> Document:
        entry = self.entries[position]
        return entry if isinstance(entry, Document) else self.base.document(entry)

    def place(self, position: int) -> str:
        return f"the changed corpus, document {position + 1}"


class _TextFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix.lower() in _TEXT_SUFFIXES and file.is_file()
        )
        if not self._files:
            wanted = ", ".join(sorted(_TEXT_SUFFIXES))
            raise DataError(
                f"{folder} must hold corpus.jsonl, corpus.jsonl.gz or text files ({wanted}); "
                "it holds none of them; give the right folder"
            )

    def __len__(self) -> int:
        return len(self._files)

    def read(self, position: int) -> Document:
        file = self._files[position]
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file} must be UTF-8; byte {error.start} is not; convert it"
            ) from error
        doc_id = file.relative_to(self._folder).as_posix()
        return Document(doc_id=doc_id, text=text, title=file.stem)

    def place(self, position: int) -> str:
        return str(self._files[position])


class _JsonLines:
    """Documents of a JSONL file, found again by byte offsets in a memory map."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = _mapped(path)
        self._starts: list[int] = []
        self._line_numbers: list[int] = []
        start = 0
        line_number = 0
        while start < len(self._data):
            line_number += 1
            end = self._data.find(b"\n", start)
            end = len(self._data) if end < 0 else end
            if self._data[start:end].strip():
                self._starts.append(start)
                self._line_numbers.append(line_number)
            start = end + 1

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, position: int) -> Document:
        start = self._starts[position]
        end = self._data.find(b"\n", start)
        line = self._data[start : len(self._data) if end < 0 else end]
        where = self.place(position)
        return _document(_parsed(line, where=where), where=where)

    def place(self, position: int) -> str:
        return f"{self._path}, line {self._line_numbers[position]}"


def _mapped(path: Path) -> mmap.mmap | bytes:
    """Return a file's bytes as a memory map; a .gz is unpacked into an unnamed temporary file."""
    if path.stat().st_size == 0:
        return b""
    try:
        if path.suffix != ".gz":
            with open(path, "rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with gzip.open(path) as packed, tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
            unpacked.flush()
            if unpacked.tell() == 0:
                return b""
            return mmap.mmap(unpacked.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be readable; got: {error}; fetch it again") from error


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a JSONL file (or .gz) with its place, for messages; skip blank lines.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _parsed(line, where=where)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} must be readable; got: {error}") from error


def encodable(text: str) -> str:
    """Return a text with "?" for each lone surrogate, which JSON can hold and no file or screen."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _encodable(document: Document) -> Document:
    title, text = encodable(document.title), encodable(document.text)
    return dataclasses.replace(document, title=title, text=text)


def require_id(identifier: str, where: str) -> None:
    """Raise DataError unless an id can be written to a file."""
    if not identifier or encodable(identifier) != identifier:
        raise DataError(
            f"{where} must have an id of Unicode characters; got {identifier!r}; rename it"
        )


def _parsed(line: bytes, *, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} must be one JSON object; got: {error}; mend the line") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} must be one JSON object; got {type(value).__name__}")
    return value


def _document(value: object, *, where: str) -> Document:
    if not isinstance(value, Mapping):
        raise DataError(
            f"{where} must be a Document or a mapping with `_id` and `text`; "
            f"got {reprlib.repr(value)}; give both"
        )
    doc_id = next((value[key] for key in ("_id", "id", "doc_id") if key in value), None)
    if not isinstance(doc_id, (str, int)) or isinstance(doc_id, bool) or doc_id == "":
        raise DataError(f"{where} must have a non-empty `_id`; got {doc_id!r}; give it one")
    text = value.get("text")
    if not isinstance(text, str):
        raise DataError(f"{where} must have a string `text`; got {type(text).__name__}")
    title = value.get("title") or ""
    if not isinstance(title, str):
        raise DataError(f"{where} must have a string `title`; got {type(title).__name__}")
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise DataError(f"{where} must have an object as `metadata`; got {type(metadata).__name__}")
    return Document(
        doc_id=str(doc_id), text=encodable(text), title=encodable(title), metadata=metadata
    )
