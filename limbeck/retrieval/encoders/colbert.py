"""Token vectors of a bare transformer or a ColBERT checkpoint. Needs torch.

Paper: ColBERT (Khattab and Zaharia, SIGIR 2020, section 3.2), and the released code of v1 and v2.
Queries are "[CLS] [Q] words [SEP]", filled with [MASK] up to their length; the masks are not
attended to, and their vectors are scored. Documents are "[CLS] [D] words [SEP]"; the vectors of
punctuation are left out after the transformer has read it. Token states pass a linear map without
bias and are brought to length 1. [Q] and [D] are reserved tokens, not their literal spelling. A
transformer that is no ColBERT gives the states of all its tokens, at length 1.

Texts are encoded in padded batches, longest first. Padding is masked and dropped, so that vectors
depend on their batch mates only by the rounding of matrix products: within 1e-6 on a CPU.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError
from limbeck.fingerprint import digest, fingerprint
from limbeck.retrieval.encoders.arithmetic import computing, told
from limbeck.retrieval.encoders.base import encodable, unit
from limbeck.retrieval.encoders.batches import by_length, padded
from limbeck.retrieval.encoders.folders import ModelFolder, input_length, read_json
from limbeck.retrieval.encoders.tokens import TokenEncoder, TokenSettings, TokenVectors
from limbeck.retrieval.encoders.torch_model import TorchModel
from limbeck.types import Document

__all__ = ["ColBERTEncoder", "TokenConvention", "token_convention"]

_BATCH_TOKENS = 8192
"""Tokens of a padded batch."""

_QUERY_TOKENS, _DOCUMENT_TOKENS = 32, {"HF_ColBERT": 220, "ColBERT": 180}
"""Lengths where a checkpoint states none, by architecture: those of the released code; ColBERT is
what v1's class is called, which states nothing but that."""

_LINEAR = "linear.weight"


@dataclass(frozen=True, slots=True)
class TokenConvention:
    """How a checkpoint makes token vectors.

    Attributes:
        query_tokens: queries are cut to so many tokens; None: the model's own length.
        document_tokens: the same for documents.
        markers: the reserved tokens of queries and documents, which stand behind [CLS].
        augmented: queries are filled with [MASK] up to their length.
        attended: the [MASK]s are attended to.
        skips_punctuation: documents have no vectors of punctuation.
        projected: the checkpoint has a linear map.
    """

    query_tokens: int | None = None
    document_tokens: int | None = None
    markers: tuple[str, str] | None = None
    augmented: bool = False
    attended: bool = False
    skips_punctuation: bool = False
    projected: bool = False


def token_convention(folder: Path) -> TokenConvention:
    """Return how the checkpoint in a folder is used, by its config.json and artifact.metadata.

    A ColBERT that was saved as a BertModel is known by its linear map, and taken for one of v1.
    That punctuation is skipped where nothing is stated is the paper's word, and that of the
    commands in v1's README; its code wants it said.
    """
    named = read_json(folder / "config.json").get("architectures") or []
    of_architecture = [_DOCUMENT_TOKENS[name] for name in named if name in _DOCUMENT_TOKENS]
    if not of_architecture and "BertModel" in named and _LINEAR in _weight_names(folder):
        of_architecture = [_DOCUMENT_TOKENS["ColBERT"]]
    if not of_architecture:
        return TokenConvention()
    stated = read_json(folder / "artifact.metadata")
    return TokenConvention(
        query_tokens=int(stated.get("query_maxlen") or _QUERY_TOKENS),
        document_tokens=int(stated.get("doc_maxlen") or of_architecture[0]),
        markers=(
            stated.get("query_token_id") or "[unused0]",
            stated.get("doc_token_id") or "[unused1]",
        ),
        augmented=True,
        attended=bool(stated.get("attend_to_mask_tokens")),
        skips_punctuation=bool(stated.get("mask_punctuation", True)),
        projected=True,
    )


class ColBERTEncoder(TokenEncoder):
    """One transformer for both sides."""

    def __init__(self, folder: ModelFolder, settings: TokenSettings) -> None:
        """Remember what to load; lengths that are stated stand above the checkpoint's own.

        Raises:
            UsageError: the model has fewer positions than are asked for.
        """
        self._model = TorchModel(folder.path)
        own = token_convention(folder.path)
        self._convention = c = dataclasses.replace(
            own,
            query_tokens=settings.query_tokens or own.query_tokens,
            document_tokens=settings.document_tokens or own.document_tokens,
        )
        self._lock = Lock()
        self._arithmetic = settings.arithmetic
        self._positions = input_length(folder.path, None)
        input_length(folder.path, c.query_tokens, "query_tokens")
        input_length(folder.path, c.document_tokens, "document_tokens")
        self.document_fingerprint = fingerprint(
            [
                *["tokens", folder.digest, c.document_tokens, c.markers, c.skips_punctuation],
                *told(settings.arithmetic),
            ]
        )
        of_query = [c.query_tokens, c.augmented, c.attended]
        self.fingerprint = digest(self.document_fingerprint, fingerprint(of_query))

    @cached_property
    def _projection(self) -> Any:
        """The linear map, shape (dim, width), None where the checkpoint has none."""
        if not self._convention.projected:
            return None
        return _linear_weight(self._model.folder).to(self._model.network.device)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        found = self._projection
        return int(self._model.network.config.hidden_size if found is None else found.shape[0])

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Return the token vectors of queries, those of [MASK] included."""
        c = self._convention
        with self._lock:
            rows = [self._ids(text, c.query_tokens, 0) for text in texts]
            if not c.augmented:
                return self._encoded(rows, [np.ones(len(row), dtype=bool) for row in rows])
            mask, length = self._model.tokenizer.mask_token_id, c.query_tokens or _QUERY_TOKENS
            filled = [row + [mask] * (length - len(row)) for row in rows]
            n_read = [length if c.attended else len(row) for row in rows]
            return self._encoded(filled, [np.ones(length, dtype=bool) for _ in rows], n_read)

    def encode_documents(self, documents: Sequence[Document | str]) -> TokenVectors:
        """Return the token vectors of documents, without those of punctuation."""
        texts = [d if isinstance(d, str) else d.contents for d in documents]
        with self._lock:
            rows = [self._ids(text, self._convention.document_tokens, 1) for text in texts]
            return self._encoded(rows, [~np.isin(row, self._skipped) for row in rows])

    @cached_property
    def _skipped(self) -> list[int]:
        """The ids of punctuation."""
        if not self._convention.skips_punctuation:
            return []
        encode = self._model.tokenizer.encode
        return sorted({encode(sign, add_special_tokens=False)[0] for sign in string.punctuation})

    def _ids(self, text: str, max_tokens: int | None, side: int) -> list[int]:
        """Return the token ids of a text, cut, with the marker of its side behind [CLS]."""
        markers = self._convention.markers
        most = max_tokens or self._positions
        kept = most - (markers is not None)
        tokenizer = self._model.tokenizer
        ids: list[int] = tokenizer(encodable(text), truncation=True, max_length=kept)["input_ids"]
        if markers is None:
            return ids
        return [ids[0], tokenizer.convert_tokens_to_ids(markers[side]), *ids[1:]]

    def _encoded(
        self,
        rows: list[list[int]],
        kept: list[NDArray[np.bool_]],
        n_read: Sequence[int] | None = None,
    ) -> TokenVectors:
        """Return the vectors of some tokens.

        Args:
            rows: token ids of each text.
            kept: the tokens whose vectors are wanted.
            n_read: how many tokens of each text are attended to; all where not given.
        """
        lengths = n_read or [len(row) for row in rows]
        made: list[NDArray[np.float32]] = [np.zeros((0, self.dim), dtype=np.float32)] * len(rows)
        for batch in by_length(list(map(len, rows)), _BATCH_TOKENS):
            states = self._states([rows[i] for i in batch], [lengths[i] for i in batch])
            for i, of_text in zip(batch, states, strict=True):
                made[i] = unit(of_text[: len(rows[i])][kept[i]])
        return TokenVectors.of(made, self.dim)

    def _states(self, rows: list[list[int]], n_read: list[int]) -> NDArray[np.float32]:
        """Return the projected states of a batch, shape (n, longest, dim)."""
        import torch

        given = padded(rows, self._model.pad)
        read = (np.arange(given.ids.shape[1]) < np.array(n_read)[:, None]).astype(np.int64)
        ids, mask = self._model.tensor(given.ids), self._model.tensor(read)
        device = self._model.network.device
        with torch.inference_mode(), computing(self._arithmetic, device):
            states = self._model.network(input_ids=ids, attention_mask=mask).last_hidden_state
            if self._projection is not None:
                states = states @ self._projection.T
            found: NDArray[np.float32] = states.float().cpu().numpy()
        return found


def _weight_names(folder: Path) -> Collection[str]:
    """Return the names of a checkpoint's weights."""
    from safetensors import safe_open

    if not (folder / "model.safetensors").is_file():
        return _pickled(folder).keys()
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        return frozenset(weights.keys())


def _pickled(folder: Path) -> dict[str, Any]:
    """Return the weights in pytorch_model.bin, read without unpickling code; none without it."""
    import torch

    file = folder / "pytorch_model.bin"
    if not file.is_file():
        return {}
    weights: dict[str, Any] = torch.load(
        file, map_location="cpu", weights_only=True, mmap=is_zipfile(file)
    )
    return weights


def _linear_weight(folder: Path) -> Any:
    """Return the weight of the linear map, shape (dim, width).

    Raises:
        ArtifactError: the checkpoint holds none.
    """
    from safetensors import safe_open

    if _LINEAR not in _weight_names(folder):
        raise ArtifactError(
            f"{folder} must hold a ColBERT with {_LINEAR} in model.safetensors or "
            "pytorch_model.bin; it does not; fetch the model again"
        )
    if not (folder / "model.safetensors").is_file():
        return _pickled(folder)[_LINEAR].float()
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return weights.get_tensor(_LINEAR).float()
