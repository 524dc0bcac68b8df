"""How the transformers attend: each text to itself alone, and without padding.

Registered with transformers under a name, so that every model that looks its attention up there
can have it. Texts may lie one behind the other, told apart by their bounds. A GPU has a kernel for
that, which knows no dropout of the attention's weights: there it is left out. A CPU computes texts
of one length together. Padded texts bring a mask: ColBERT's queries, whose [MASK]s nobody sees, and
pairs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor

from limbeck.training.dropout import dropped

__all__ = ["attend", "attend_usually", "has_kernel", "packed_features"]

_NAME = "limbeck"
_WINDOWS = ("sliding_window", "local_attention", "attention_window")
_LENGTHS = [5, 3]
_NEAR = 1e-3
"""Of the largest state; what another text gets in is a hundred times as much."""


def attend(reader: Any) -> bool:
    """Let a transformer attend as this file says, and return whether it can.

    It can where two short texts have the same states as before, padded and one behind the other:
    not a decoder, nor one that adds something to the scores. A model that looks through a window is
    left out too, and so is one that does not let its attention be chosen.

    Args:
        reader: a Transformer module of sentence-transformers.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    model = reader.model
    if any(getattr(model.config, name, None) for name in _WINDOWS):
        return False
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    before = model.config._attn_implementation
    trial = _Trial.of(reader)
    with suppress(AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        wanted = trial.padded(model)
        model.set_attn_implementation(_NAME)
        found = (trial.padded(model), trial.packed(model))
        if all(torch.allclose(states, wanted, rtol=0, atol=_NEAR) for states in found):
            return True
    if model.config._attn_implementation != before:
        model.set_attn_implementation(before)
    return False


@dataclass(frozen=True)
class _Trial:
    """Two texts of other lengths, whose tokens are any, read by a model without dropout."""

    ids: Tensor
    pad: int
    offset: int

    @staticmethod
    def of(reader: Any) -> _Trial:
        pad = int(reader.tokenizer.pad_token_id or 0)
        known = reader.model.get_input_embeddings().num_embeddings
        ids = torch.arange(pad + 1, pad + 1 + sum(_LENGTHS)) % known
        return _Trial(ids, pad, reader._infer_flatten_position_offset())

    def padded(self, model: Any) -> Tensor:
        """Return the states of both texts, one behind the other, computed side by side."""
        rows = list(torch.split(self.ids, _LENGTHS))
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad)
        held = torch.arange(max(_LENGTHS)) < torch.tensor(_LENGTHS)[:, None]
        return self._states(model, input_ids=ids, attention_mask=held.long())[held]

    def packed(self, model: Any) -> Tensor:
        """Return the states of both texts, computed one behind the other."""
        bounds = torch.tensor([0, *accumulate(_LENGTHS)], dtype=torch.int32)
        given = packed_features(self.ids, bounds, max(_LENGTHS), self.offset)
        return self._states(model, **given)[0]

    def _states(self, model: Any, **given: Any) -> Tensor:
        device = next(model.parameters()).device
        placed = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in given.items()}
        was_training = model.training
        try:
            with torch.no_grad():
                states = model.eval()(**placed).last_hidden_state
        finally:
            model.train(was_training)
        normal: Tensor = states / states.abs().max()
        return normal


def has_kernel(precision: str) -> bool:
    """Return whether the GPU attends to packed texts: in bf16, of compute capability 8."""
    return precision == "bf16" and torch.cuda.get_device_capability() >= (8, 0)


def attend_usually(model: Any) -> None:
    """Undo `attend`, before the model is saved."""
    if model.config._attn_implementation == _NAME:
        model.set_attn_implementation("sdpa")


def packed_features(ids: Tensor, bounds: Tensor, longest: int, offset: int) -> dict[str, Any]:
    """Return what a transformers model needs to see texts one behind the other as themselves.

    Args:
        ids: of all texts, shape (n_tokens,).
        bounds: int32, shape (n_texts + 1,).
        longest: tokens of the longest text.
        offset: the position of a first token; RoBERTa and its like count from the padding's id on.
    """
    starts = torch.repeat_interleave(bounds[:-1], bounds.diff(), output_size=len(ids))
    positions = torch.arange(len(ids), device=ids.device) - starts + offset
    return {
        "input_ids": ids[None],
        "position_ids": positions[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return what each token sees, shape (1, n_tokens, n_heads, dim).

    Args:
        module: the attention layer.
        query: shape (1, n_heads, n_tokens, dim), as key and value.
        key: see query.
        value: see query.
        attention_mask: for calls without bounds.
        dropout: of the weights.
        scaling: of the scores.
        kwargs: the bounds, as `packed_features` makes them, and what else transformers gives.
    """
    bounds = kwargs.get("cu_seq_lens_q")
    if query.is_cuda and bounds is not None:
        return _by_kernel(query, key, value, bounds, kwargs["max_length_q"], scaling), None
    if query.is_cuda:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if bounds is None:
        return _seen(query, key, value, dropout, attention_mask).transpose(1, 2), None
    return _length_by_length(query, key, value, bounds, dropout).transpose(1, 2), None


def _by_kernel(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    if scale is not None:  # the kernel's own is the usual one; not every version takes another
        query = query * (scale * query.shape[-1] ** 0.5)
    q, k, v = (state[0].transpose(0, 1) for state in (query, key, value))
    seen = varlen_attn(q, k, v, bounds, bounds, longest, longest)
    assert isinstance(seen, Tensor)
    return seen[None]


def _length_by_length(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, dropout: float
) -> Tensor:
    """Return what each token sees, shape (1, n_heads, n_tokens, dim); the query is scaled."""
    runs = [(length, len(list(texts))) for length, texts in groupby(bounds.diff().tolist())]
    sizes = [length * n_texts for length, n_texts in runs]
    states = (torch.split(state, sizes, dim=2) for state in (query, key, value))
    seen: list[Tensor] = []
    for (length, n_texts), *run in zip(runs, *states, strict=True):
        q, k, v = (state.unflatten(2, (n_texts, length)) for state in run)
        seen.append(_seen(q, k, v, dropout).flatten(2, 3))
    return torch.cat(seen, dim=2)


def _seen(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, mask: Tensor | None = None
) -> Tensor:
    """Return the weighted mean of values for each query, of the shape of the query.

    Args:
        query: scaled, shape (..., n_tokens, dim), as key and value.
        key: see query.
        value: see query.
        dropout: of the weights.
        mask: bool, where a query may look; or float, what is added to its scores.
    """
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        lowest = torch.finfo(scores.dtype).min
        is_open = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, lowest) if is_open else scores + mask
    weights = torch.softmax(scores, dim=-1)
    return (dropped(weights, dropout) if dropout else weights) @ value
