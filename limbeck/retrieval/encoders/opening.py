"""An encoder by its name: the built-in one, a folder, or a model of the hub."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from pathlib import Path

from limbeck.retrieval.encoders.adapted import AdaptedEncoder, inner_encoder, is_adapter
from limbeck.retrieval.encoders.arithmetic import require_torchs
from limbeck.retrieval.encoders.base import Encoder
from limbeck.retrieval.encoders.conventions import MINILM, Settings
from limbeck.retrieval.encoders.folders import (
    ModelFolder,
    local_folder,
    model_folder,
    onnx_files,
    require_states,
    require_torch,
)
from limbeck.retrieval.encoders.minilm import ModelFiles, means_minilm, minilm_files
from limbeck.retrieval.encoders.stated import stated_convention

__all__ = ["open_encoder", "require_encoder"]

_WANTED = "an encoder of single texts"


def open_encoder(settings: Settings) -> Encoder:
    """Return an encoder; its model is loaded when it is first used.

    Equal settings share one encoder, so that several nodes load one model.

    Args:
        settings: `encoder` is "minilm", a folder (of MiniLM's ONNX files, of a model that
            `limbeck export` wrote, of an adapter, or of any sentence-transformers or Hugging Face
            model), or a model's name on the hub.

    Raises:
        ArtifactError: no such model can be had, or a pinned file is another one.
        MissingExtraError: the model needs the extra `torch`.
        UsageError: the model has fewer positions than are asked for.
    """
    files = minilm_files(settings.encoder)
    if files is not None:
        require_torchs(settings.arithmetic, settings.encoder)
        return _opened_onnx(files, settings)
    place = Path(settings.encoder)
    if is_adapter(place):
        return _opened_adapter(place, dataclasses.replace(settings, encoder=inner_encoder(place)))
    folder = local_folder(settings.encoder)
    exported = onnx_files(folder) if folder else None
    if folder is not None and exported is not None:
        require_torchs(settings.arithmetic, settings.encoder)
        return _opened_onnx(exported, settings, folder)
    require_torch(f"the encoder {settings.encoder!r}")
    of_query, of_document = (model_folder(name, built_in=MINILM) for name in _towers(settings))
    return _opened_torch((of_query, of_document), settings)


def require_encoder(settings: Settings) -> None:
    """Raise what `open_encoder` would of files that lie here; load nothing."""
    if means_minilm(settings.encoder):
        return
    if is_adapter(place := Path(settings.encoder)):
        require_encoder(dataclasses.replace(settings, encoder=inner_encoder(place)))
        return
    for name in _towers(settings):
        if folder := local_folder(name):
            require_states(folder, _WANTED)


def _opened_adapter(folder: Path, inner: Settings) -> Encoder:
    """Return an adapter around the encoder that settings name, which others may share."""
    return AdaptedEncoder(folder, open_encoder(inner))


def _towers(settings: Settings) -> tuple[str, str]:
    """Return the names of the models of queries and documents."""
    return settings.convention.towers or (settings.encoder, settings.encoder)


@lru_cache(maxsize=8)
def _opened_onnx(files: ModelFiles, settings: Settings, folder: Path | None = None) -> Encoder:
    from limbeck.retrieval.encoders.onnx import OnnxEncoder

    convention = settings.convention
    if folder is not None:
        convention = stated_convention(folder, convention)
    return OnnxEncoder(files, convention)


@lru_cache(maxsize=8)
def _opened_torch(folders: tuple[ModelFolder, ModelFolder], settings: Settings) -> Encoder:
    from limbeck.retrieval.encoders.sentence import SentenceEncoder
    from limbeck.retrieval.encoders.transformer import TransformerEncoder

    for folder in folders:
        require_states(folder.path, _WANTED)
    convention = settings.convention
    if convention.pooling is not None or not (folders[0].path / "modules.json").is_file():
        return TransformerEncoder(folders, convention, settings.arithmetic)
    stated = settings.similarity is not None
    return SentenceEncoder(
        folders[0], convention, similarity_stated=stated, arithmetic=settings.arithmetic
    )
