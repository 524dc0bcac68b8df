"""A token encoder by its name: the built-in one, a folder, or a model of the hub."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from limbeck.errors import ArtifactError
from limbeck.retrieval.encoders.arithmetic import require_torchs
from limbeck.retrieval.encoders.colbert import ColBERTEncoder
from limbeck.retrieval.encoders.conventions import MINILM, convention
from limbeck.retrieval.encoders.folders import (
    WEIGHTS,
    ModelFolder,
    local_folder,
    model_folder,
    require_states,
    require_torch,
)
from limbeck.retrieval.encoders.minilm import ModelFiles, means_minilm, minilm_files
from limbeck.retrieval.encoders.multi_vector import MultiVectorFolderEncoder, is_multi_vector
from limbeck.retrieval.encoders.onnx import OnnxTokenEncoder
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenSettings

__all__ = ["open_token_encoder", "require_token_encoder"]

_WANTED = "an encoder whose token states can be compared"


def open_token_encoder(settings: TokenSettings) -> TokenEncoder:
    """Return a token encoder; its model is loaded when it is first used.

    Equal settings share one encoder.

    Args:
        settings: `encoder` is "minilm" (its own token states, without torch), or a folder or a name
            on the hub: a ColBERT checkpoint of the released code, a PyLate or
            sentence-transformers MultiVectorEncoder folder, or any other transformer, whose token
            states are taken as they are.

    Raises:
        ArtifactError: no such model can be had, a pinned file is another one, or a checkpoint of
            ColBERT v1 is as its training saves it.
        MissingExtraError: the model needs the extra `torch`.
        UsageError: the model has fewer positions than are asked for.
    """
    files = minilm_files(settings.encoder)
    if files is not None:
        require_torchs(settings.arithmetic, settings.encoder)
        return _opened_onnx(files, settings)
    _require_converted(Path(settings.encoder))
    require_torch(f"the token encoder {settings.encoder!r}")
    return _opened_torch(model_folder(settings.encoder, built_in=MINILM), settings)


def require_token_encoder(settings: TokenSettings) -> None:
    """Raise what `open_token_encoder` would of files that lie here; load nothing."""
    if means_minilm(settings.encoder):
        return
    _require_converted(Path(settings.encoder))
    if folder := local_folder(settings.encoder):
        require_states(folder, _WANTED)


def _require_converted(place: Path) -> None:
    """Raise ArtifactError for a checkpoint as ColBERT v1's training saves it, or a folder of one.

    It has neither tokenizer nor configuration, and the optimiser's state beside the weights.
    """
    found = [place] if place.suffix == ".dnn" and place.is_file() else sorted(place.glob("*.dnn"))
    if found and not any(file for weights in WEIGHTS for file in place.glob(weights)):
        raise ArtifactError(
            "a ColBERT must be a folder with config.json, a tokenizer and model.safetensors; "
            f"{found[0]} is a checkpoint of v1's training; convert it as docs/nodes/maxsim.md shows"
        )


@lru_cache(maxsize=8)
def _opened_onnx(files: ModelFiles, settings: TokenSettings) -> TokenEncoder:
    return OnnxTokenEncoder(files, settings, convention(MINILM).max_tokens)


@lru_cache(maxsize=8)
def _opened_torch(folder: ModelFolder, settings: TokenSettings) -> TokenEncoder:
    require_states(folder.path, _WANTED)
    if is_multi_vector(folder.path):
        return MultiVectorFolderEncoder(folder, settings)
    return ColBERTEncoder(folder, settings)
