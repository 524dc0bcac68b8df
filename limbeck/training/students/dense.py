"""A student with one vector a text."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from limbeck.errors import UsageError
from limbeck.retrieval.encoders.conventions import convention
from limbeck.retrieval.encoders.folders import read_json
from limbeck.retrieval.encoders.stated import stated_prefixes
from limbeck.training.modules import parts, readers
from limbeck.training.students.colbert import is_colbert
from limbeck.training.students.text import TextStudent, cut

__all__ = ["DenseStudent"]


@dataclass(frozen=True, kw_only=True)
class DenseStudent(TextStudent):
    """One vector a text.

    Attributes:
        towers: whether queries and documents have a transformer each, or share one, as a bare
            transformer's do. A model with one is taken for both towers.
        pooling: of token states; a bare transformer's is the mean.
        normalise: vectors are brought to length 1; a bare transformer's are not.
        layer_norm: the pooled state passes a linear map and a LayerNorm, as in ANCE; a bare
            transformer's does not.
        query_tokens: queries are cut to so many tokens.
        document_tokens: the same for documents.
        query_prefix: stands before each query. One that is not given, and that the base does not
            state, is what Limbeck knows by the base's name: "query: " for an E5.
        document_prefix: the same for documents.
        title_separator: stands between a document's title and its text; " [SEP] " makes a pair of
            them, as in DPR.
        masks: queries are filled with [MASK]s, attended to and pooled, up to query_tokens, and the
            prefixes are not pooled, as in TCT-ColBERT.
    """

    name: ClassVar[str] = "dense"

    towers: Literal["one", "two"] | None = None
    pooling: Literal["mean", "cls"] | None = None
    normalise: bool | None = None
    layer_norm: bool | None = None
    query_tokens: int | None = None
    document_tokens: int | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    title_separator: str | None = None
    masks: bool | None = None

    @property
    def between(self) -> str:
        """What stands between a document's title and its text."""
        if self.title_separator is not None:
            return self.title_separator
        return convention(self.base, self.folder).title_separator

    def _prompts(self, folder: Path) -> dict[str, str]:
        """Return the prefixes: as asked for, else as the base states, else as its name says."""
        used = convention(self.base, folder)
        stated = stated_prefixes(folder) if _is_dense(folder) else ("", "")
        known = stated if any(stated) else (used.query_prefix, used.document_prefix)
        asked = (self.query_prefix, self.document_prefix)
        query, document = (k if a is None else a for k, a in zip(known, asked, strict=True))
        return {"query": query or "", "document": document or ""}

    def _made(self, folder: Path) -> Any:
        return self._taken(folder) if _is_dense(folder) else self._built(folder)

    def _taken(self, folder: Path) -> Any:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(folder), prompts=self._prompts(folder), device="cpu", **self._reading(folder)
        )
        if model.similarity_fn_name == "cosine":  # which is said where nothing is stated, too
            model.similarity_fn_name = convention(self.base, folder).similarity
        if self.towers == "two" and _n_towers(model) == "one":
            model = _doubled(model)
        self._require_same(folder, _shape(model))
        cut(model, self.query_tokens, self.document_tokens)
        return model

    def _built(self, folder: Path) -> Any:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Normalize, Router

        modules = self._tower(folder)
        if self.towers == "two":
            modules = [Router.for_query_document(modules, self._tower(folder))]
        if self.normalise:
            modules.append(Normalize())
        return SentenceTransformer(
            modules=modules,
            similarity_fn_name="cosine" if self.normalise else "dot",
            prompts=self._prompts(folder),
            device="cpu",
        )

    def _tower(self, folder: Path) -> list[Any]:
        from sentence_transformers.base.modules import Dense
        from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
        from torch import nn

        if self.masks and self.query_tokens is None:
            raise UsageError("masks must fill queries to so many tokens; give query_tokens")
        expansion = {"strategy": "fixed", "attend": True, "length": self.query_tokens}
        transformer = self._transformer(
            folder,
            query_length=None if self.masks else self.query_tokens,
            document_length=self.document_tokens,
            query_expansion=expansion if self.masks else None,
        )
        dim = transformer.get_embedding_dimension()
        modules = [transformer, Pooling(dim, self.pooling or "mean", include_prompt=not self.masks)]
        if self.layer_norm:
            modules += [Dense(dim, dim, activation_function=nn.Identity()), LayerNorm(dim)]
        return modules


def _is_dense(folder: Path) -> bool:
    """Return whether a folder holds a SentenceTransformer, which old ones do not call so."""
    stated = read_json(folder / "config_sentence_transformers.json").get("model_type")
    is_saved = (folder / "modules.json").is_file() and not is_colbert(folder)
    return is_saved and stated in {None, "SentenceTransformer"}


def _n_towers(model: Any) -> str:
    from sentence_transformers.base.modules import Router

    return "two" if any(isinstance(module, Router) for module in model) else "one"


def _doubled(model: Any) -> Any:
    """Return a model whose towers are both what the model is."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    return SentenceTransformer(
        modules=[Router.for_query_document(list(model), copy.deepcopy(list(model)))],
        similarity_fn_name=model.similarity_fn_name,
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
        device="cpu",
    )


def _shape(model: Any) -> dict[str, Any]:
    """Return what a SentenceTransformer is, in the words of `DenseStudent`."""
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    poolings = {module.pooling_mode for module in parts(Pooling, model)}
    return {
        "towers": _n_towers(model),
        "pooling": " and ".join(sorted(map(str, poolings))),
        "normalise": bool(parts(Normalize, model)),
        "layer_norm": bool(parts(LayerNorm, model)),
        "masks": any(reader.query_expansion for reader in readers(model)),
    }
