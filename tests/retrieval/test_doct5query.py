"""A small T5 with random weights: what it writes is noise, how it is asked is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, MissingExtraError, UsageError
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.doct5query import DocT5Query

WORDS = [
    "zebra",
    "lion",
    "grass",
    "savannah",
    "where",
    "do",
    "hunt",
    "what",
    "is",
    "the",
    "long",
    "short",
    "of",
    "a",
]
CORPUS = Corpus.from_documents(
    [
        {"_id": "a", "title": "zebra", "text": "the long grass of the savannah"},
        {"_id": "b", "text": "lion"},
        {"_id": "c", "text": "\ud800 zebra"},
        {"_id": "d", "text": " "},
    ]
)


def test_it_has_the_papers_defaults():
    node = DocT5Query("t5")
    assert (node.n, node.top_k, node.max_tokens, node.document_tokens) == (40, 10, 64, 512)


@pytest.mark.parametrize("parameters", [{"n": 0}, {"top_k": 0}, {"max_tokens": 0}])
def test_wrong_parameters_are_refused(parameters):
    with pytest.raises(UsageError, match="of doct5query must be 1 or more"):
        DocT5Query("t5", **parameters)


def test_a_check_fetches_no_model():
    node = BM25(expansion=DocT5Query("nobody/nothing"))
    assert node.problems() == ()
    assert node.fingerprint != BM25().fingerprint


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"doct5query with 't5' needs .*limbeck\[torch\]"):
        DocT5Query("t5").write(CORPUS)


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    pytest.importorskip("torch")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(vocabulary),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def _texts(node, corpus=CORPUS):
    written = node.write(corpus)
    return {doc_id: each.texts for doc_id, each in zip(corpus.doc_ids, written, strict=True)}


@pytest.mark.torch
def test_n_queries_are_written_for_each_document_that_is_not_blank(t5):
    texts = _texts(DocT5Query(t5, n=3, max_tokens=6))
    assert [len(texts[doc_id]) for doc_id in "abcd"] == [3, 3, 3, 0]
    assert {word for of in texts.values() for text in of for word in text.split()} <= set(WORDS)
    assert all(len(text.split()) <= 6 for of in texts.values() for text in of)
    assert len(set(texts["a"])) > 1


@pytest.mark.torch
def test_what_is_written_depends_on_the_document_and_on_nothing_else(t5, tmp_path, monkeypatch):
    import torch

    node = DocT5Query(t5, n=3, max_tokens=6)
    whole = _texts(node)
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    for doc_id in "abc":
        alone = Corpus.from_documents([CORPUS.document(CORPUS.row(doc_id))])
        assert _texts(dataclasses.replace(node), alone)[doc_id] == whole[doc_id]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert _texts(dataclasses.replace(node, seed=1)) != whole


@pytest.mark.torch
def test_what_was_written_is_kept_and_a_changed_model_writes_again(t5, tmp_path, monkeypatch):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(t5, folder)
    calls = []
    real = DocT5Query._sampled
    monkeypatch.setattr(
        DocT5Query, "_sampled", lambda self, d: calls.append(d.doc_id) or real(self, d)
    )
    first = _texts(DocT5Query(folder, n=2, max_tokens=4))
    assert _texts(DocT5Query(folder, n=2, max_tokens=4)) == first
    assert sorted(calls) == list("abcd")
    more = Corpus.from_documents(
        [*(CORPUS.document(r) for r in range(4)), {"_id": "e", "text": "lion grass"}]
    )
    assert _texts(DocT5Query(folder, n=2, max_tokens=4), more)["a"] == first["a"]
    assert sorted(calls) == list("abcde")
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    _texts(DocT5Query(folder, n=2, max_tokens=4))
    assert len(calls) == 9


@pytest.mark.torch
def test_an_index_of_another_model_is_another_index(t5, tmp_path):
    built = BM25.index(CORPUS, path=tmp_path / "index", expansion=DocT5Query(t5, n=2, max_tokens=4))
    assert built.expansions().of("b").texts
    with pytest.raises(ArtifactError, match="must have been built with expansion="):
        BM25.index(CORPUS, path=tmp_path / "index", expansion=DocT5Query(t5, n=3, max_tokens=4))
    assert BM25.load(tmp_path / "index").fingerprint == built.fingerprint


@pytest.mark.torch
def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"must hold a model with a config\.json"):
        DocT5Query(tmp_path).write(CORPUS)
