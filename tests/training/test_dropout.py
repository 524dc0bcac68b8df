"""Dropout and attention on a CPU draw what torch draws, by chance, and sooner."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from torch import nn
from torch.nn import functional

from limbeck.training.attention import _length_by_length, _seen
from limbeck.training.dropout import dropped, quicken

pytestmark = pytest.mark.torch

N = 200_000
DIM = 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(dropout, dtype):
    torch.manual_seed(3)
    found = dropped(torch.ones(N, dtype=dtype), dropout)
    share = float((found == 0).double().mean())
    spread = (dropout * (1 - dropout) / N) ** 0.5
    assert abs(share - dropout) < 4 * spread + 1 / 65536
    kept = found[found != 0].unique()
    assert len(kept) == 1
    assert float(kept) == pytest.approx(1 / (1 - dropout), rel=torch.finfo(dtype).eps + 1e-4)


def test_neighbours_and_draws_are_independent():
    torch.manual_seed(3)
    first, second = (dropped(torch.ones(N), 0.5) > 0 for _ in range(2))
    for one, other in ((first[:-1], first[1:]), (first[:-4], first[4:]), (first, second)):
        assert abs(float((one == other).double().mean()) - 0.5) < 4 * 0.5 / N**0.5


def test_the_same_state_of_torch_draws_the_same():
    torch.manual_seed(5)
    first = dropped(torch.ones(3, 7, 5), 0.3)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(dropped(torch.ones(3, 7, 5), 0.3), first)
    assert torch.equal(torch.rand(1), after)


def test_the_gradient_is_that_of_what_was_kept():
    torch.manual_seed(5)
    values = torch.randn(1000, requires_grad=True)
    found = dropped(values, 0.25)
    found.sum().backward()
    assert torch.equal(values.grad * values.detach(), found.detach())


def test_modules_drop_in_training_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    quicken(model)
    given = torch.ones(50, 4)
    assert torch.equal(model.eval()(given), model[0](given))
    torch.manual_seed(1)
    zeros = (model.train()(given) == 0).sum()
    assert 50 < int(zeros) < 150
    assert model[1](torch.ones(3, dtype=torch.float64)).dtype == torch.float64, "by torch's own"


def test_attention_is_torchs():
    torch.manual_seed(2)
    query, key, value = (torch.randn(3, 2, 6, DIM) for _ in range(3))
    mask = torch.rand(3, 1, 6, 6) > 0.4
    mask[..., 0] = True
    added = torch.randn(3, 1, 6, 6)
    for given in (None, mask, added):
        wanted = functional.scaled_dot_product_attention(query, key, value, attn_mask=given)
        found = _seen(query * DIM**-0.5, key, value, 0.0, given)
        assert torch.allclose(found, wanted, atol=1e-6)


def test_texts_of_any_lengths_see_themselves_alone():
    torch.manual_seed(2)
    lengths = [5, 5, 5, 3, 1, 1, 4]
    query, key, value = (torch.randn(1, 2, sum(lengths), DIM) for _ in range(3))
    bounds = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0).int()
    found = _length_by_length(query, key, value, bounds, 0.0)
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        own = (state[:, :, start:end] for state in (query, key, value))
        wanted = functional.scaled_dot_product_attention(*own, scale=1.0)
        assert torch.allclose(found[:, :, start:end], wanted, atol=1e-6)


def test_weights_that_are_dropped_leave_the_mean_as_it_is():
    torch.manual_seed(4)
    query, key, value = (torch.randn(1, 1, 4, 8) for _ in range(3))
    whole = _seen(query, key, value, 0.0)
    drawn = torch.stack([_seen(query, key, value, 0.2) for _ in range(4000)])
    error = drawn.std(0) / 4000**0.5
    assert ((drawn.mean(0) - whole).abs() < 5 * error).all()
    assert (drawn.std(0) > 0).all()
