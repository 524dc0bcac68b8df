"""Sparse encoders by name: masked language models, and sentence-transformers SparseEncoders.

Paper: SPLADE v2 (Formal et al. 2021), equation 6: the weight of a term is the maximum over the
tokens of a text of log(1 + relu(logit)). The logarithm keeps the order, so that we take the maximum
of the logits first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError, UsageError
from limbeck.fingerprint import digest, fingerprint
from limbeck.retrieval.encoders.base import encodable
from limbeck.retrieval.encoders.folders import (
    ModelFiles,
    ModelFolder,
    input_length,
    local_folder,
    model_folder,
    onnx_alone,
    onnx_files,
    read_json,
    require_head,
    require_length,
    require_torch,
    without_bars,
)
from limbeck.retrieval.encoders.sparse import (
    Entries,
    SparseEncoder,
    SparseSettings,
    SparseVectors,
    entries,
    sparse_convention,
)
from limbeck.retrieval.encoders.term_logits import OnnxTermLogits, TermLogits, TorchTermLogits
from limbeck.types import Document

__all__ = [
    "MaskedLanguageEncoder",
    "SparseFolderEncoder",
    "is_sparse_folder",
    "open_sparse_encoder",
    "require_sparse_encoder",
]

_BATCH = 8
"""Texts of a batch where sentence-transformers makes it: 500 MB of logits with 512 tokens each."""


def open_sparse_encoder(settings: SparseSettings) -> SparseEncoder:
    """Return a sparse encoder; its model is loaded when it is first used.

    Equal settings share one encoder.

    Args:
        settings: `encoder` is a folder or a name on the hub: a sentence-transformers SparseEncoder,
            used by its own modules, or a masked language model, used as its name says; or a folder
            with such a model as model.onnx (or onnx/model.onnx) and tokenizer.json, and no weights
            for torch.

    Raises:
        ArtifactError: no such model can be had, or it is neither of the two.
        MissingExtraError: the model needs the extra `torch`.
        UsageError: the model has fewer positions than are asked for.
    """
    files = onnx_files(Path(settings.encoder))
    if files is not None:
        return _opened_onnx(files, settings)
    require_torch(f"the sparse encoder {settings.encoder!r}")
    of_query, of_document = _towers(settings)
    return _opened_torch((model_folder(of_query), model_folder(of_document)), settings)


def require_sparse_encoder(settings: SparseSettings) -> None:
    """Raise what `open_sparse_encoder` would of files that lie here; load nothing."""
    place = Path(settings.encoder)
    if onnx_alone(place):
        input_length(place, settings.max_tokens)
        return
    for name in _towers(settings):
        if folder := local_folder(name):
            _require_sparse(folder, settings)


def _require_sparse(folder: Path, settings: SparseSettings) -> None:
    if is_sparse_folder(folder):
        require_length(folder, settings.max_tokens)
    else:
        _torch_length(folder, settings)


def _towers(settings: SparseSettings) -> tuple[str, str]:
    """Return the names of the models of queries and documents."""
    return sparse_convention(settings.encoder).towers or (settings.encoder, settings.encoder)


@lru_cache(maxsize=8)
def _opened_onnx(files: ModelFiles, settings: SparseSettings) -> SparseEncoder:
    folder = files.tokenizer.parent
    tower = OnnxTermLogits(files, input_length(folder, settings.max_tokens))
    place = ModelFolder(folder, files.digest)
    return MaskedLanguageEncoder((place, place), (tower, tower), settings)


@lru_cache(maxsize=8)
def _opened_torch(
    folders: tuple[ModelFolder, ModelFolder], settings: SparseSettings
) -> SparseEncoder:
    if folders[0] == folders[1] and is_sparse_folder(folders[0].path):
        return SparseFolderEncoder(folders[0], settings)
    of_query, of_document = (_torch_tower(folder.path, settings) for folder in folders)
    towers = (of_document if folders[0] == folders[1] else of_query, of_document)
    return MaskedLanguageEncoder(folders, towers, settings)


def is_sparse_folder(folder: Path) -> bool:
    """Return whether a folder's modules are a SparseEncoder's.

    Other modules sentence-transformers would take for one too, with a head of random weights.
    """
    modules = folder / "modules.json"
    if not modules.is_file():
        return False
    stated = read_json(folder / "config_sentence_transformers.json").get("model_type")
    return stated == "SparseEncoder" or "sparse_encoder" in modules.read_text(encoding="utf-8")


def _torch_tower(folder: Path, settings: SparseSettings) -> TermLogits:
    return TorchTermLogits(folder, _torch_length(folder, settings))


def _torch_length(folder: Path, settings: SparseSettings) -> int:
    """Return the tokens that texts are cut to, once the folder holds a language model."""
    require_head(folder, "ForMaskedLM", "a SparseEncoder or a masked language model")
    return input_length(folder, settings.max_tokens)


class MaskedLanguageEncoder(SparseEncoder):
    """SPLADE by the logits of a masked language model; queries by a model, or by their tokens."""

    def __init__(
        self,
        folders: tuple[ModelFolder, ModelFolder],
        towers: tuple[TermLogits, TermLogits],
        settings: SparseSettings,
    ) -> None:
        """Remember what to load.

        Args:
            folders: of the models of queries and of documents; the same for one model.
            towers: their logits.
            settings: the convention of its name says how they are used.
        """
        self._folders = folders
        self._queries, self._documents = towers
        self._convention = c = sparse_convention(settings.encoder)
        how = [settings.max_tokens, c.twice, c.skips_special]
        self.document_fingerprint = fingerprint(["sparse", folders[1].digest, how])
        of_query = [folders[0].digest, c.query, self._idf if c.query == "idf" else None]
        self.fingerprint = digest(self.document_fingerprint, fingerprint(of_query))

    @property
    def tokens(self) -> Sequence[str | None]:
        """The token of each number; None where the tokenizer has none."""
        return self._documents.tokens

    @property
    def separator(self) -> str:
        """The separator of the model's tokenizer."""
        return self._queries.separator

    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        """Return the weights of queries."""
        if self._convention.query == "model":
            return self._weighed(self._queries, texts)
        numbers = self._queries.numbers(texts)
        of_tokens = self._token_weights
        return SparseVectors.of(_present(each, of_tokens) for each in numbers)

    def encode_documents(self, documents: Sequence[Document | str]) -> SparseVectors:
        """Return the weights of documents."""
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        return self._weighed(self._documents, texts)

    def _weighed(self, tower: TermLogits, texts: Sequence[str]) -> SparseVectors:
        c = self._convention
        dropped = tuple(tower.special) if c.skips_special and texts else ()
        weigh = partial(_weights, twice=c.twice, dropped=dropped)
        return SparseVectors.of(tower.weighed(texts, weigh))

    @cached_property
    def _token_weights(self) -> NDArray[np.float32]:
        """The weight of each token that stands in a query, shape (n_terms,)."""
        if self._convention.query == "tokens":
            return np.ones(len(self.tokens), dtype=np.float32)
        idf = self._idf
        return np.array([idf.get(term, 0.0) for term in self.terms], dtype=np.float32)

    @cached_property
    def _idf(self) -> dict[str, Any]:
        found = read_json(self._folders[0].path / "idf.json")
        if not found:
            raise ArtifactError(
                f"{self._folders[0].path} must have an idf.json with the weights of query tokens; "
                "it has none; fetch the model again"
            )
        return found


def _weights(
    highest: NDArray[np.float32], *, twice: bool, dropped: tuple[int, ...] = ()
) -> Entries:
    """Return log(1 + relu(highest logit)) of each term."""
    weights = np.log1p(np.maximum(highest, np.float32(0.0)))
    if twice:
        weights = np.log1p(weights)
    weights[list(dropped)] = 0.0
    return entries(weights)


def _present(numbers: Sequence[int], weights: NDArray[np.float32]) -> Entries:
    """Return the weight of each token that stands in a text, however often it does."""
    held = np.unique(np.array(numbers, dtype=np.int32))
    kept = held[weights[held] != 0.0]
    return kept, weights[kept]


class SparseFolderEncoder(SparseEncoder):
    """A sentence-transformers SparseEncoder folder, used by its own modules and prompts."""

    def __init__(self, folder: ModelFolder, settings: SparseSettings) -> None:
        """Remember what to load.

        Raises:
            UsageError: the model has fewer positions than are asked for.
        """
        require_length(folder.path, settings.max_tokens)
        self._folder = folder.path
        self._max_tokens = settings.max_tokens
        self._lock = Lock()
        self.document_fingerprint = fingerprint(["sparse", folder.digest, settings.max_tokens])
        self.fingerprint = digest(self.document_fingerprint)

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import SparseEncoder as Model

        with without_bars():
            model = Model(str(self._folder), local_files_only=True)
        if model.similarity_fn_name != "dot":
            raise UsageError(
                f"a sparse encoder must compare by dot; {self._folder} says "
                f"{model.similarity_fn_name!r}; take another model"
            )
        if self._max_tokens is not None:
            model.max_seq_length = self._max_tokens
        return model

    @cached_property
    def tokens(self) -> Sequence[str | None]:
        """The token of each number; None where the tokenizer has none."""
        n_terms = int(self._model.get_embedding_dimension())
        named = self._model.tokenizer.convert_ids_to_tokens
        tokens: list[str | None] = named(list(range(n_terms)))
        return tokens

    @property
    def separator(self) -> str:
        """The separator of the model's tokenizer."""
        return str(getattr(self._model.tokenizer, "sep_token", None) or " ")

    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        """Return the weights of queries."""
        return self._encode("encode_query", list(texts))

    def encode_documents(self, documents: Sequence[Document | str]) -> SparseVectors:
        """Return the weights of documents."""
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        return self._encode("encode_document", texts)

    def _encode(self, side: str, texts: list[str]) -> SparseVectors:
        if not texts:
            return SparseVectors.of([])
        with self._lock:
            found = getattr(self._model, side)(
                [encodable(text) for text in texts],
                batch_size=_BATCH,
                save_to_cpu=True,
                show_progress_bar=False,
            ).coalesce()
        rows, terms = found.indices().numpy()
        bounds = np.searchsorted(rows, np.arange(len(texts) + 1))
        return SparseVectors(
            bounds.astype(np.int64), terms.astype(np.int32), found.values().numpy()
        )
