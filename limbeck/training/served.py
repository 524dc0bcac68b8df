"""A saved encoder in the words that servers read: vLLM was tried, others by their documentation.

From version 6 on sentence-transformers writes one key for the pooling, modules by their new places,
and the length of inputs in the tokenizer alone. A server that knows the older words takes another
pooling without saying so, or does not load the folder. It reads the older ones too, so these are
what a folder has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from limbeck.artifact import write_atomically

__all__ = ["write_older_words"]

_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Of each kind of pooling, as all folders had them before."""

_MOVED = ("Transformer", "Pooling", "Normalize", "Dense", "LayerNorm")
"""Modules that servers know by the place that they had."""

_LENGTHS = "sentence_bert_config.json"


def write_older_words(folder: Path, max_tokens: int) -> None:
    """Rewrite the settings of a dense model's folder; one that no server knows stays as it is.

    Args:
        folder: as sentence-transformers saved it.
        max_tokens: of a text.
    """
    modules = _read(folder / "modules.json")
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        return
    for module, kind in zip(modules, kinds, strict=True):
        if kind in _MOVED:
            module["type"] = f"sentence_transformers.models.{kind}"
    _write(folder / "modules.json", modules)
    pooling = folder / modules[1]["path"] / "config.json"
    _write(pooling, _by_flags(_read(pooling)))
    lengths = {"max_seq_length": max_tokens, "do_lower_case": False}
    _write(folder / _LENGTHS, _read(folder / _LENGTHS) | lengths)


def _by_flags(stated: dict[str, Any]) -> dict[str, Any]:
    modes = stated["pooling_mode"]
    on = {modes} if isinstance(modes, str) else set(modes)
    return {
        "word_embedding_dimension": stated["embedding_dimension"],
        **{flag: mode in on for mode, flag in _FLAGS.items()},
        "include_prompt": stated["include_prompt"],
    }


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, value: Any) -> None:
    write_atomically(file, json.dumps(value, indent=2) + "\n")
