"""What every retriever with an index on disk shares: build, open, bind, load, and the errors.

An index is a folder (`limbeck.artifact`). A node that names no path has its index in the cache,
under the fingerprint of what shaped it, and two processes that want one build it once.
"""

from __future__ import annotations

import dataclasses
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from numpy.typing import NDArray

from limbeck.artifact import Artifact, cache_folder, locked, settled, write_artifact
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError, LimbeckError, Problem, UsageError
from limbeck.fingerprint import canonical_json, fingerprint
from limbeck.pipeline import Given, Retriever
from limbeck.types import Document, Documents

__all__ = ["Built", "IndexNode", "Indexed", "Opened", "StoredDocuments", "readable"]

_Index = TypeVar("_Index")

_GIVE = "load the index with `corpus=`, its documents with what was added since"

_NOT_PARAMETERS = frozenset({"k", "path", "corpus", "opened"})


class Built(NamedTuple):
    """What an index holds on disk beside the document ids."""

    arrays: Mapping[str, NDArray[Any]]
    lines: Mapping[str, Sequence[Any]] = {}


@dataclass(frozen=True)
class Opened(Generic[_Index]):
    """An index that was found whole: its content, and the fingerprint of what shaped it."""

    index: _Index
    fingerprint: str


class StoredDocuments:
    """The documents of an index that was opened without its corpus.

    Ids come from the index; texts from the place where the corpus lay, once one is asked for, and
    from the index where they were added to it.
    """

    def __init__(
        self,
        doc_ids: Sequence[str],
        fingerprint: str,
        path: str | None,
        added: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Remember the ids, where the texts were, and the documents that do not lie there."""
        self.doc_ids = doc_ids
        self.fingerprint = fingerprint
        self._path = path
        self._added = added

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.doc_ids)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {doc_id: row for row, doc_id in enumerate(self.doc_ids)}

    def row(self, doc_id: str) -> int | None:
        """Return the row of a document, None where the index does not hold it."""
        return self._rows.get(doc_id)

    def document(self, row: int) -> Document:
        """Return the document at a row.

        Raises:
            DataError: the corpus that the index was built on is gone or changed.
        """
        return self.corpus.document(row)

    def digest(self, row: int) -> str:
        """Return the digest of the document at a row.

        Raises:
            DataError: the corpus that the index was built on is gone or changed.
        """
        return self.corpus.digest(row)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus itself.

        Raises:
            DataError: it is gone or changed.
        """
        if self._path is None:
            raise DataError(
                "what reads texts needs the documents of this index, and they were held in memory "
                f"only; {_GIVE}"
            )
        corpus = self._changed(Corpus.load(self._path))
        if corpus.fingerprint != self.fingerprint:
            raise DataError(
                f"{self._path} must hold the documents that the index was built on; "
                f"{_difference(self, corpus)}; {_GIVE}, or build it again"
            )
        return corpus

    def _changed(self, corpus: Corpus) -> Corpus:
        """Return a corpus as the index was changed: what was added to it, without what is gone."""
        gone = [doc_id for doc_id in corpus.doc_ids if doc_id not in self._rows]
        another = len(gone) == len(corpus) and not self._added
        return corpus if another else corpus.changed(added=self._added, deleted=gone)


def _difference(indexed: Documents, given: Documents) -> str:
    """Return in words how the documents of an index and those of a corpus differ."""
    alone = set(indexed.doc_ids) ^ set(given.doc_ids)
    if alone:
        first = min(alone)
        place = "in the corpus" if indexed.row(first) is None else "in the index"
        how = f"{first!r} is {place} alone"
    else:
        how = "their ids are the same, and a text, a title or metadata is not"
    return (
        f"the index holds {len(indexed)} documents ({indexed.fingerprint}), the corpus "
        f"{len(given)} ({given.fingerprint}), and {how}"
    )


@dataclass(frozen=True)
class Indexed(Retriever, Generic[_Index]):
    """A retriever with an index on disk. Implement `write`, `open`, `retrieve` and `kind`.

    Attributes:
        path: where the index lies; it is opened, or built there by `bind`. None: in the cache.
        corpus: the documents to search. None: those that `bind` is given.
        opened: the open index; set by `bind` and `load`.
    """

    rehearsed: ClassVar[bool] = True

    path: Path | None = field(default=None, kw_only=True)
    corpus: Documents | None = field(default=None, kw_only=True)
    opened: Opened[_Index] | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path is not None:
            object.__setattr__(self, "path", Path(self.path))

    @classmethod
    def index(
        cls,
        corpus: Corpus,
        *parameters: Any,
        path: str | os.PathLike[str] | None = None,
        **named: Any,
    ) -> Self:
        """Return the node with its index of a corpus: opened if it is there, else built.

        Args:
            corpus: the documents; their title and text are indexed.
            parameters: fields of this class, in their order, such as an encoder.
            path: where the index lies. None: in the cache, under the fingerprint of corpus, model
                and parameters.
            named: fields of this class.

        Raises:
            ArtifactError: at `path` is an index of another corpus, model or parameters, or the
                model cannot be had.
        """
        where = None if path is None else Path(path)
        return cls(*parameters, **named, path=where).bind(corpus)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, corpus: Corpus | None = None, k: int = 1000
    ) -> Self:
        """Return the node of an index on disk, with the parameters that it was built with.

        Args:
            path: where the index lies.
            corpus: its documents. None: ids come from the index, and texts, where something reads
                them, from where the corpus lay when the index was built; of one that was held in
                memory there are none.
            k: hits returned for each query.

        Raises:
            ArtifactError: no whole index is there, or it is of another corpus or model.
        """
        return cls.loaded(Path(path), corpus, k)

    @abstractmethod
    def write(self, path: Path, corpus: Corpus, parameters: Mapping[str, Any]) -> None:
        """Write the index of a corpus as the artifact at a path, with the parameters given."""

    @abstractmethod
    def open(self, artifact: Artifact) -> _Index:
        """Return the index that lies in an artifact, memory-mapped."""

    def stored_ids(self, artifact: Artifact) -> Sequence[str]:
        """Return the document ids that an artifact holds, in the order of rows."""
        return artifact.lines("doc_ids")

    def stored_additions(self, artifact: Artifact) -> Sequence[Mapping[str, Any]]:  # noqa: ARG002
        """Return the documents that an artifact holds beside those of its corpus on disk."""
        return ()

    def identity(self, artifact: Artifact) -> object:
        """Return what tells the index in an artifact from others of its corpus, as JSON data."""
        return artifact.parameters["shaping"]

    def parameters(self) -> dict[str, Any]:
        """Return the node's parameters as JSON data, by field; `load` makes the node from them."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in _NOT_PARAMETERS
        }

    def shaping(self) -> dict[str, Any]:
        """Return what shapes the index on disk, as JSON data: all parameters, unless overridden."""
        return self.parameters()

    @cached_property
    def fingerprint(self) -> str:
        """Digest of class version, parameters, and the open index, wherever it lies."""
        index: object = [self.path, self.corpus] if self.opened is None else self.opened.fingerprint
        return fingerprint(
            {
                "node": self.name,
                "version": self.version,
                "k": self.k,
                "parameters": self.parameters(),
                "index": index,
            }
        )

    def searchable(self) -> tuple[_Index, Documents]:
        """Return the open index and its documents.

        Raises:
            UsageError: the node was not bound.
        """
        if self.opened is None or self.corpus is None:
            raise UsageError(
                f"{self.name} must have an index before it is called; it has none; "
                f"use {type(self).__name__}.index(corpus), .load(path) or .bind(corpus)"
            )
        return self.opened.index, self.corpus

    def bind(self, corpus: Corpus) -> Self:
        """Return this node with its index open: on its own corpus, else on the one given.

        Raises:
            ArtifactError: the index at `path` has other parameters or another corpus.
        """
        if self.opened is not None:
            return self
        named = corpus if self.corpus is None else self.corpus
        if self.path is None:
            return self._bound_in_cache(readable(named))
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            self._write(readable(named), self.path)
        return self._bound_at(self.path, named)

    def examine(self, given: Given, place: str, problems: list[Problem]) -> Given:
        """Return kind and corpus of the run; an index at `path` is looked at, not opened."""
        known = super().examine(given, place, problems)
        if self.opened is not None or self.path is None or not self.path.exists():
            return known
        try:
            artifact = self._artifact(self.path)
            found = artifact.parameters["corpus"]["fingerprint"]
            if self.corpus is not None and self.corpus.fingerprint != found:
                differing = self._differing(artifact, self.corpus)
                message = f"the index at {self.path} must be of the corpus named here; {differing}"
                mend = "build the index again, or name its corpus"
                problems.append(Problem(place, message, mend))
        except ArtifactError as error:
            problems.append(
                Problem(place, str(error), "build the index again, or leave out `path`")
            )
            return known
        return Given(known.kind, found)

    @classmethod
    def loaded(cls, path: Path, corpus: Corpus | None, k: int, **given: Any) -> Self:
        """Return the node that an index was built by, with the index open.

        Args:
            path: where the index lies.
            corpus: its documents, or None.
            k: hits returned for each query.
            given: fields that JSON cannot hold, such as functions.
        """
        parameters = {**cls._artifact(path).parameters["node"], **given}
        try:
            node = cls(**parameters, path=path, k=k)
        except (TypeError, LimbeckError) as error:
            raise ArtifactError(
                f"{path} must have been built by a {cls.name} node of this version; "
                f"its parameters do not fit: {error}; build it again"
            ) from error
        return node._bound_at(path, corpus)

    @classmethod
    def _artifact(cls, path: Path) -> Artifact:
        artifact = Artifact.load(path, kind=cls.name, version=cls.version)
        parts = [artifact.parameters.get(name) for name in ("node", "shaping", "corpus")]
        whole = all(isinstance(part, dict) for part in parts)
        if not whole or artifact.parameters["corpus"].keys() != {"fingerprint", "path"}:
            raise ArtifactError(
                f"{path} must say what it was built from; its meta.json does not; build it again"
            )
        return artifact

    def _bound_in_cache(self, corpus: Corpus) -> Self:
        key = fingerprint([self.version, self.shaping(), corpus.fingerprint])
        folder = cache_folder("indexes", f"{self.name}-{key}")
        with locked(folder):
            try:
                return self._bound_at(folder, corpus)
            except ArtifactError:  # not there yet, or damaged: the cache can always be made again
                self._write(corpus, folder)
            return self._bound_at(folder, corpus)

    def _write(self, corpus: Corpus, path: Path) -> None:
        if path.name in {"", ".."}:  # it is written beside its place, and renamed
            raise UsageError(
                f"the path of an index must end in the name of a folder; got {str(path)!r}; "
                "give it one"
            )
        self.write(path, corpus, self.written_parameters(corpus))

    def written_parameters(self, corpus: Corpus) -> dict[str, Any]:
        """Return what an index says of how, and of what corpus, it was built."""
        where = None if corpus.path is None else str(corpus.path.resolve())
        return {
            "node": self.parameters(),
            "shaping": self.shaping(),
            "corpus": {"fingerprint": corpus.fingerprint, "path": where},
        }

    def _bound_at(self, path: Path, corpus: Documents | None) -> Self:
        return settled(path, lambda: self._bound_once(path, corpus))

    def _bound_once(self, path: Path, corpus: Documents | None) -> Self:
        artifact = self._artifact(path)
        self._require_own(artifact)
        built_on = artifact.parameters["corpus"]
        if corpus is None:
            added = self.stored_additions(artifact)
            corpus = StoredDocuments(self.stored_ids(artifact), **built_on, added=added)
        if corpus.fingerprint != built_on["fingerprint"]:
            raise ArtifactError(
                f"{path} must be an index of the corpus that is given; "
                f"{self._differing(artifact, corpus)}; give the documents that the index holds, or "
                "build it again"
            )
        shaped = fingerprint([self.identity(artifact), corpus.fingerprint])
        opened = Opened(self.open(artifact), shaped)
        return dataclasses.replace(self, corpus=corpus, opened=opened)

    def _differing(self, artifact: Artifact, corpus: Documents) -> str:
        """Return in words how a corpus differs from that of the index in an artifact."""
        built_on = artifact.parameters["corpus"]
        return _difference(StoredDocuments(self.stored_ids(artifact), **built_on), corpus)

    def _require_own(self, artifact: Artifact) -> None:
        """Raise ArtifactError where the index was shaped by other parameters than the node's."""
        found, own = artifact.parameters["shaping"], self.shaping()
        if canonical_json(found) == canonical_json(own):
            return
        differing = sorted(key for key in {*found, *own} if found.get(key) != own.get(key))
        here = ", ".join(f"{key}={own.get(key)!r}" for key in differing)
        there = ", ".join(f"{key}={found.get(key)!r}" for key in differing)
        raise ArtifactError(
            f"{artifact.path} must have been built with {here}; it was with {there}; "
            "build it again, or give the parameters it has"
        )


@dataclass(frozen=True)
class IndexNode(Indexed[_Index]):
    """A retriever whose index fits into memory. Implement `build`, `open`, `retrieve`, `kind`."""

    @abstractmethod
    def build(self, corpus: Corpus) -> Built:
        """Return what the index of a corpus holds."""

    def write(self, path: Path, corpus: Corpus, parameters: Mapping[str, Any]) -> None:
        """Write the index of a corpus as the artifact at a path, with the parameters given."""
        arrays, lines = self.build(corpus)
        write_artifact(
            path,
            kind=self.name,
            version=self.version,
            parameters=parameters,
            arrays=arrays,
            lines={**lines, "doc_ids": corpus.doc_ids},
        )


def readable(documents: Documents) -> Corpus:
    """Return the corpus, which an index can be built on."""
    if not isinstance(documents, Corpus):
        raise UsageError(
            f"an index is built on a Corpus; got {type(documents).__name__}; "
            "use Corpus.load(path) or Corpus.from_documents(...)"
        )
    return documents
