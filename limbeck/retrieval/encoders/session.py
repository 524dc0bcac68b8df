"""A transformer in ONNX with its tokenizer, run by onnxruntime without torch, one input a call.

In a padded batch what a text gives may depend on its batch mates: by the order in which a kernel
adds, and, in a model that quantises activations, by their values. One input a call, at its own
length and on one thread, makes it depend on the text alone, bit for bit, whatever the batch and the
number of cores. Several calls run at once instead, one a core. That costs nothing: on 2 idle cores,
abstracts of 239 tokens, 25.9 docs/s so and 20.1 docs/s in padded batches of 32 with two threads
inside each call (benchmarks/dense_scifact.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ArtifactError
from limbeck.progress import track

__all__ = ["OnnxModel", "in_threads"]

_T = TypeVar("_T")
_S = TypeVar("_S")


class OnnxModel:
    """A model whose inputs are token ids, attention mask and, where it has them, segments."""

    def __init__(self, model: Path, tokenizer: Path, *, max_tokens: int) -> None:
        """Remember what to load.

        Args:
            model: the .onnx file.
            tokenizer: the tokenizer.json.
            max_tokens: longer inputs are cut to this length.
        """
        self._model = model
        self._tokenizer_file = tokenizer
        self._max_tokens = max_tokens

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(
            str(self._model), options, providers=["CPUExecutionProvider"]
        )

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return frozenset(each.name for each in self._session.get_inputs())

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, without the truncation and the padding that its file may ask for."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._max_tokens)
        return tokenizer

    def require_output(self, dimensions: str) -> None:
        """Raise ArtifactError unless the first output has so many dimensions.

        Args:
            dimensions: their names, such as "batch, tokens, terms".
        """
        found = self._session.get_outputs()[0].shape
        if len(found) != len(dimensions.split(",")):
            raise ArtifactError(
                f"{self._model} must give logits of shape ({dimensions}) as its first output; it "
                f"gives {tuple(found)}; give another model"
            )

    @property
    def width(self) -> int:
        """The last dimension of the first output."""
        return int(self._session.get_outputs()[0].shape[-1])

    def output(
        self, ids: Sequence[int], segments: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """Return the first output for one input: states, shape (n_tokens, width), or logits.

        Args:
            ids: its token ids.
            segments: the segment of each token; 0 where not given.
        """
        row = np.array([ids], dtype=np.int64)
        feeds = {
            "input_ids": row,
            "attention_mask": np.ones_like(row),
            "token_type_ids": np.zeros_like(row) if segments is None else np.array([segments]),
        }
        given = {name: value for name, value in feeds.items() if name in self._inputs}
        made: NDArray[np.float32] = self._session.run(None, given)[0][0]
        return made


def in_threads(
    work: Callable[[_S], _T], items: Sequence[_S], *, label: str | None = None
) -> list[_T]:
    """Return the results in the order of the items, several made at once.

    Args:
        work: makes one result.
        items: what they are made of.
        label: names the work for a progress bar; None: it has none of its own.
    """
    n_threads = min(len(items), _n_cores())
    if n_threads <= 1:
        return list(_tracked(map(work, items), label, len(items)))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="limbeck-encode") as pool:
        return list(_tracked(pool.map(work, items), label, len(items)))


def _tracked(made: Iterable[_T], label: str | None, total: int) -> Iterable[_T]:
    return made if label is None else track(made, label=label, total=total)


def _n_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
