"""What a sentence-transformers folder says of its model, read without torch.

For a model that was exported to ONNX: its graph ends with token states, and what follows, the
pooling and the length of vectors, stands in the folder's JSON files.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from limbeck.errors import ArtifactError
from limbeck.retrieval.encoders.conventions import Convention
from limbeck.retrieval.encoders.folders import input_length, read_json

__all__ = ["stated_convention", "stated_prefixes"]

_POOLINGS = ("mean", "cls")

_OLDER = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
"""What older folders call them: a flag for each kind."""


def stated_convention(folder: Path, named: Convention) -> Convention:
    """Return a convention, with what it leaves open taken from the folder of an exported model.

    Args:
        folder: with modules.json and what it names.
        named: what the user, or the model's name, says.

    Raises:
        ArtifactError: the model has modules that need torch.
    """
    modules = [
        (str(module.get("type", "")).rpartition(".")[2], folder / str(module.get("path", "")))
        for module in _modules(folder)
    ]
    names = [name for name, _ in modules]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ArtifactError(
            f"an encoder in ONNX must be a transformer with pooling; {folder} has "
            f"{', '.join(names) or 'no modules.json'}; load it with torch"
        )
    pooled = read_json(modules[1][1] / "config.json")
    lengths = read_json(folder / "sentence_bert_config.json")
    pooling = _pooling(pooled)
    if pooling not in _POOLINGS or not pooled.get("include_prompt", True):
        raise ArtifactError(
            f"an encoder in ONNX must pool all tokens by mean or cls; {folder} pools by "
            f"{pooling!r}, or leaves some out; load it with torch"
        )
    if lengths.get("query_expansion"):
        raise ArtifactError(
            f"an encoder in ONNX must read queries as they are; {folder} adds [MASK]s to them; "
            "load it with torch"
        )
    of_documents, of_queries = _lengths(folder, lengths, named.max_tokens)
    query_prefix, document_prefix = stated_prefixes(folder)
    found: dict[str, Any] = {
        "pooling": pooling,
        "normalise": len(names) == 3,
        "max_tokens": of_documents,
        "query_tokens": of_queries if of_queries != of_documents else None,
        "query_prefix": query_prefix,
        "document_prefix": document_prefix,
    }
    open_ones = {name: value for name, value in found.items() if getattr(named, name) is None}
    return dataclasses.replace(named, **open_ones)


def stated_prefixes(folder: Path) -> tuple[str, str]:
    """Return what a folder says stands before queries and documents; "" where it says nothing."""
    prompts = read_json(folder / "config_sentence_transformers.json").get("prompts") or {}
    document = prompts.get("document", prompts.get("passage"))
    return str(prompts.get("query") or ""), str(document or "")


def _pooling(stated: dict[str, Any]) -> str:
    """Return how token states are pooled; several kinds are joined to a name of none."""
    on = [name for name, value in stated.items() if name.startswith("pooling_mode_") and value]
    return str(stated.get("pooling_mode") or " and ".join(_OLDER.get(name, name) for name in on))


def _lengths(folder: Path, stated: dict[str, Any], asked: int | None) -> tuple[int, int]:
    """Return the tokens that documents and queries are cut to: each side's own, or the model's.

    Args:
        folder: of the model.
        stated: what it says of lengths.
        asked: the length that a user, or the model's name, says; a query's own stands above it.
    """
    whole = asked or input_length(folder, stated.get("max_seq_length"))
    of_documents = asked or input_length(folder, stated.get("document_length") or whole)
    return of_documents, stated.get("query_length") or whole


def _modules(folder: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
