"""Padded batches: every input once, longest first, no batch above its tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limbeck.retrieval.encoders.batches import by_length, padded


@given(st.lists(st.integers(0, 600), max_size=60), st.integers(1, 2000))
def test_every_input_stands_in_one_batch_and_none_is_too_large(lengths, most_tokens):
    batches = by_length(lengths, most_tokens)
    order = [position for batch in batches for position in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= most_tokens


def test_padding_is_behind_and_masked():
    ids, mask, segments = padded([[5, 6, 7], [8], []], 9, [[0, 0, 1], [1], []])
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9], [9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert segments.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert padded([[1]], 0).segments.tolist() == [[0]]
