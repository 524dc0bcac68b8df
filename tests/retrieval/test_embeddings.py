from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifact import cache_folder
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError
from limbeck.progress import listening
from limbeck.retrieval import store
from limbeck.retrieval.embeddings import embed
from tests.retrieval.fake_encoder import FakeEncoder


def corpus_of(numbers) -> Corpus:
    """Document n has n words more than none, so that lengths differ."""
    return Corpus.from_documents(
        {"_id": f"d{n:04}", "title": f"t{n}", "text": " ".join(f"w{i}" for i in range(n))}
        for n in numbers
    )


def folder_of(encoder) -> Path:
    return cache_folder("embeddings", encoder.document_fingerprint)


def expected(corpus, rows, encoder):
    return FakeEncoder().encode_documents([corpus.document(row) for row in rows])


def test_vectors_in_the_order_of_the_rows(mini_corpus) -> None:
    encoder = FakeEncoder()
    rows = [5, 0, 3]
    vectors = embed(mini_corpus, rows, encoder)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, expected(mini_corpus, rows, encoder))
    assert embed(mini_corpus, [], encoder).shape == (0, 8)


def test_nothing_is_encoded_twice(mini_corpus) -> None:
    """Two documents with the same words are one text; a second call encodes nothing."""
    first, second = FakeEncoder(), FakeEncoder()
    rows = range(len(mini_corpus))
    vectors = embed(mini_corpus, rows, first)
    assert len(first.seen_documents) == len(set(mini_corpus.digests)) == len(mini_corpus) - 1
    assert np.array_equal(embed(mini_corpus, rows, second), vectors)
    assert second.seen_documents == []


def test_another_corpus_encodes_only_its_new_documents() -> None:
    encoder = FakeEncoder()
    embed(corpus_of(range(1, 20)), range(19), encoder)
    encoder.seen_documents.clear()
    more = corpus_of(range(10, 25))
    vectors = embed(more, range(15), encoder)
    assert sorted(encoder.seen_documents) == sorted(more.document(row).contents for row in range(5))
    assert np.array_equal(vectors, expected(more, range(15), encoder))


def test_encoders_do_not_share_vectors(mini_corpus) -> None:
    one, other = FakeEncoder(name="one"), FakeEncoder(name="other", dim=4)
    embed(mini_corpus, [0, 1], one)
    assert embed(mini_corpus, [0, 1], other).shape == (2, 4)
    assert len(other.seen_documents) == 2


def test_longest_first_with_progress(monkeypatch) -> None:
    monkeypatch.setattr(store, "_CHUNK", 4)
    encoder, told = FakeEncoder(), []
    corpus = corpus_of(range(1, 11))

    def listener(label, done, total, said):
        told.append((done, total, len(encoder.seen_documents)))

    with listening(listener):
        embed(corpus, range(10), encoder)
    lengths = [len(text) for text in encoder.seen_documents]
    assert lengths == sorted(lengths, reverse=True)
    assert [(done, total) for done, total, _ in told] == [(n, 10) for n in range(11)]
    assert all(encoded >= done for done, _, encoded in told)


@pytest.mark.parametrize("torn", [("entries.bin", 3), ("rows.bin", 5), ("rows.bin", 100)])
def test_a_torn_tail_is_cut_off(torn, monkeypatch) -> None:
    """A kill leaves either file with a half record, or with records that the other lacks."""
    monkeypatch.setattr(store, "_CHUNK", 4)
    corpus, encoder = corpus_of(range(1, 11)), FakeEncoder()
    whole = embed(corpus, range(10), encoder)
    file, size_bytes = folder_of(encoder) / torn[0], torn[1]
    os.truncate(file, file.stat().st_size - size_bytes)
    again = FakeEncoder()
    assert np.array_equal(embed(corpus, range(10), again), whole)
    n_lost = {3: 1, 5: 1, 100: 4}[size_bytes]
    assert len(again.seen_documents) == n_lost


def test_vectors_without_keys_are_cut_off(monkeypatch) -> None:
    """The kill came between the two writes."""
    corpus, encoder = corpus_of(range(1, 6)), FakeEncoder()
    whole = embed(corpus, range(5), encoder)
    with open(folder_of(encoder) / "rows.bin", "ab") as file:
        file.write(b"\x7f" * 77)
    more = corpus_of(range(1, 9))
    assert np.array_equal(embed(more, range(8), encoder), expected(more, range(8), encoder))
    assert np.array_equal(embed(corpus, range(5), encoder), whole)


@pytest.mark.parametrize("fails_at", [2, 3])
def test_a_full_disk_keeps_what_was_written(fails_at, monkeypatch) -> None:
    """The disk fills up half way through the vectors (2) or the keys (3) of the second chunk."""
    monkeypatch.setattr(store, "_CHUNK", 4)
    corpus, encoder = corpus_of(range(1, 11)), FakeEncoder()
    real, calls = store._append, []

    def full(path, data):
        calls.append(path)
        if len(calls) > fails_at:
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(store, "_append", full)
    with pytest.raises(ArtifactError, match="disk is full; 4 records are kept"):
        embed(corpus, range(10), encoder)
    monkeypatch.setattr(store, "_append", real)
    again = FakeEncoder()
    vectors = embed(corpus, range(10), again)
    assert len(again.seen_documents) == 6
    assert np.array_equal(vectors, expected(corpus, range(10), again))


def test_a_vector_that_is_not_finite_is_refused(mini_corpus) -> None:
    class Broken(FakeEncoder):
        def encode_documents(self, documents):
            vectors = super().encode_documents(documents)
            vectors[[d.doc_id == "b1" for d in documents]] = np.nan
            return vectors

    with pytest.raises(DataError, match="'b1'"):
        embed(mini_corpus, range(len(mini_corpus)), Broken())


_CHILD = """
    import sys
    from limbeck.corpus import Corpus
    from limbeck.retrieval import store
    from limbeck.retrieval.embeddings import embed
    from tests.retrieval.fake_encoder import FakeEncoder
    from tests.retrieval.test_embeddings import corpus_of

    store._CHUNK = 5
    embed(corpus_of(range(1, 201)), range(200), FakeEncoder(pause_s=0.02))
    print("done", flush=True)
"""


def test_a_killed_encoding_goes_on_where_it_stopped() -> None:
    """SIGKILL at some moment of the encoding; what was whole stays, and no lock is left behind."""
    encoder, corpus = FakeEncoder(), corpus_of(range(1, 201))
    keys = folder_of(encoder) / "entries.bin"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_CHILD)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        while not (keys.exists() and keys.stat().st_size >= 24 * 25):
            assert time.monotonic() < deadline, "the child wrote nothing"
            assert child.poll() is None, "the child ended before it could be killed"
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        out, _ = child.communicate()
    assert out == b""
    n_kept = keys.stat().st_size // 24
    vectors = embed(corpus, range(200), encoder)
    assert 25 <= n_kept < 200
    assert len(encoder.seen_documents) == 200 - n_kept
    assert np.array_equal(vectors, expected(corpus, range(200), encoder))
