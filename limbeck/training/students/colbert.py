"""A student with a vector a token."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from limbeck.errors import UsageError
from limbeck.retrieval.encoders.folders import read_json
from limbeck.training.modules import parts, readers
from limbeck.training.students.text import TextStudent, cut

__all__ = ["ColBERTStudent", "is_colbert"]

_RELEASED = "HF_ColBERT"
"""What the released code of ColBERT calls its class."""


@dataclass(frozen=True, kw_only=True)
class ColBERTStudent(TextStudent):
    """A vector a token.

    Paper: Khattab and Zaharia, "ColBERT", arXiv 2004.12832, section 3.2.

    Attributes:
        dim: of a token's vector, by a linear map without bias; a bare transformer gets one of 128.
            0: the states as they are.
        query_tokens: queries are cut to so many tokens, or filled with [MASK]s up to them; a bare
            transformer's to 32.
        masks: queries are filled with [MASK]s; a bare transformer's are. A model that has not been
            trained on [MASK]s for long, as most encoders of sentences, is better without.
        document_tokens: documents are cut to so many; a bare transformer's to 180.
        markers: the reserved tokens of queries and documents, which stand behind [CLS]; a bare
            transformer's are [unused0] and [unused1].
        attend: the [MASK]s are attended to; they are scored in any case. A bare transformer's are
            not.
        skip_punctuation: the vectors of a document's punctuation are left out; a bare transformer's
            are.
    """

    name: ClassVar[str] = "colbert"

    dim: int | None = None
    query_tokens: int | None = None
    masks: bool | None = None
    document_tokens: int | None = None
    markers: tuple[str, str] | None = None
    attend: bool | None = None
    skip_punctuation: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masks is False and self.attend:
            raise UsageError("attend must be of [MASK]s; got masks false; leave one of them out")

    @property
    def begins_from_colbert(self) -> bool:
        """Whether the base makes a vector for each token already."""
        return is_colbert(self.folder)

    def _made(self, folder: Path) -> Any:
        return self._taken(folder) if is_colbert(folder) else self._built(folder)

    def _taken(self, folder: Path) -> Any:
        from sentence_transformers import MultiVectorEncoder

        model = MultiVectorEncoder(str(folder), device="cpu", **self._reading(folder))
        self._require_same(folder, _token_shape(model))
        cut(model, self.query_tokens, self.document_tokens)
        return model

    def _built(self, folder: Path) -> Any:
        from sentence_transformers import MultiVectorEncoder

        usual = {name: value for name, value in _USUAL.items() if getattr(self, name) is None}
        whole = replace(self, **usual)
        whole._require_positions(folder)
        prompts = dict(zip(("query", "document"), whole.markers or (), strict=True))
        return MultiVectorEncoder(modules=whole._modules(folder), prompts=prompts, device="cpu")

    def _modules(self, folder: Path) -> list[Any]:
        from sentence_transformers.base.modules import Dense, Normalize
        from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
        from torch import nn

        filled = {"strategy": "fixed", "attend": self.attend, "length": self.query_tokens}
        modules = [
            self._transformer(
                folder,
                document_length=self.document_tokens,
                query_length=None if self.masks else self.query_tokens,
                query_expansion=filled if self.masks else None,
            )
        ]
        tokenizer = modules[0].tokenizer
        _reserve(tokenizer, self.markers or ())
        if self.dim:
            modules.append(
                Dense(
                    modules[0].get_embedding_dimension(),
                    self.dim,
                    bias=False,
                    activation_function=nn.Identity(),
                    module_input_name="token_embeddings",
                )
            )
        known = tokenizer.get_vocab()
        skipped = [mark for mark in string.punctuation if mark in known]
        return [
            *modules,
            MultiVectorMask(skiplist_words=skipped if self.skip_punctuation else None),
            Normalize(module_input_name="token_embeddings"),
        ]


_USUAL: dict[str, Any] = {
    "dim": 128,
    "query_tokens": 32,
    "masks": True,
    "document_tokens": 180,
    "markers": ("[unused0]", "[unused1]"),
    "attend": False,
    "skip_punctuation": True,
}
"""What a bare transformer becomes as a ColBERT: the paper's."""


def is_colbert(folder: Path) -> bool:
    """Return whether a folder holds a model with trained vectors of tokens.

    Raises:
        UsageError: it does, and sentence-transformers would not know it.
    """
    from limbeck.retrieval.encoders.colbert import token_convention
    from limbeck.retrieval.encoders.multi_vector import is_multi_vector

    if is_multi_vector(folder):
        return True
    is_released = token_convention(folder).projected
    named = read_json(folder / "config.json").get("architectures") or []
    if is_released and _RELEASED not in named:
        raise UsageError(
            f"a ColBERT of the released code must name {_RELEASED} under architectures in its "
            f"config.json; {folder} names {', '.join(named)}; change it there"
        )
    return is_released


def _token_shape(model: Any) -> dict[str, Any]:
    """Return what a MultiVectorEncoder is, in the words of `ColBERTStudent`."""
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    maps = parts(Dense, model)
    return {
        "dim": maps[-1].out_features if maps else 0,
        "markers": tuple(model.prompts.get(side, "").strip() for side in ("query", "document")),
        "masks": any(reader.query_expansion for reader in readers(model)),
        "attend": any((reader.query_expansion or {}).get("attend") for reader in readers(model)),
        "skip_punctuation": any(mask.skiplist_words for mask in parts(MultiVectorMask, model)),
    }


def _reserve(tokenizer: Any, markers: tuple[str, ...]) -> None:
    """Let each marker be one token wherever it stands.

    Raises:
        ValueError: the vocabulary lacks it.
    """
    from transformers import AddedToken

    known = tokenizer.get_vocab()
    lacking = [marker for marker in markers if marker not in known]
    if lacking:
        raise ValueError(f"its vocabulary has no {', '.join(lacking)}; give other markers")
    tokens = [AddedToken(marker, normalized=False, special=True) for marker in markers]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
