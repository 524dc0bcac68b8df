"""LAMB by its formula, the fused AdamW, and how the rate goes."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.errors import UsageError
from limbeck.training.optimisers import LAMB, Optimising, optimiser, rate

pytestmark = pytest.mark.torch


def test_lamb_moves_as_the_paper_says():
    """Algorithm 2 of arXiv 1904.00962, written out for one weight of two numbers and two steps."""
    weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    made = LAMB([weights], lr=0.1, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.5)
    x, m, v = [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]
    for step, gradient in enumerate(([1.0, -2.0], [0.5, 0.5]), start=1):
        weights.grad = torch.tensor(gradient)
        made.step()
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradient, strict=True)]
        v = [0.99 * a + 0.01 * g * g for a, g in zip(v, gradient, strict=True)]
        r = [
            (a / (1 - 0.9**step)) / (math.sqrt(b / (1 - 0.99**step)) + 1e-6) + 0.5 * c
            for a, b, c in zip(m, v, x, strict=True)
        ]
        trust = min(math.hypot(*x), 10.0) / math.hypot(*r)
        x = [a - 0.1 * trust * b for a, b in zip(x, r, strict=True)]
        assert weights.tolist() == pytest.approx(x, rel=1e-5)


def test_lamb_trusts_weights_of_norm_10_at_most():
    weights = torch.nn.Parameter(torch.tensor([30.0, 40.0]))
    made = LAMB([weights], lr=0.1)
    weights.grad = torch.tensor([1.0, 0.0])
    made.step()
    assert weights.tolist() == pytest.approx([29.0, 40.0], rel=1e-5)


def test_biases_and_norms_do_not_decay():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    made = optimiser(Optimising(weight_decay=0.3), module.parameters())
    assert [group["weight_decay"] for group in made.param_groups] == [0.3, 0.0]
    assert [len(group["params"]) for group in made.param_groups] == [1, 3]
    assert made.defaults["fused"]


def test_the_rate_grows_and_falls():
    shares = [rate(step, 10, warm_up=2, schedule="linear") for step in range(10)]
    assert shares == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    assert rate(6, 10, warm_up=2, schedule="cosine") == pytest.approx(0.5)
    assert rate(9, 10, warm_up=0, schedule="constant") == 1.0


def test_a_warm_up_is_a_share_or_so_many_steps():
    assert Optimising(warm_up=0.1).warm_up_steps(200) == 20
    assert Optimising(warm_up=5).warm_up_steps(200) == 5
    assert Optimising(warm_up=0).warm_up_steps(200) == 0
    with pytest.raises(UsageError, match=r"warm_up must lie in \[0, 10\]"):
        Optimising(warm_up=11).warm_up_steps(10)
