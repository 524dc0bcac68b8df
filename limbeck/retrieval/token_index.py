"""An index of coded tokens on disk: built chunk by chunk, brought up to date, compacted.

    meta.json            what the index is: written last, so that a kill leaves the old one
    codes-KEY/codebook/  centroids
    codes-KEY/*.bin      coded tokens of documents by content (`limbeck.retrieval.token_store`)
    codes-KEY/sample/    float16 tokens that centroids are made of, while the index is built
    table-N/             the index itself: document ids in the order of rows, and where each lies;
                         documents that were added to a corpus on disk, with their texts

A document is coded once: building, resuming after a kill and updating are one and the same, which
codes what is not there yet and then writes a table of what the corpus holds. A deleted document is
one that the table does not name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import Artifact, write_artifact, write_meta
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError
from limbeck.fingerprint import digest, fingerprint
from limbeck.progress import track
from limbeck.retrieval.codebook import SAMPLED, Codebook, n_centroids, trained
from limbeck.retrieval.codes import width_of
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenVectors
from limbeck.retrieval.pooling import pooled
from limbeck.retrieval.store import Store, remembered
from limbeck.retrieval.token_store import TokenStore
from limbeck.types import Document

__all__ = ["CodedDocuments", "Coding", "opened", "table_lines", "updated"]

_CHUNK = 64
"""Documents coded between two writes: what a kill can lose at most."""

_PROBE = 64
"""Documents whose length stands for that of all, when the number of centroids is chosen."""

_SEED = 9707
_VERSION = 1
_OUTGROWN = 4
"""New centroids are made for a corpus so many times as large as the one they were made for."""

_LIVE = 2 / 3
"""Tokens are written anew where the table names less of them than this."""

_COPIED = 1 << 10
"""Documents copied at once."""


@dataclass(frozen=True)
class Coding:
    """How documents become coded tokens.

    Attributes:
        encoder: documents to token vectors.
        bits: of each dimension of a residual.
        pool: how many tokens become one, on average.
    """

    encoder: TokenEncoder
    bits: int
    pool: int

    def vectors(self, documents: Sequence[Document]) -> TokenVectors:
        """Return the token vectors of documents.

        Raises:
            DataError: the encoder made a vector that is not finite.
        """
        made = self.encoder.encode_documents(documents)
        return pooled(made.finite([f"document {d.doc_id!r}" for d in documents]), self.pool)

    @property
    def fingerprint(self) -> str:
        """Digest of all that codes depend on, beside the centroids."""
        return fingerprint([self.encoder.document_fingerprint, self.bits, self.pool])


class CodedDocuments(NamedTuple):
    """An index as it lies on disk.

    Attributes:
        codebook: the centroids.
        store: the coded tokens.
        places: int32, shape (n_rows,); the document of the store at each row, -1 for a blank one.
        bits: of each dimension of a residual.
    """

    codebook: Codebook
    store: TokenStore
    places: NDArray[np.int32]
    bits: int


def opened(artifact: Artifact) -> CodedDocuments:
    """Return the index that lies in an artifact, memory-mapped.

    Raises:
        ArtifactError: a file is missing or too short.
    """
    stated = artifact.parameters["tokens"]
    folder = artifact.path / stated["codes"]
    codebook = _opened_codebook(folder / "codebook")
    width = width_of(codebook.dim, stated["bits"])
    store = TokenStore.opened(folder, width, stated["n_docs"], stated["n_tokens"])
    places = artifact.array(f"{stated['table']}/places")
    return CodedDocuments(codebook, store, places, stated["bits"])


def table_lines(artifact: Artifact, name: str) -> list[Any]:
    """Return the JSON values of a file of the table of an index; none where it has no such file."""
    file = f"{artifact.parameters['tokens']['table']}/{name}"
    return artifact.lines(file) if f"{file}.jsonl" in artifact.meta["files"] else []


def updated(
    folder: Path,
    corpus: Corpus,
    coding: Coding,
    *,
    kind: str,
    version: int,
    parameters: Mapping[str, Any],
) -> None:
    """Make the artifact in a folder, which may be empty, the index of a corpus.

    Documents that are there already, by content, are not encoded again. A reader, and a kill at any
    time, meets the old index or the new one; what a killed run has coded is used by the next. Who
    calls this holds a lock.

    Args:
        folder: where the index lies.
        corpus: the documents it shall hold.
        coding: how they are coded; those that are there otherwise are coded anew.
        kind: of the artifact.
        version: of the artifact.
        parameters: what the artifact says of itself, beside where its tokens lie.

    Raises:
        ArtifactError: the disk is full; what was coded so far stays.
    """
    there = _codes_there(folder, corpus, coding, (kind, version))
    codes = _Codes(there or folder / f"codes-{_key(corpus, coding)}", corpus, coding)
    codes.fill()
    if codes.wasteful:
        codes = codes.compacted(folder / f"codes-{_key(corpus, coding, codes.folder.name)}")
    coded = {"codes": codes.folder.name, "bits": coding.bits, "coding": coding.fingerprint}
    tokens = {**coded, **_table(folder, corpus, codes)}
    kept = [*codes.codebook_folder.iterdir(), *(folder / tokens["table"]).iterdir()]
    write_meta(folder, sorted(kept), kind, version, {**parameters, "tokens": tokens})
    _sweep(folder, {tokens["codes"], tokens["table"]})


def _table(folder: Path, corpus: Corpus, codes: _Codes) -> dict[str, Any]:
    """Return what the index says of its table, once that is written, and of the store it is of."""
    table = write_artifact(
        folder / _next_table(folder),
        kind="tokens-table",
        version=_VERSION,
        parameters={},
        arrays={"places": codes.places},
        lines={"doc_ids": corpus.doc_ids, **_additions(corpus)},
    )
    store = codes.store
    return {"table": table.name, "n_docs": len(store), "n_tokens": store.n_tokens}


def _additions(corpus: Corpus) -> dict[str, list[Any]]:
    """Return the documents to keep: those that the path of the corpus, if it has one, lacks."""
    added = [] if corpus.path is None else corpus.added_lines()
    return {"added": added} if added else {}


def _key(corpus: Corpus, coding: Coding, before: str = "") -> str:
    """Return what names a folder: the same for the same work, so that it can be taken up again."""
    return digest(corpus.fingerprint, coding.fingerprint, before)[:12]


def _codes_there(
    folder: Path, corpus: Corpus, coding: Coding, form: tuple[str, int]
) -> Path | None:
    """Return the folder of the codes in use, None where there are none that serve the corpus."""
    try:
        stated = Artifact.load(folder, kind=form[0], version=form[1]).parameters["tokens"]
        used = folder / stated["codes"]
        made_for = Artifact.load(used / "codebook", kind="codebook", version=_VERSION).parameters
    except ArtifactError:
        return None
    alike = stated.get("coding") == coding.fingerprint
    return used if alike and len(corpus) <= _OUTGROWN * made_for["n_docs"] else None


def _next_table(folder: Path) -> str:
    """Return a name that no table has: the one in use is never written over."""
    numbers = [int(entry.name.removeprefix("table-")) for entry in folder.glob("table-*")]
    return f"table-{max(numbers, default=0) + 1}"


def _sweep(folder: Path, kept: set[str]) -> None:
    """Remove what the index does not use, or no longer, and what killed runs left."""
    for entry in folder.iterdir():
        ours = entry.name.lstrip(".").startswith(("codes-", "table-"))
        if ours and entry.name not in kept:
            shutil.rmtree(entry, ignore_errors=True)
    for file in folder.glob(".meta.json.*"):
        file.unlink(missing_ok=True)
    for name in kept:
        shutil.rmtree(folder / name / "sample", ignore_errors=True)
        (folder / name / "sample.lock").unlink(missing_ok=True)


def _opened_codebook(folder: Path) -> Codebook:
    artifact = Artifact.load(folder, kind="codebook", version=_VERSION)
    return Codebook(np.array(artifact.array("codes")), artifact.parameters["dim"])


class _Codes:
    """A folder of codes, seen from a corpus whose documents it is to hold."""

    def __init__(self, folder: Path, corpus: Corpus, coding: Coding) -> None:
        self.folder = folder
        self.codebook_folder = folder / "codebook"
        self._corpus = corpus
        self._coding = coding
        self._rows = [row for row, d in enumerate(corpus.documents()) if d.contents.strip()]
        self._keys = {row: bytes.fromhex(corpus.digest(row)) for row in self._rows}
        self.store = TokenStore(folder, width_of(coding.encoder.dim, coding.bits))

    @cached_property
    def codebook(self) -> Codebook:
        """The centroids, made of a sample of the corpus where there are none."""
        try:
            return _opened_codebook(self.codebook_folder)
        except ArtifactError:
            codebook = self._trained()
        write_artifact(
            self.codebook_folder,
            kind="codebook",
            version=_VERSION,
            parameters={"dim": codebook.dim, "n_docs": len(self._corpus)},
            arrays={"codes": codebook.codes},
        )
        return codebook

    def _trained(self) -> Codebook:
        if not self._rows:
            return Codebook.of(np.zeros((1, self._coding.encoder.dim), dtype=np.float32))
        order = np.random.default_rng(_SEED).permutation(self._rows).tolist()
        probed, _ = self._sampled(order[:_PROBE])
        mean = probed[-1] / len(order[:_PROBE])
        n = n_centroids(mean * len(order))
        n_docs = max(_PROBE, int(-(-SAMPLED * n // max(mean, 1.0))))
        _, vectors = self._sampled(order[:n_docs])
        return trained(vectors.astype(np.float32), min(n, max(len(vectors), 1)))

    @cached_property
    def _sample(self) -> Store:
        vector = np.dtype(("<f2", (self._coding.encoder.dim,)))
        return Store(self.folder / "sample", vector)

    def _sampled(self, rows: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return bounds and vectors of some rows, encoded and kept where they are not yet."""

        def vectors(documents: Sequence[Document]) -> tuple[list[int], NDArray[np.float32]]:
            made = self._coding.vectors(documents)
            return np.diff(made.bounds).tolist(), made.vectors

        label = "encoding a sample for centroids"
        return remembered(self._sample, self._corpus, rows, vectors, label=label).packed()

    def fill(self) -> None:
        """Code the documents that the store does not hold, longest first."""
        codebook = self.codebook
        known = self.store.places()
        missing = {key: row for row, key in self._keys.items() if key not in known}
        rows = sorted(missing.values(), key=lambda row: -len(self._corpus.document(row).contents))
        for _ in track(self._filled(codebook, rows), label="coding documents", total=len(rows)):
            pass

    def _filled(self, codebook: Codebook, rows: Sequence[int]) -> Iterator[int]:
        """Yield each row once its document is on disk."""
        sampled = (self.folder / "sample").is_dir()
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            bounds, vectors = self._vectors(chunk, sampled=sampled)
            cells, codes = codebook.coded(vectors, self._coding.bits)
            of_doc = np.repeat(np.arange(len(chunk)), np.diff(bounds))
            order = np.lexsort((cells, of_doc))
            keys = [self._keys[row] for row in chunk]
            self.store.append(keys, np.diff(bounds).tolist(), cells[order], codes[order])
            yield from chunk

    def _vectors(self, rows: Sequence[int], *, sampled: bool) -> TokenVectors:
        """Return the token vectors of rows; those of the sample are there already."""
        lacking = self._sample.missing(self._keys[row] for row in rows) if sampled else set()
        new = [row for row in rows if not sampled or self._keys[row] in lacking]
        made = self._coding.vectors([self._corpus.document(row) for row in new]) if new else None
        positions = {row: position for position, row in enumerate(new)}
        texts = [
            made.of_text(positions[row])
            if made is not None and row in positions
            else self._sample.records([self._keys[row]]).packed()[1].astype(np.float32)
            for row in rows
        ]
        return TokenVectors.of(texts, self._coding.encoder.dim)

    @cached_property
    def places(self) -> NDArray[np.int32]:
        """The document of the store at each row of the corpus, -1 for a blank one."""
        known = self.store.places()
        places = np.full(len(self._corpus), -1, dtype=np.int32)
        for row, key in self._keys.items():
            places[row] = known[key]
        return places

    @property
    def wasteful(self) -> bool:
        """Whether so many tokens are of deleted documents that the rest should be written anew."""
        live = np.unique(self.places[self.places >= 0])
        n_live = int((self.store.ends[live] - self.store.starts[live]).sum())
        return n_live < _LIVE * self.store.n_tokens

    def compacted(self, folder: Path) -> _Codes:
        """Return these codes in another folder, without those of deleted documents."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.codebook_folder, folder / "codebook")
        other = _Codes(folder, self._corpus, self._coding)
        keys = list(dict.fromkeys(self._keys.values()))
        places = self.store.places()
        for start in range(0, len(keys), _COPIED):
            chunk = keys[start : start + _COPIED]
            at = np.array([places[key] for key in chunk])
            starts, ends = self.store.starts[at], self.store.ends[at]
            spans = zip(starts.tolist(), ends.tolist(), strict=True)
            tokens = np.concatenate([np.arange(*span) for span in spans])
            cells, codes = self.store.cells[tokens], self.store.codes[tokens]
            other.store.append(chunk, (ends - starts).tolist(), cells, codes)
        return other
