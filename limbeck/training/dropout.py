"""Dropout on a CPU at the speed of the rest.

torch draws one number at a time there, also for each weight of attention. Here 16 bits are drawn a
value, seeded by one number of torch's own generator: a step that is computed again from the same
state draws the same.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["dropped", "quicken"]

_BITS = {torch.float32: np.uint32, torch.bfloat16: np.uint16, torch.float16: np.uint16}
_VALUES = 1 << 16


def dropped(values: Tensor, dropout: float) -> Tensor:
    """Return values with each one at 0 by a chance, and what is left scaled up.

    Args:
        values: floating, of any shape, on the CPU.
        dropout: the chance, in (0, 1); it is rounded to 1 / 65,536.
    """
    return values * _factors(values.shape, dropout, values.dtype)


def quicken(model: Any) -> None:
    """Let each `torch.nn.Dropout` of a model draw by `dropped` while it is on the CPU."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = _QuickDropout


class _QuickDropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        is_off = not self.training or self.p == 0.0
        if is_off or input.device.type != "cpu" or input.dtype not in _BITS:
            return super().forward(input)
        return dropped(input, self.p)


def _factors(shape: torch.Size, dropout: float, dtype: torch.dtype) -> Tensor:
    from limbeck.training._dropping import draw

    n_dropped = min(round(dropout * _VALUES), _VALUES - 1)
    kept = torch.tensor(_VALUES / (_VALUES - n_dropped), dtype=dtype)
    size = prod(shape)
    bits = np.empty(-(-size // 4) * 4, dtype=_BITS[dtype])
    one = kept.view(torch.int32 if dtype == torch.float32 else torch.int16).item()
    draw(bits, np.uint64(_seed()), np.uint64(n_dropped), bits.dtype.type(one))
    return torch.from_numpy(bits[:size]).view(dtype).view(shape)


def _seed() -> int:
    return int(torch.randint((1 << 63) - 1, ()))
