"""Low-rank matrices beside the weights of a transformer, and its heads trained in full."""

from __future__ import annotations

import re
import warnings
from typing import Any

from limbeck.errors import MissingExtraError, UsageError, told_by
from limbeck.training.recipe import LoRA

__all__ = ["with_lora"]


def with_lora(model: Any, lora: LoRA) -> Any:
    """Return a transformer of which low-rank matrices are trained, and its heads in full.

    Raises:
        UsageError: it has no linear maps of the names that are to get matrices.
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise MissingExtraError("peft", extra="training", wanted_by="lora") from None
    heads = _heads(model)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.modules) or "all-linear",
        exclude_modules=rf"({'|'.join(map(re.escape, heads))})(\..*)?" if heads else None,
    )
    try:
        with warnings.catch_warnings():
            # peft asks transformers for names that it now calls otherwise.
            warnings.simplefilter("ignore", FutureWarning)
            made = get_peft_model(model, config)
    except ValueError as error:
        raise UsageError(
            "lora.modules must name linear maps of the transformer; got "
            f"{', '.join(lora.modules)}: {told_by(error)}; leave it out for all of them"
        ) from error
    for head in heads.values():
        head.requires_grad_(requires_grad=True)
    return made


def _heads(model: Any) -> dict[str, Any]:
    """Return what a transformer has behind its token states, by name: new weights, as a rule.

    A dense model's and a ColBERT's lie outside of the transformer, and are trained in any case.
    """
    inner = model.base_model
    if inner is model:
        return {}
    heads = {name: child for name, child in model.named_children() if child is not inner}
    pooler = getattr(inner, "pooler", None)
    return heads if pooler is None else heads | {f"{model.base_model_prefix}.pooler": pooler}
