"""BEIR folders: what is read, what is refused with which words, and same-id exclusion."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from limbeck.corpus import Corpus
from limbeck.errors import DataError
from limbeck.eval.datasets import Dataset
from limbeck.eval.measures import evaluate
from limbeck.types import Qrels, Query
from tests.eval.fakes import Words

DOCS = [
    {"_id": "1", "title": "Index", "text": "an inverted index maps terms to documents"},
    {"_id": "2", "text": "a dense retriever compares vectors"},
    {"_id": "3", "text": "fusion adds ranks"},
]
QUERIES = [
    {"_id": "1", "text": "an inverted index maps terms"},
    {"_id": "q2", "text": "dense vectors"},
    {"_id": "q3", "text": "not judged in test"},
]
QRELS = "query-id\tcorpus-id\tscore\n1\t2\t1\nq2\t2\t2\n"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)


def lines(values) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.fixture(params=["", ".gz"])
def folder(tmp_path: Path, request) -> Path:
    made = tmp_path / "some-collection"
    write(made / f"corpus.jsonl{request.param}", lines(DOCS))
    write(made / f"queries.jsonl{request.param}", lines(QUERIES))
    write(made / "qrels" / f"test.tsv{request.param}", QRELS)
    return made


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    made = tmp_path / "plain"
    write(made / "corpus.jsonl", lines(DOCS))
    write(made / "queries.jsonl", lines(QUERIES))
    write(made / "qrels" / "test.tsv", QRELS)
    return made


def test_only_judged_queries_are_run(folder: Path) -> None:
    dataset = Dataset.load(folder)
    assert dataset.name == "some-collection"
    assert [query.query_id for query in dataset.queries] == ["1", "q2"]
    assert dataset.qrels.judgements == {"1": {"2": 1}, "q2": {"2": 2}}
    assert len(dataset.corpus) == 3
    assert dataset.notes == ()
    assert not dataset.exclude_same_id
    assert all(query.excluded == () for query in dataset.queries)


def test_the_header_of_qrels_is_optional(plain: Path) -> None:
    with_header = Dataset.load(plain).qrels.judgements
    write(plain / "qrels" / "test.tsv", QRELS.split("\n", 1)[1])
    assert Dataset.load(plain).qrels.judgements == with_header


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_named(plain: Path, name: str) -> None:
    (plain / name).unlink()
    with pytest.raises(DataError, match=f"must be a BEIR folder with {name} or {name}.gz"):
        Dataset.load(plain)


def test_a_missing_folder_is_stated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        Dataset.load(tmp_path / "nowhere")


def test_a_missing_split_names_those_that_are_there(plain: Path) -> None:
    write(plain / "qrels" / "train.tsv.gz", QRELS)
    with pytest.raises(DataError, match="its splits are test, train"):
        Dataset.load(plain, split="dev")
    shutil.rmtree(plain / "qrels")
    with pytest.raises(DataError, match="it has no qrels"):
        Dataset.load(plain)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "queries.jsonl, line 2 must be one JSON object"),
        ("[1]", "queries.jsonl, line 2 must be one JSON object"),
        ('{"text": "x"}', "line 2 must have a non-empty `_id`"),
        ('{"_id": "", "text": "x"}', "line 2 must have a non-empty `_id`"),
        ('{"_id": true, "text": "x"}', "line 2 must have a non-empty `_id`"),
        ('{"_id": "q9"}', "line 2 must have a string `text`; got NoneType"),
        ('{"_id": "q9", "text": ["x"]}', "line 2 must have a string `text`; got list"),
        ('{"_id": "1", "text": "x"}', "'1' is that of .*line 1"),
    ],
)
def test_a_malformed_query_is_named(plain: Path, line: str, said: str) -> None:
    write(plain / "queries.jsonl", lines(QUERIES[:1]) + line + "\n")
    with pytest.raises(DataError, match=said):
        Dataset.load(plain)


def test_lone_surrogates_stay_outside(plain: Path) -> None:
    """An id with one can be written nowhere; a text is searched without."""
    (plain / "queries.jsonl").write_text('{"_id": "q1", "text": "half \\ud800"}\n')
    (plain / "qrels" / "test.tsv").write_text("q1\t2\t1\n")
    assert Dataset.load(plain).queries[0].text == "half ?"
    (plain / "queries.jsonl").write_text('{"_id": "\\ud800", "text": "x"}\n')
    with pytest.raises(DataError, match="line 1 must have an id of Unicode characters"):
        Dataset.load(plain)


def test_a_malformed_judgement_is_named(plain: Path) -> None:
    write(plain / "qrels" / "test.tsv", QRELS + "q2\t3\tyes\n")
    with pytest.raises(DataError, match=r"test.tsv, line 4 must have an integer grade"):
        Dataset.load(plain)


@pytest.mark.parametrize("text", ["", "query-id\tcorpus-id\tscore\n"])
def test_a_split_that_judges_nothing_is_refused(plain: Path, text: str) -> None:
    write(plain / "qrels" / "test.tsv", text)
    with pytest.raises(DataError, match="must judge at least one query"):
        Dataset.load(plain)


def test_qrels_of_another_collection_are_refused(plain: Path) -> None:
    write(plain / "qrels" / "test.tsv", "1\t2\t1\nx\t2\t1\ny\t2\t1\n")
    with pytest.raises(DataError, match="2 of 3 judged query ids are not in its queries"):
        Dataset.load(plain)
    write(plain / "qrels" / "test.tsv", "1\t2\t1\n1\tx\t1\n1\ty\t1\n")
    with pytest.raises(DataError, match="2 of 3 judged document ids are not in its corpus"):
        Dataset.load(plain)


def test_a_file_without_queries_is_said_to_be_empty(plain):
    (plain / "queries.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"queries.jsonl must hold queries; it is empty"):
        Dataset.load(plain)


def test_what_does_not_fit_is_kept_and_noted(plain: Path) -> None:
    write(plain / "corpus.jsonl", lines([*DOCS, {"_id": "4", "text": " "}]))
    write(plain / "queries.jsonl", lines([*QUERIES, {"_id": "q4", "text": " "}]))
    more = "q2\tgone\t1\nq3\t1\t0\nq4\t3\t1\nunknown\t3\t1\n"
    write(plain / "qrels" / "test.tsv", QRELS + more)
    dataset = Dataset.load(plain)
    assert [query.query_id for query in dataset.queries] == ["1", "q2", "q3", "q4"]
    assert dataset.notes == (
        "1 judged query is not among the queries: left out",
        "1 judged document is not in the corpus: it counts as not retrieved",
        "1 query has no text: it is run and finds nothing",
        "1 query has no relevant document: it scores 0 in every pipeline",
        "1 document is empty",
    )
    run = Words(index=dataset.corpus)(dataset.queries)
    recall = evaluate(run, dataset.qrels, ["R@10"])
    assert dict(zip(recall.query_ids, recall.of("R@10"), strict=True)) == {
        "1": 0.0,
        "q2": 0.5,  # one of its two relevant documents is nowhere
        "q3": 0.0,
        "q4": 0.0,
    }


@pytest.mark.parametrize(
    ("name", "manifest", "asked", "expected"),
    [
        ("vaswani", None, None, False),
        ("arguana", None, None, True),
        ("Quora", None, None, True),
        ("arguana", None, False, False),
        ("vaswani", None, True, True),
        ("vaswani", ("limbeck.yaml", "exclude_same_id: true"), None, True),
        ("arguana", ("limbeck.json", '{"exclude_same_id": false}'), None, False),
        ("arguana", ("limbeck.yaml", "exclude_same_id: false"), True, True),
    ],
)
def test_same_id_exclusion_is_explicit(plain: Path, name, manifest, asked, expected) -> None:
    folder = plain.rename(plain.parent / name)
    if manifest:
        write(folder / manifest[0], manifest[1])
    assert Dataset.load(folder, exclude_same_id=asked).exclude_same_id is expected


@pytest.mark.parametrize(
    "text", ["exclude_same_id: maybe", "exclude: true", "[1]", "limbeck: 1", "a: [", "\x00"]
)
def test_a_wrong_manifest_is_refused(plain: Path, text: str) -> None:
    write(plain / "limbeck.yaml", text)
    with pytest.raises(DataError, match=r"limbeck.yaml"):
        Dataset.load(plain)


def test_same_id_exclusion_changes_the_result(plain: Path) -> None:
    """Known defect 16: query "1" is document "1"; only without itself does it find document 2."""
    write(plain / "queries.jsonl", lines([{**DOCS[0], "text": "an inverted dense index"}]))
    write(plain / "qrels" / "test.tsv", "1\t2\t1\n")
    found = {}
    for exclude in (False, True):
        dataset = Dataset.load(plain, exclude_same_id=exclude)
        run = Words(index=dataset.corpus, k=1)(dataset.queries)
        found[exclude] = [hit.doc_id for hit in run.hits("1")]
        scores = evaluate(run, dataset.qrels, ["nDCG@10"]).means()
        assert scores["nDCG@10"] == (1.0 if exclude else 0.0)
    assert found == {False: ["1"], True: ["2"]}  # k hits are left when one is taken out
    assert "1 of 1 queries has one" in Dataset.load(plain, exclude_same_id=True).notes[0]


def test_the_fingerprint_holds_corpus_queries_exclusion_and_qrels() -> None:
    def made(text="x", query="t", grade=1, *, exclude=False) -> str:
        corpus = Corpus.from_documents([{"_id": "d", "text": text}])
        qrels = Qrels({"q": {"d": grade}})
        return Dataset.joined(
            "n", corpus, [Query("q", query)], qrels, exclude_same_id=exclude
        ).fingerprint

    variants = [made(), made("y"), made(query="u"), made(grade=2), made(exclude=True)]
    assert len(set(variants)) == len(variants)
    assert made() == made()


def test_the_mini_collection_comes_with_the_package() -> None:
    dataset = Dataset.mini()
    assert dataset.name == "mini"
    assert len(dataset.corpus) >= 150
    assert len(dataset.queries) >= 50
    assert len({g for of in dataset.qrels.judgements.values() for g in of.values()}) > 2


@pytest.mark.collections
def test_real_collections_load(shared: Path) -> None:
    """Sizes as stated in ../shared/data/README.md; medquad's corpus is packed."""
    sizes = {"scifact": (5183, 300), "cranfield": (1400, 225), "medquad": (15809, 1675)}
    for name, (n_documents, n_queries) in sizes.items():
        dataset = Dataset.load(shared / "data" / "beir" / name)
        assert (len(dataset.corpus), len(dataset.queries)) == (n_documents, n_queries)
        assert not dataset.exclude_same_id
