"""Cross-encoders: sequence classifiers by onnxruntime, without torch, and by transformers.

The score is the raw logit; an activation that a folder states, such as a sigmoid, is left out: it
keeps the order, and distillation wants the logit.

With onnxruntime one pair is read a call, so that a logit is the same bits in every batch; see
`limbeck.retrieval.encoders.session`. With torch pairs are read in padded batches, longest first;
padding is masked, so that a logit depends on its batch mates only by the rounding of matrix
products: within 1e-5 on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError, UsageError
from limbeck.fingerprint import fingerprint
from limbeck.progress import track
from limbeck.retrieval.encoders.arithmetic import computing, require_torchs, told
from limbeck.retrieval.encoders.batches import by_length, padded
from limbeck.retrieval.encoders.folders import (
    ModelFiles,
    ModelFolder,
    input_length,
    local_folder,
    model_folder,
    onnx_alone,
    onnx_files,
    require_head,
    require_torch,
)
from limbeck.retrieval.encoders.pairs import (
    Pair,
    PairInput,
    PairModel,
    PairSettings,
    PairTokenizer,
)
from limbeck.retrieval.encoders.session import OnnxModel, in_threads
from limbeck.retrieval.encoders.torch_model import TorchModel

__all__ = ["OnnxPairModel", "TorchPairModel", "open_pair_model", "require_pair_model"]

_LABEL = "scoring pairs"
_BATCH_TOKENS = 8192
"""Tokens of a padded batch: 16 pairs of 512 tokens, more of shorter ones."""


def open_pair_model(settings: PairSettings) -> PairModel:
    """Return a pair model; it is loaded when it first scores.

    Equal settings share one model.

    Args:
        settings: `model` is a folder with model.onnx (or onnx/model.onnx) and tokenizer.json and no
            weights for torch; else a folder or a name on the hub of a sentence-transformers
            CrossEncoder, or of any other sequence classifier of transformers.

    Raises:
        ArtifactError: no such model can be had, or it is no sequence classifier.
        MissingExtraError: the model needs the extra `torch`.
        UsageError: the model has fewer positions than are asked for, or another number of labels.
    """
    files = onnx_files(Path(settings.model))
    if files is not None:
        require_torchs(settings.arithmetic, settings.model)
        return _opened_onnx(files, settings)
    require_torch(f"the cross-encoder {settings.model!r}")
    return _opened_torch(model_folder(settings.model), settings)


def require_pair_model(settings: PairSettings) -> None:
    """Raise what `open_pair_model` would of files that lie here; load nothing."""
    place = Path(settings.model)
    if onnx_alone(place):
        input_length(place, settings.max_tokens)
    elif folder := local_folder(settings.model):
        _torch_length(folder, settings)


@lru_cache(maxsize=8)
def _opened_onnx(files: ModelFiles, settings: PairSettings) -> PairModel:
    return OnnxPairModel(files, settings)


@lru_cache(maxsize=8)
def _opened_torch(folder: ModelFolder, settings: PairSettings) -> PairModel:
    return TorchPairModel(folder, settings)


def _torch_length(folder: Path, settings: PairSettings) -> int:
    """Return the tokens that pairs are cut to, once the folder holds a classifier."""
    require_head(folder, "ForSequenceClassification", "a cross-encoder")
    return input_length(folder, settings.max_tokens)


class OnnxPairModel(PairModel):
    """A sequence classifier in ONNX whose first output is the logits."""

    def __init__(self, files: ModelFiles, settings: PairSettings) -> None:
        """Remember what to load."""
        max_tokens = input_length(files.tokenizer.parent, settings.max_tokens)
        self._model = OnnxModel(files.model, files.tokenizer, max_tokens=max_tokens)
        self._settings = settings
        self._max_tokens = max_tokens
        self.fingerprint = fingerprint(["pairs", files.digest, settings.label, max_tokens])

    @cached_property
    def _tokenizer(self) -> PairTokenizer:
        return PairTokenizer(self._model.tokenizer, self._max_tokens)

    @cached_property
    def _label(self) -> int:
        self._model.require_output("batch, labels")
        return _label_of(self._settings, self._model.width)

    def logits(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Return the logit of each pair, shape (n_pairs,)."""
        made = in_threads(self._logit, self._tokenizer.inputs(pairs), label=_LABEL)
        return np.array(made, dtype=np.float32)

    def _logit(self, pair: PairInput) -> float:
        return float(self._model.output(pair.ids, pair.segments)[self._label])


class TorchPairModel(PairModel):
    """A sequence classifier of transformers; one call at a time."""

    def __init__(self, folder: ModelFolder, settings: PairSettings) -> None:
        """Remember what to load; what the folder says of itself is checked here."""
        max_tokens = _torch_length(folder.path, settings)
        self._model = TorchModel(folder.path, "AutoModelForSequenceClassification")
        self._settings = settings
        self._max_tokens = max_tokens
        self._lock = Lock()
        self.fingerprint = fingerprint(
            ["pairs", folder.digest, settings.label, max_tokens, *told(settings.arithmetic)]
        )

    @cached_property
    def _fast(self) -> Any:
        found = self._model.tokenizer
        if not found.is_fast:
            raise ArtifactError(
                f"{self._model.folder} must have a tokenizer.json, or what one can be made of; it "
                "has not; save its tokenizer again with transformers"
            )
        return found

    @cached_property
    def _tokenizer(self) -> PairTokenizer:
        return PairTokenizer(self._fast.backend_tokenizer, self._max_tokens)

    @cached_property
    def _label(self) -> int:
        return _label_of(self._settings, int(self._model.network.config.num_labels))

    def logits(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:
        """Return the logit of each pair, shape (n_pairs,)."""
        made = np.zeros(len(pairs), dtype=np.float32)
        with self._lock:
            inputs = self._tokenizer.inputs(pairs)
            batches = by_length([len(each.ids) for each in inputs], _BATCH_TOKENS)
            scored = chain.from_iterable(self._scored(inputs, batch) for batch in batches)
            for position, logit in track(scored, label=_LABEL, total=len(pairs)):
                made[position] = logit
        return made

    def _scored(
        self, inputs: Sequence[PairInput], batch: Sequence[int]
    ) -> Iterator[tuple[int, float]]:
        """Return the positions of a batch, each with its logit."""
        import torch

        given = padded(
            [inputs[i].ids for i in batch],
            self._model.pad,
            [inputs[i].segments for i in batch],
        )
        feeds = {"input_ids": given.ids, "attention_mask": given.mask}
        if "token_type_ids" in self._fast.model_input_names:
            feeds["token_type_ids"] = given.segments
        tensors = {name: self._model.tensor(feed) for name, feed in feeds.items()}
        device = self._model.network.device
        with torch.inference_mode(), computing(self._settings.arithmetic, device):
            logits = self._model.network(**tensors).logits[:, self._label].float().cpu().tolist()
        return zip(batch, logits, strict=True)


def _label_of(settings: PairSettings, n_labels: int) -> int:
    """Return the label whose logit is the score."""
    label = settings.label
    if label is None and n_labels == 1:
        return 0
    if label is None:
        raise UsageError(
            f"a cross-encoder must have one label; {settings.model} has {n_labels}; give `label`, "
            "the number of the one whose logit is the score"
        )
    if label >= n_labels:
        raise UsageError(
            f"label must be below {n_labels}, the number of labels of {settings.model}; got {label}"
        )
    return label
