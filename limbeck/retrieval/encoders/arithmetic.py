"""The numbers that a model in torch computes with: float32, or bfloat16 where it may.

bfloat16 is faster on a GPU, and on a CPU that multiplies it in hardware: 2.6 times with MiniLM
(docs/experiments.md). Vectors then differ by rounding from those of float32, below .0001 of cosine,
and from batch to batch; weights stay as they are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, get_args

from limbeck.errors import UsageError

__all__ = ["Arithmetic", "computing", "require_arithmetic", "require_torchs", "told"]

Arithmetic = Literal["fp32", "bf16"]


def require_arithmetic(value: str) -> None:
    """Raise UsageError unless it is one."""
    if value not in get_args(Arithmetic):
        raise UsageError(
            f"arithmetic must be one of {', '.join(get_args(Arithmetic))}; got {value!r}"
        )


def require_torchs(arithmetic: Arithmetic, model: str) -> None:
    """Raise UsageError where a model that is not computed by torch is asked for bf16."""
    if arithmetic != "fp32":
        raise UsageError(
            f"arithmetic must be fp32 for {model}, which onnxruntime computes; got {arithmetic}; "
            "leave it out, or take a model in torch"
        )


def told(arithmetic: Arithmetic) -> list[str]:
    """Return what fingerprints hold of it: nothing of float32."""
    return [] if arithmetic == "fp32" else [arithmetic]


def computing(arithmetic: Arithmetic, device: Any) -> AbstractContextManager[Any]:
    """Return a context in which torch computes so.

    Args:
        arithmetic: which numbers.
        device: of the model, as torch names it.
    """
    if arithmetic == "fp32":
        return nullcontext()
    import torch

    rounding: AbstractContextManager[Any] = torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16
    )
    return rounding
