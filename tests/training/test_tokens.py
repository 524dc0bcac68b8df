"""Tables of tokens hold what a model's preprocessing gave, without its padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.training.tokens import TokenTable, _made, tokenised

PAD = 0


def _preprocess(texts: list[str]):
    """A token a character; 'm' is a [MASK] that others do not see."""
    width = max(map(len, texts), default=0)
    ids = np.zeros((len(texts), width), dtype=np.int64)
    mask = np.zeros((len(texts), width), dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = [ord(character) for character in text]
        mask[row, : len(text)] = [character != "m" for character in text]
    return ids, mask


def _table(texts: list[str], vocabulary: int = 1 << 21) -> TokenTable:
    return _made(texts, len(texts), _preprocess, PAD, vocabulary, "tokens")


@given(st.lists(st.text(st.characters(min_codepoint=1), max_size=9), max_size=20), st.data())
def test_every_text_reads_back(texts, data):
    table = _table(texts)
    assert len(table) == len(texts)
    assert table.lengths.tolist() == [len(text) for text in texts]
    rows = data.draw(st.lists(st.sampled_from(range(len(texts))), max_size=8)) if texts else []
    taken = table.taken(np.array(rows, dtype=np.int64))
    ids, mask = taken.padded(taken.ids, PAD), taken.padded(taken.attended, 0)
    wanted_ids, wanted_mask = _preprocess([texts[row] for row in rows])
    assert np.array_equal(ids, wanted_ids)
    assert np.array_equal(mask, wanted_mask)


def test_of_a_large_table_the_asked_rows_alone_are_read(monkeypatch):
    """All lengths of 8.8 million passages cost 17 ms, several times a step."""
    table = _table(["ab", "", "cde"])

    def forbidden(_):
        raise AssertionError("all texts were looked at")

    monkeypatch.setattr(TokenTable, "lengths", property(forbidden))
    rows = np.array([2, 0, 1, 2])
    assert table.lengths_of(rows).tolist() == [3, 2, 0, 3]
    assert table.taken(rows).bounds.tolist() == [0, 3, 5, 5, 8]


def test_masks_behind_a_text_are_tokens_and_padding_is_not():
    """ColBERT's queries end in [MASK]s that nobody attends to and that are scored."""
    table = _table(["abmm", "a"])
    assert table.lengths.tolist() == [4, 1]
    assert table.attended.tolist() == [1, 1, 0, 0, 1]


@pytest.mark.parametrize(("vocabulary", "width"), [(30522, 2), (65536, 2), (65537, 4)])
def test_ids_are_as_narrow_as_the_vocabulary_allows(vocabulary, width):
    assert _table(["ab"], vocabulary).ids.itemsize == width


def test_a_table_is_made_once_and_mapped(tmp_path):
    asked: list[int] = []

    def preprocess(texts: list[str]):
        asked.append(len(texts))
        return _preprocess(texts)

    texts = [chr(97 + i % 26) * (i % 7 + 1) for i in range(600)]
    for _ in range(2):
        table = tokenised(
            iter(texts), 600, preprocess, folder=tmp_path / "t", pad=PAD, vocabulary=200, label="t"
        )
    assert asked == [256, 256, 88]
    assert isinstance(table.ids, np.memmap)
    assert table.lengths.tolist() == [len(text) for text in texts]
