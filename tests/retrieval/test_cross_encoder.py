"""The cross-encoder node, its inputs, and its models: by hand, by onnxruntime, and by others."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, CheckError, MissingExtraError, UsageError
from limbeck.progress import listening
from limbeck.retrieval import cross_encoder as module
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.cross_encoder import CrossEncoder
from limbeck.retrieval.encoders import folders, pair_models, session
from limbeck.retrieval.encoders.pair_models import open_pair_model
from limbeck.retrieval.encoders.pairs import Pair, PairModel, PairSettings, PairTokenizer
from limbeck.types import Expansion, Query, Run
from tests.fakes import same
from tests.retrieval.tiny_onnx import (
    POSITIONS,
    VOCABULARY,
    classifier_head,
    save_classifier,
    save_classifier_in_two,
    save_language_model,
    save_tokenizer,
    sizes,
    weights,
)

CLS, SEP = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
PAIRS = [
    Pair("inverted index", "An inverted index maps terms, of documents."),
    Pair("inverted index", "word1 word2 " * 60),
    Pair("dense retriever", ""),
    Pair("", "the cache"),
    Pair("word3 " * 100, "word4 " * 100),
    Pair("nothing known", "Vectors; queries."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("onnx") / "model")


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """A model of three labels."""
    return save_classifier(tmp_path_factory.mktemp("onnx") / "three", n_labels=3)


class Counting(PairModel):
    """The length of both texts, as a score; remembers what it read."""

    fingerprint = "counting".ljust(32, "0")

    def __init__(self) -> None:
        self.seen: list[Pair] = []

    def logits(self, pairs):
        self.seen += pairs
        return np.array([len(p.query) + len(p.document) for p in pairs], dtype=np.float32)


def all_hits(corpus: Corpus, queries: list[Query]) -> Run:
    """A run of every document for each query, all of score 0."""
    n = len(corpus)
    return Run(
        tuple(query.query_id for query in queries),
        np.arange(len(queries) + 1) * n,
        np.tile(np.arange(n, dtype=np.int32), len(queries)),
        np.zeros(n * len(queries), dtype=np.float32),
        "bm25",
        corpus,
    )


# The node


def test_hits_are_ranked_by_the_models_logits(folder, mini_corpus) -> None:
    queries = [Query("a", "inverted index"), Query("b", "fusion rank")]
    run = CrossEncoder(folder)(queries, all_hits(mini_corpus, queries))
    model = open_pair_model(PairSettings(str(folder)))
    for query in queries:
        scored = {
            row: model.logits([Pair(query.text, mini_corpus.document(row).contents)])[0]
            for row in range(len(mini_corpus))
        }
        best = sorted(scored, key=lambda row: (-scored[row], row))
        where = run.segment(run.query_ids.index(query.query_id))
        assert run.rows[where].tolist() == best
        assert run.scores[where].tolist() == [scored[row] for row in best]
    assert run.kind == "logit"
    assert len(set(run.scores.tolist())) > 15


def test_deeper_hits_are_dropped(folder, mini_corpus) -> None:
    query = [Query("a", "inverted index")]
    run = CrossEncoder(folder, depth=3)(query, all_hits(mini_corpus, query))
    assert sorted(run.rows.tolist()) == [0, 1, 2]
    with pytest.raises(UsageError, match="depth of cross-encoder must be 1 or more; got 0"):
        CrossEncoder(folder, depth=0)


def test_equal_pairs_of_texts_are_scored_once(mini_corpus) -> None:
    """c1 and c2 hold the same words; two queries ask the same."""
    model = Counting()
    queries = [Query("a", "fusion"), Query("b", "fusion")]
    run = CrossEncoder("x", opened=model)(queries, all_hits(mini_corpus, queries))
    assert len(model.seen) == len(set(model.seen)) == len(mini_corpus) - 1
    assert run.scores[run.segment(0)].tolist() == run.scores[run.segment(1)].tolist()


def test_a_node_finds_its_model_once(mini_corpus, monkeypatch) -> None:
    """Where it is not bound, each call asked the hub again."""
    asked: list[PairSettings] = []
    monkeypatch.setattr(module, "open_pair_model", lambda s: asked.append(s) or Counting())
    node, query = CrossEncoder("x"), [Query("a", "fusion")]
    for _ in range(3):
        node(query, all_hits(mini_corpus, query))
    assert len(asked) == 1


def test_what_is_read(mini_corpus) -> None:
    """The user's text without expansions; title and text, or the text alone."""
    query = [Query("a", "fusion", (Expansion(("more",), joined=True),))]
    for title, expected in ((True, "Fusion Reciprocal"), (False, "Reciprocal")):
        model = Counting()
        CrossEncoder("x", title=title, opened=model)(query, all_hits(mini_corpus, query))
        assert {pair.query for pair in model.seen} == {"fusion"}
        assert any(pair.document.startswith(expected) for pair in model.seen)
        assert all(pair.document.startswith("Fusion") is False for pair in model.seen) != title


def test_no_hits_and_no_queries(folder, mini_corpus) -> None:
    node = CrossEncoder(folder)
    assert len(node([], all_hits(mini_corpus, [])).rows) == 0
    pipeline = BM25.index(mini_corpus) >> node
    assert pipeline([Query("a", "zzz"), Query("b", "")]).bounds.tolist() == [0, 0, 0]


def test_scores_do_not_depend_on_batch_or_threads(folder, mini_corpus, monkeypatch) -> None:
    queries = [Query(str(n), f"word{n} index of documents") for n in range(9)]
    run = all_hits(mini_corpus, queries)
    whole = CrossEncoder(folder)(queries, run)
    monkeypatch.setattr(session, "_n_cores", lambda: 1)
    assert same(CrossEncoder(folder)(queries, run), whole)
    monkeypatch.setattr(session, "_n_cores", lambda: 7)
    assert same(CrossEncoder(folder)(queries, run), whole)
    for position, query in enumerate(queries):
        alone = CrossEncoder(folder)([query], all_hits(mini_corpus, [query]))
        assert alone.hits(0) == whole.hits(position)


def test_progress_counts_pairs(folder, mini_corpus) -> None:
    told: list[tuple[str, int, int, str]] = []
    query = [Query("a", "index")]
    with listening(lambda *each: told.append(each)):
        CrossEncoder(folder)(query, all_hits(mini_corpus, query))
    assert told[0] == ("scoring pairs", 0, 11, "")
    assert told[-1] == ("scoring pairs", 11, 11, "")


# Fingerprints and the check


def test_a_check_finds_no_model_and_needs_none() -> None:
    pipeline = BM25() >> CrossEncoder("someone/far-away", depth=10)
    pipeline.check()
    assert len(pipeline.fingerprint) == 32
    with pytest.raises(CheckError, match="cross-encoder reads a run"):
        CrossEncoder("someone/far-away").check()


def test_the_fingerprint_sees_the_models_content(folder, tmp_path, mini_corpus) -> None:
    here = Path(shutil.copytree(folder, tmp_path / "model"))
    node = CrossEncoder(here)
    first = node.bind(mini_corpus)
    assert first.fingerprint != node.fingerprint
    assert first.bind(mini_corpus).fingerprint == first.fingerprint
    assert node.origin == first.origin == first.fingerprint
    query = [Query("a", "index")]
    before = first(query, all_hits(mini_corpus, query))
    save_classifier(here, weights(classifier_head(), seed=1))
    second = node.bind(mini_corpus)
    assert second.fingerprint != first.fingerprint
    assert not same(second(query, all_hits(mini_corpus, query)), before)
    moved = CrossEncoder(here, max_tokens=20).bind(mini_corpus)
    assert moved.fingerprint != second.fingerprint


@pytest.mark.parametrize("data", ["model.onnx.data", "weights", "long" * 40 + ".onnx_data"])
def test_weights_in_a_file_of_their_own_are_content_too(data, tmp_path) -> None:
    """A model that was trained on had the fingerprint of the old one, and so its index."""
    here = tmp_path / "model"
    prints, logits = [], []
    for seed in (0, 1):
        save_classifier_in_two(here, data, seed=seed)
        model = open_pair_model(PairSettings(str(here)))
        prints.append(model.fingerprint)
        logits.append(model.logits(PAIRS[:1])[0])
    assert prints[0] != prints[1]
    assert logits[0] != logits[1]


# Inputs


def tokenizer(max_tokens: int, folder: Path) -> PairTokenizer:
    return PairTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), max_tokens)


def test_a_pair_by_hand(folder) -> None:
    (found,) = tokenizer(64, folder).inputs([Pair("word1 word2", "word3")])
    one, two, three = (VOCABULARY.index(f"word{n}") for n in (1, 2, 3))
    assert found.ids == [CLS, one, two, SEP, three, SEP]
    assert found.segments == [0, 0, 0, 0, 1, 1]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=5),
    st.integers(5, 40),
)
def test_only_the_document_is_cut_where_the_query_leaves_it_room(folder, lengths, max_tokens):
    pairs = [
        Pair("word1 " * n_query, " ".join(f"word{n % 60}" for n in range(n_document)))
        for n_query, n_document in lengths
    ]
    inputs = tokenizer(max_tokens, folder).inputs(pairs)
    for (n_query, n_document), found in zip(lengths, inputs, strict=True):
        total, room = n_query + n_document, max_tokens - 3
        assert len(found.ids) == 3 + min(total, room)
        held = found.ids.index(SEP) - 1
        cut_document = found.ids[held + 2 : -1]
        if n_query < room or total <= room:
            assert held == n_query
        else:
            assert 1 <= held < n_query
            assert len(cut_document) == min(n_document, room - held)
        own = [VOCABULARY.index(f"word{n % 60}") for n in range(n_document)]
        assert cut_document == own[: len(cut_document)]


def test_a_tokenizer_file_that_asks_for_truncation_and_padding(folder) -> None:
    """The padding and truncation that a tokenizer.json may state are taken out."""
    asked = Tokenizer.from_file(str(folder / "tokenizer.json"))
    asked.enable_truncation(6)
    asked.enable_padding(length=40)
    (found,) = PairTokenizer(asked, 64).inputs([Pair("word1", "word2 " * 20)])
    assert len(found.ids) == 24


def test_a_lone_surrogate_is_no_accident(folder) -> None:
    model = open_pair_model(PairSettings(str(folder)))
    broken, plain = model.logits([Pair("word1 \ud800", "word2"), Pair("word1 ?", "word2")])
    assert broken == plain


# Models in ONNX


def test_the_logit_is_the_models_first_output(folder) -> None:
    import onnxruntime

    found = open_pair_model(PairSettings(str(folder))).logits([Pair("word1", "word2")])
    run = onnxruntime.InferenceSession(str(folder / "model.onnx")).run
    one, two = (VOCABULARY.index(f"word{n}") for n in (1, 2))
    feeds = {
        "input_ids": [[CLS, one, SEP, two, SEP]],
        "attention_mask": [[1] * 5],
        "token_type_ids": [[0, 0, 0, 1, 1]],
    }
    logits = run(None, {name: np.array(feed, dtype=np.int64) for name, feed in feeds.items()})[0]
    assert logits.shape == (1, 1)
    assert found[0] == pytest.approx(logits[0, 0], abs=1e-6)


def test_several_labels_need_a_choice(folder, three) -> None:
    """A model of three labels has no score until one is named; a flag is never ignored (23)."""
    with pytest.raises(UsageError, match=r"must have one label; .*three has 3; give `label`"):
        open_pair_model(PairSettings(str(three))).logits(PAIRS)
    chosen = [open_pair_model(PairSettings(str(three), label=n)).logits(PAIRS) for n in range(3)]
    assert len({tuple(each.tolist()) for each in chosen}) == 3
    with pytest.raises(UsageError, match="label must be below 3"):
        open_pair_model(PairSettings(str(three), label=3)).logits(PAIRS)
    one = open_pair_model(PairSettings(str(folder), label=0)).logits(PAIRS)
    assert one.tolist() == open_pair_model(PairSettings(str(folder))).logits(PAIRS).tolist()


@pytest.mark.parametrize(
    "wrong", [{"model": " "}, {"label": -1}, {"max_tokens": 4}, {"max_tokens": -1}]
)
def test_settings_that_mean_nothing_are_refused(wrong) -> None:
    with pytest.raises(UsageError):
        CrossEncoder(**{"model": "x", **wrong})


def test_more_tokens_than_the_model_has_are_refused(folder) -> None:
    with pytest.raises(UsageError, match=f"{POSITIONS} or less .*; got {POSITIONS + 1}; give"):
        CrossEncoder(folder, max_tokens=POSITIONS + 1).bind(None)


def test_onnx_in_a_folder_below(folder, tmp_path) -> None:
    below = Path(shutil.copytree(folder, tmp_path / "model"))
    (below / "onnx").mkdir()
    (below / "model.onnx").rename(below / "onnx" / "model.onnx")
    found = open_pair_model(PairSettings(str(below)))
    assert found.logits(PAIRS[:1]) == open_pair_model(PairSettings(str(folder))).logits(PAIRS[:1])


def test_a_folder_with_weights_for_torch_is_read_by_torch(folder, tmp_path, monkeypatch) -> None:
    """A folder means one model, whether torch is here or not."""
    both = Path(shutil.copytree(folder, tmp_path / "model"))
    (both / "model.safetensors").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'torch'.*limbeck\[torch\]"):
        CrossEncoder(both).bind(None)


def test_what_is_no_classifier_is_refused(tmp_path, monkeypatch) -> None:
    """Loaded as one, a bi-encoder would have a head of random weights."""
    monkeypatch.setattr(pair_models, "require_torch", lambda _: None)
    with pytest.raises(ArtifactError, match="must hold a model with a config"):
        CrossEncoder(tmp_path).bind(None)
    for stated in ({"architectures": ["BertModel"]}, {}):
        (tmp_path / "config.json").write_text(json.dumps(stated))
        with pytest.raises(
            ArtifactError, match=r"must hold a cross-encoder, .* such as BertForSeq.*; give another"
        ):
            CrossEncoder(tmp_path).bind(None)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArtifactError, match="must be JSON"):
        CrossEncoder(tmp_path).bind(None)


def test_json_that_is_no_object_states_nothing(tmp_path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    assert folders.read_json(tmp_path / "a.json") == {}
    assert folders.read_json(tmp_path / "none.json") == {}
    assert folders.input_length(tmp_path, None) == 512


def test_more_tokens_than_an_earlier_training_had_may_be_asked_for(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 128}))
    assert folders.input_length(tmp_path, None) == 128
    assert folders.input_length(tmp_path, 160) == 160
    with pytest.raises(UsageError, match="max_tokens must be 512 or less"):
        folders.input_length(tmp_path, 513)


def test_positions_below_the_padding_tokens_are_of_no_use(tmp_path) -> None:
    """RoBERTa counts them from the padding token, so that 514 are 512; beyond is an IndexError."""
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert folders.input_length(tmp_path, None) == 512
    (tmp_path / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    assert folders.input_length(tmp_path, None) == 512  # null was a TypeError
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    assert folders.input_length(tmp_path, None) == 514


# Models of torch


@pytest.fixture(scope="module")
def torch_folder(tmp_path_factory) -> Path:
    """A sentence-transformers CrossEncoder with a sigmoid, of the same weights as `folder`."""
    return classifier_of_torch(tmp_path_factory.mktemp("torch"), weights(classifier_head()))


def classifier_of_torch(folder: Path, of: dict[str, np.ndarray]) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from sentence_transformers import CrossEncoder as Theirs

    n_labels = len(of["classifier.bias"])
    model = transformers.BertForSequenceClassification(
        transformers.BertConfig(**sizes(num_labels=n_labels))
    )
    model.load_state_dict({name: torch.from_numpy(value) for name, value in of.items()})
    model.save_pretrained(folder / "plain")
    save_tokenizer(folder / "plain")
    Theirs(str(folder / "plain")).save_pretrained(str(folder / "theirs"))
    return folder / "theirs"


@pytest.mark.torch
def test_equal_to_sentence_transformers_whatever_activation_is_stated(torch_folder) -> None:
    torch = pytest.importorskip("torch")
    from sentence_transformers import CrossEncoder as Theirs

    stated = json.loads((torch_folder / "config_sentence_transformers.json").read_text())
    assert stated["activation_fn"].endswith("Sigmoid")
    found = open_pair_model(PairSettings(str(torch_folder))).logits(PAIRS)
    theirs = Theirs(str(torch_folder)).predict(PAIRS, activation_fn=torch.nn.Identity())
    assert np.allclose(found, theirs, rtol=0, atol=1e-5)
    assert np.ptp(found) > 0.5


@pytest.mark.torch
def test_the_same_model_in_onnx_gives_the_same_logits(torch_folder, folder) -> None:
    ours, theirs = (
        open_pair_model(PairSettings(str(each), max_tokens=max_tokens)).logits(PAIRS)
        for each, max_tokens in ((folder, 40), (torch_folder, 40))
    )
    assert np.allclose(ours, theirs, rtol=0, atol=1e-4)
    assert np.ptp(ours) > 0.5


@pytest.mark.torch
def test_in_torch_the_batch_is_worth_a_rounding(torch_folder, monkeypatch) -> None:
    model = open_pair_model(PairSettings(str(torch_folder)))
    many = [Pair(f"word{n}", "word3 " * (n % 40)) for n in range(90)]
    whole = model.logits(many)
    alone = np.concatenate([model.logits([pair]) for pair in many])
    assert np.allclose(whole, alone, rtol=0, atol=1e-5)
    monkeypatch.setattr(pair_models, "_BATCH_TOKENS", 50)
    assert np.allclose(whole, model.logits(many), rtol=0, atol=1e-5)


@pytest.mark.torch
def test_one_of_three_labels_in_torch(tmp_path) -> None:
    from sentence_transformers import CrossEncoder as Theirs

    of = weights(classifier_head(n_labels=3))
    folder = classifier_of_torch(tmp_path, of)
    with pytest.raises(UsageError, match="has 3; give `label`"):
        open_pair_model(PairSettings(str(folder))).logits(PAIRS)
    theirs = Theirs(str(folder)).predict(PAIRS)
    for label in range(3):
        found = open_pair_model(PairSettings(str(folder), label=label)).logits(PAIRS)
        assert np.allclose(found, theirs[:, label], rtol=0, atol=1e-5)


@pytest.mark.torch
def test_a_model_without_segments(tmp_path) -> None:
    """DistilBERT knows no token_type_ids."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from sentence_transformers import CrossEncoder as Theirs

    torch.manual_seed(0)
    size = {"vocab_size": len(VOCABULARY), "dim": 16, "n_layers": 2, "n_heads": 2}
    config = transformers.DistilBertConfig(
        **size, hidden_dim=24, max_position_embeddings=64, num_labels=1, initializer_range=0.5
    )
    transformers.DistilBertForSequenceClassification(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    stated = json.loads((tmp_path / "tokenizer_config.json").read_text())
    stated["model_input_names"] = ["input_ids", "attention_mask"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(stated))
    found = open_pair_model(PairSettings(str(tmp_path))).logits(PAIRS)
    theirs = Theirs(str(tmp_path)).predict(PAIRS, activation_fn=torch.nn.Identity())
    assert np.allclose(found, theirs, rtol=0, atol=1e-5)


@pytest.mark.torch
def test_a_language_model_is_no_cross_encoder(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.BertForMaskedLM(transformers.BertConfig(**sizes())).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(ArtifactError, match=r"config\.json names BertForMaskedLM"):
        CrossEncoder(tmp_path).bind(None)


def test_replacing_a_parameter_keeps_the_model(folder, mini_corpus) -> None:
    bound = CrossEncoder(folder).bind(mini_corpus)
    assert dataclasses.replace(bound, depth=1).opened is bound.opened
    assert bound == CrossEncoder(folder)


def test_an_onnx_model_that_is_no_classifier_is_refused(tmp_path) -> None:
    save_language_model(tmp_path)
    with pytest.raises(ArtifactError, match="must give logits of shape"):
        open_pair_model(PairSettings(str(tmp_path), label=0)).logits(PAIRS)
