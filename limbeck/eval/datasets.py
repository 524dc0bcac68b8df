"""Test collections in BEIR's layout: a corpus, the queries that a split judges, and the qrels.

Same-id exclusion is a property of the collection, never a guess from the data. ArguAna's queries
are documents of its own corpus and must not find themselves; Vaswani's query "1" and document "1"
merely share a number. A small table knows the former; a manifest in the folder may say either.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from limbeck.corpus import Corpus, encodable, read_jsonl, require_id
from limbeck.errors import DataError
from limbeck.fingerprint import fingerprint
from limbeck.trec import read_qrels
from limbeck.types import Qrels, Query

__all__ = ["EXCLUDES_SAME_ID", "MANIFESTS", "MINI", "Dataset", "read_queries", "splits"]

EXCLUDES_SAME_ID = frozenset({"arguana", "quora"})
"""Collections whose queries are documents of their own corpus, under the same ids."""

MANIFESTS = ("limbeck.yaml", "limbeck.json")
"""Names of the manifest file in a collection's folder: `exclude_same_id: true`."""

MINI = Path(__file__).parent / "mini"
"""The folder of the collection that comes with Limbeck."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a collection, ready to be run: only queries that the split judges.

    Attributes:
        queries: with `excluded` filled where `exclude_same_id` holds, so that no stage of a
            pipeline sees the document that has the query's id.
        qrels: the judgements of these queries, in their order.
        notes: what a reader of the results should know about the data.
    """

    name: str
    corpus: Corpus
    queries: tuple[Query, ...]
    qrels: Qrels
    split: str = "test"
    exclude_same_id: bool = False
    notes: tuple[str, ...] = ()

    @staticmethod
    def load(
        folder: str | os.PathLike[str],
        split: str = "test",
        *,
        exclude_same_id: bool | None = None,
        corpus: Corpus | None = None,
    ) -> Dataset:
        """Return a split of a BEIR folder: corpus, queries and qrels, each plain or `.gz`.

        Args:
            folder: the collection; its name is the dataset's.
            split: which of its qrels to use.
            exclude_same_id: whether a query may not find the document that has its id. None asks
                the folder's manifest, then the table of known collections; else no.
            corpus: the folder's, where another split has read it already.

        Raises:
            DataError: a file is missing or malformed, a query id stands twice, the split judges no
                query, or most of its ids are unknown, as in the wrong folder.
        """
        path = Path(folder)
        corpus = corpus or Corpus.load(_required(path, "corpus.jsonl"))
        queries = read_queries(_required(path, "queries.jsonl"))
        qrels = read_qrels(_qrels_file(path, split))
        name = path.resolve().name
        if exclude_same_id is None:
            exclude_same_id = _excludes_same_id(path, name)
        return Dataset.joined(
            name, corpus, queries, qrels, split=split, exclude_same_id=exclude_same_id
        )

    @staticmethod
    def mini(split: str = "test", *, exclude_same_id: bool = False) -> Dataset:
        """Return the mini collection that comes with Limbeck."""
        return replace(Dataset.load(MINI, split, exclude_same_id=exclude_same_id), name="mini")

    @staticmethod
    def joined(
        name: str,
        corpus: Corpus,
        queries: Iterable[Query],
        qrels: Qrels,
        *,
        split: str = "test",
        exclude_same_id: bool = False,
    ) -> Dataset:
        """Return the dataset of the queries that the qrels judge, with notes on what does not fit.

        A judged document that the corpus does not hold stays in the qrels, as in trec_eval: it is
        relevant and can never be retrieved. A judged query that is not there cannot be run and is
        left out.

        Raises:
            DataError: no query is judged, or more than half of the judged queries or documents are
                unknown.
        """
        judged = tuple(query for query in queries if query.query_id in qrels.judgements)
        where = f"{name}, split {split!r}"
        notes = [
            *_unknown_queries(judged, qrels, where),
            *_unknown_documents(qrels, corpus, where),
            *_remarks(judged, qrels, corpus),
        ]
        if exclude_same_id:
            n_own = sum(corpus.row(query.query_id) is not None for query in judged)
            notes.insert(
                0,
                "no query may find the document that has its id (same-id exclusion); "
                f"{n_own} of {len(judged)} queries {'has' if n_own == 1 else 'have'} one",
            )
            judged = tuple(replace(q, excluded=(*q.excluded, q.query_id)) for q in judged)
        kept = qrels.restricted(query.query_id for query in judged)
        return Dataset(name, corpus, judged, kept, split, exclude_same_id, tuple(notes))

    def first(self, n_queries: int) -> Dataset:
        """Return the dataset with its first queries alone: for a look, not for a result."""
        if n_queries >= len(self.queries):
            return self
        queries = self.queries[:n_queries]
        told = f"only the first {n_queries} of {len(self.queries)} queries"
        return replace(
            self,
            queries=queries,
            qrels=self.qrels.restricted(query.query_id for query in queries),
            notes=(told, *self.notes),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the corpus, the queries with their exclusions, and the judgements."""
        return fingerprint([self.corpus.fingerprint, self.queries, self.qrels.fingerprint])


def _unknown_queries(judged: tuple[Query, ...], qrels: Qrels, where: str) -> list[str]:
    if not len(qrels):
        raise DataError(f"{where} must judge at least one query; it judges none; add judgements")
    n_unknown = len(qrels) - len(judged)
    if 2 * n_unknown > len(qrels):
        raise DataError(
            f"{where} must judge queries of this collection; {n_unknown} of {len(qrels)} judged "
            "query ids are not in its queries; give the qrels that belong to it"
        )
    if not n_unknown:
        return []
    return [_counted(n_unknown, *_UNKNOWN_QUERIES)]


def _unknown_documents(qrels: Qrels, corpus: Corpus, where: str) -> list[str]:
    doc_ids = {doc_id for grades in qrels.judgements.values() for doc_id in grades}
    n_unknown = sum(corpus.row(doc_id) is None for doc_id in doc_ids)
    if 2 * n_unknown > len(doc_ids):
        raise DataError(
            f"{where} must judge documents of this collection; {n_unknown} of {len(doc_ids)} "
            "judged document ids are not in its corpus; give the qrels that belong to it"
        )
    if not n_unknown:
        return []
    return [_counted(n_unknown, *_UNKNOWN_DOCUMENTS)]


def _remarks(judged: tuple[Query, ...], qrels: Qrels, corpus: Corpus) -> list[str]:
    counted = {
        _BLANK: sum(not query.text.strip() for query in judged),
        _HOPELESS: sum(
            max(qrels.judgements[query.query_id].values(), default=0) < 1 for query in judged
        ),
        _EMPTY: corpus.n_empty,
    }
    return [_counted(count, *forms) for forms, count in counted.items() if count]


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


_UNKNOWN_QUERIES = (
    "judged query is not among the queries: left out",
    "judged queries are not among the queries: left out",
)
_UNKNOWN_DOCUMENTS = (
    "judged document is not in the corpus: it counts as not retrieved",
    "judged documents are not in the corpus: they count as not retrieved",
)
_BLANK = (
    "query has no text: it is run and finds nothing",
    "queries have no text: they are run and find nothing",
)
_HOPELESS = (
    "query has no relevant document: it scores 0 in every pipeline",
    "queries have no relevant document: they score 0 in every pipeline",
)
_EMPTY = ("document is empty", "documents are empty")


def _required(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    missing = "it has neither" if folder.is_dir() else "there is no such folder"
    raise DataError(
        f"{folder} must be a BEIR folder with {name} or {name}.gz; {missing}; give the right folder"
    )


def _qrels_file(folder: Path, split: str) -> Path:
    for file in (folder / "qrels" / f"{split}.tsv", folder / "qrels" / f"{split}.tsv.gz"):
        if file.is_file():
            return file
    names = splits(folder)
    there = f"its splits are {', '.join(names)}" if names else "it has no qrels"
    raise DataError(f"{folder} must have qrels/{split}.tsv; {there}; name a split that is there")


def splits(folder: Path) -> list[str]:
    """Return the names of the splits that a BEIR folder has qrels of."""
    return sorted({file.name.split(".tsv")[0] for file in (folder / "qrels").glob("*.tsv*")})


def read_queries(path: Path) -> list[Query]:
    """Return the queries of a JSONL file, with `_id` and `text` in each line.

    Raises:
        DataError: a line is malformed, or an id stands twice.
    """
    places: dict[str, str] = {}
    queries: list[Query] = []
    for where, value in read_jsonl(path):
        query = _query(value, where)
        first = places.setdefault(query.query_id, where)
        if first != where:
            raise DataError(
                f"{where} must have a query id of its own; {query.query_id!r} is that of {first}; "
                "rename one"
            )
        queries.append(query)
    if not queries:
        raise DataError(f"{path} must hold queries; it is empty; fetch it again, or add some")
    return queries


def _query(value: Mapping[str, Any], where: str) -> Query:
    query_id = next((value[key] for key in ("_id", "id", "query_id") if key in value), None)
    if not isinstance(query_id, (str, int)) or isinstance(query_id, bool) or query_id == "":
        raise DataError(f"{where} must have a non-empty `_id`; got {query_id!r}; give it one")
    text = value.get("text")
    if not isinstance(text, str):
        raise DataError(f"{where} must have a string `text`; got {type(text).__name__}; mend it")
    require_id(str(query_id), where)
    return Query(str(query_id), encodable(text))


def _excludes_same_id(folder: Path, name: str) -> bool:
    manifest = next((folder / m for m in MANIFESTS if (folder / m).is_file()), None)
    if manifest is None:
        return name.lower() in EXCLUDES_SAME_ID
    said = _read_manifest(manifest).get("exclude_same_id", name.lower() in EXCLUDES_SAME_ID)
    if not isinstance(said, bool):
        raise DataError(f"{manifest}: exclude_same_id must be true or false; got {said!r}; mend it")
    return said


def _read_manifest(path: Path) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} must be readable YAML or JSON; got: {error}; mend it") from error
    if not isinstance(value, dict) or set(value) - {"exclude_same_id"}:
        raise DataError(
            f"{path} must hold the one key exclude_same_id; got {value!r}; "
            "a spec file does not belong into a collection's folder"
        )
    return value
