"""The corpus: every form it is read from, and every way a file can be broken."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus, read_jsonl
from limbeck.errors import DataError, UsageError
from limbeck.types import Document, Expansion, Query

_DOCS = [
    {"_id": "b", "title": "Zwei", "text": "zwei Wörter"},
    {"_id": "a", "title": "", "text": "eins\u2028noch"},
    {"_id": "10", "text": "drei", "metadata": {"year": 2020}},
]


def _write(path, documents):
    path.write_text("".join(json.dumps(d) + "\n" for d in documents), encoding="utf-8")
    return path


def test_rows_follow_the_tie_rule_whatever_the_order_of_the_file(tmp_path):
    one = Corpus.load(_write(tmp_path / "1.jsonl", _DOCS))
    two = Corpus.load(_write(tmp_path / "2.jsonl", _DOCS[::-1]))
    assert list(one.doc_ids) == ["b", "a", "10"]
    assert one == two
    assert one.fingerprint == two.fingerprint
    assert [d.doc_id for d in two.documents()] == ["b", "a", "10"]


def test_every_form_of_a_corpus_is_the_same_corpus(tmp_path):
    folder = tmp_path / "beir"
    folder.mkdir()
    plain = Corpus.load(_write(folder / "corpus.jsonl", _DOCS))
    packed = tmp_path / "packed"
    packed.mkdir()
    with gzip.open(packed / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(d) + "\n\n" for d in _DOCS)
    assert Corpus.load(folder) == plain == Corpus.load(packed) == Corpus.from_documents(_DOCS)


def test_texts_are_read_back_from_the_source(tmp_path):
    corpus = Corpus.load(_write(tmp_path / "c.jsonl", _DOCS))
    row = corpus.row("b")
    assert row is not None
    document = corpus.document(row)
    assert (document.title, document.text) == ("Zwei", "zwei Wörter")
    assert document.contents == "Zwei zwei Wörter"
    assert corpus.document(corpus.row("10")).metadata == {"year": 2020}
    assert corpus.row("nowhere") is None


def test_a_folder_of_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "guide.md").write_text("# Guide\nread me", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    (tmp_path / "marked.txt").write_text("marked", encoding="utf-8-sig")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    corpus = Corpus.load(tmp_path)
    assert set(corpus.doc_ids) == {"sub/guide.md", "notes.txt", "marked.txt"}
    assert corpus.document(corpus.row("sub/guide.md")).title == "guide"
    assert corpus.document(corpus.row("marked.txt")).text == "marked"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"_id": "x", "text": ', "line 2 must be one JSON object"),
        ("[" * 100_000, "line 2 must be one JSON object"),
        ("[1]", "line 2 must be one JSON object; got list"),
        ('{"text": "no id"}', "line 2 must have a non-empty `_id`"),
        ('{"_id": "", "text": "a"}', "line 2 must have a non-empty `_id`"),
        ('{"_id": true, "text": "a"}', "line 2 must have a non-empty `_id`"),
        ('{"_id": "x"}', "line 2 must have a string `text`"),
        ('{"_id": "x", "text": ["a"]}', "line 2 must have a string `text`"),
        ('{"_id": "x", "text": "a", "title": 3}', "line 2 must have a string `title`"),
        ('{"_id": "x", "text": "a", "metadata": 3}', "line 2 must have an object as `metadata`"),
        (
            '{"_id": "b", "text": "again"}',
            "line 2 must have a document id of its own; 'b' is that of",
        ),
        ('{"_id": "x", "text": "\xff"}', "line 2 must be one JSON object"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, said):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"_id": "b", "text": "fine"}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(DataError) as raised:
        Corpus.load(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Corpus.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="it holds none of them"):
        Corpus.load(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="it is empty"):
        Corpus.load(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="it is empty"):
        Corpus.from_documents([])


def test_a_truncated_gz_is_refused(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(_DOCS[0]).encode() * 500)[:-20])
    with pytest.raises(DataError, match="must be readable"):
        Corpus.load(path)


def test_lone_surrogates_go_no_further_than_the_door(tmp_path):
    """JSON can hold half a character; no file, screen or request can."""
    (tmp_path / "c.jsonl").write_text('{"_id": "a", "title": "\\ud800", "text": "half \\ud83d"}')
    document = Corpus.load(tmp_path / "c.jsonl").document(0)
    assert (document.title, document.text) == ("?", "half ?")
    (tmp_path / "c.jsonl").write_text('{"_id": "a", "text": "whole \\ud83d\\ude42"}')
    assert Corpus.load(tmp_path / "c.jsonl").document(0).text == "whole 🙂"
    made = Corpus.from_documents([Document("a", "half \ud83d", "\ud800")])
    assert (made.document(0).title, made.document(0).text) == ("?", "half ?")


@pytest.mark.parametrize("doc_id", ["", "a\udcff"])
def test_an_id_that_no_file_can_hold_is_refused(doc_id):
    with pytest.raises(DataError, match="document 1 must have an id of Unicode characters"):
        Corpus.from_documents([Document(doc_id, "text")])


def test_a_damaged_gz_is_refused(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    packed = bytearray(gzip.compress(json.dumps(_DOCS[0]).encode()))
    packed[10] |= 0b110  # a block of no known type
    path.write_bytes(packed)
    with pytest.raises(DataError, match="must be readable"):
        Corpus.load(path)
    with pytest.raises(DataError, match="must be readable"):
        list(read_jsonl(path))


def test_empty_documents_are_counted_and_kept():
    corpus = Corpus.from_documents([{"_id": "a", "text": " "}, {"_id": "b", "text": "x"}])
    assert (len(corpus), corpus.n_empty) == (2, 1)


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=8))
def test_whatever_the_ids_and_texts_they_come_back(texts):
    corpus = Corpus.from_documents({"_id": i, "text": t} for i, t in texts.items())
    assert {d.doc_id: d.text for d in corpus.documents()} == texts
    assert list(corpus.doc_ids) == sorted(texts, reverse=True)


def test_the_fingerprint_sees_every_change():
    base = {"_id": "a", "title": "t", "text": "x"}
    variants = [
        base,
        {**base, "_id": "b"},
        {**base, "title": "u"},
        {**base, "text": "y"},
        {**base, "metadata": {"k": 1}},
        {"_id": "a", "text": "t x"},
    ]
    assert len({Corpus.from_documents([v]).fingerprint for v in variants}) == len(variants)


def test_a_changed_corpus_equals_one_made_afresh():
    first = Corpus.from_documents({"_id": str(n), "text": f"text {n}"} for n in range(5))
    added = [{"_id": "1", "text": "new"}, {"_id": "9", "text": "text 9"}]
    changed = first.changed(added=added, deleted=["3"])
    expected = [{"_id": str(n), "text": f"text {n}"} for n in (0, 2, 4)]
    assert changed == Corpus.from_documents([*expected, *added])
    assert changed.document(changed.row("1")).text == "new"
    assert first.changed() == first
    assert len(first) == 5


def test_a_corpus_can_be_changed_a_thousand_times():
    """Each change read through all before it: 494 of them ended in a RecursionError."""
    corpus = Corpus.from_documents([{"_id": "0", "text": "text 0"}])
    for number in range(1, 1100):
        added = [{"_id": str(number), "text": f"text {number}"}]
        corpus = corpus.changed(added=added, deleted=[str(number - 1)] if number > 1 else [])
    expected = [{"_id": str(n), "text": f"text {n}"} for n in (0, 1099)]
    assert corpus == Corpus.from_documents(expected)
    assert corpus.document(corpus.row("0")).text == "text 0"


def test_what_is_deleted_must_be_there_and_something_must_be_left():
    corpus = Corpus.from_documents([{"_id": "a", "text": "x"}])
    with pytest.raises(DataError, match="'b' is not"):
        corpus.changed(deleted=["b"])
    with pytest.raises(DataError, match="it is empty"):
        corpus.changed(deleted=["a"])


def test_a_document_that_changed_since_is_refused(tmp_path):
    """Else an index that is kept under the old content's fingerprint would hold the new content."""
    (tmp_path / "a.txt").write_text("zebra")
    (tmp_path / "b.txt").write_text("horse")
    corpus = Corpus.load(tmp_path)
    (tmp_path / "a.txt").write_text("tiger")
    assert corpus.document(0).text == "horse"
    with pytest.raises(DataError, match=r"document 'a.txt' has changed; run again"):
        corpus.document(1)


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda c: c.changed(deleted="12"), r"one alone too; got '12'; write \['12'\]"),
        (lambda c: c.changed(deleted=[12]), r"ids .* be strings; got 12; write '12'"),
        (lambda c: c.changed(deleted=12), r"ids of documents must be a list"),
        (lambda c: c.changed(added={"_id": "3", "text": "x"}), r"write \[\{'_id': '3'"),
        (lambda c: c.changed(added=Document("3", "x")), r"documents .*; write \[Document\("),
        (lambda _: Corpus.from_documents({"_id": "3", "text": "x"}), r"documents must be a list"),
        (lambda _: Corpus.from_documents("some text"), r"documents must be a list"),
        (lambda _: Query("q", "x", excluded="12"), r"excluded .*; got '12'; write \['12'\]"),
        (lambda _: Expansion("some text"), r"texts of an expansion must be a list"),
    ],
)
def test_one_where_several_are_taken_is_refused(give, said):
    """ "12" was read as the ids "1" and "2", and a document as the names of its fields."""
    corpus = Corpus.from_documents({"_id": str(n), "text": "x"} for n in range(15))
    with pytest.raises(UsageError, match=said):
        give(corpus)


def test_what_is_no_document_is_refused():
    """It was looked up like a mapping, and ended in a TypeError."""
    for wrong in ("a text with an id", 3, None):
        with pytest.raises(DataError, match="document 1 must be a Document or a mapping"):
            Corpus.from_documents([wrong])
