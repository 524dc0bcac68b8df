"""Texts as tokens, once: a memory-mapped table that every epoch, rank and run reads.

A table is made by the model's own preprocessing, so that training reads what encoding will read:
prompts, markers and the [MASK]s that pad a query are in it. Padding is not. What a step computes is
a small table in memory, taken from the large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.artifact import Artifact, locked, write_artifact
from limbeck.progress import track

__all__ = ["TokenTable", "concatenated", "tokenised"]

_KIND = "tokens"
_FORMAT = 1
_CHUNK = 256

Preprocess = Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""From texts to ids and attention mask, both padded on the right, shape (n_texts, length)."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The tokens of texts, one behind the other.

    Attributes:
        ids: shape (n_tokens,); as narrow as the vocabulary allows.
        attended: uint8, shape (n_tokens,); 0 for a token that others do not see.
        bounds: int64, shape (n_texts + 1,); the tokens of text i are bounds[i]:bounds[i + 1].
        segments: uint8, shape (n_tokens,); which text of a pair a token is of. None where texts are
            no pairs.
    """

    ids: NDArray[Any]
    attended: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    segments: NDArray[np.uint8] | None = None

    @staticmethod
    def of(
        texts: Sequence[NDArray[Any]], segments: Sequence[NDArray[np.uint8]] | None = None
    ) -> TokenTable:
        """Return the table of texts whose ids are given; every token is attended to."""
        bounds = np.cumsum([0, *(len(ids) for ids in texts)], dtype=np.int64)
        ids = np.concatenate(texts) if texts else np.zeros(0, dtype=np.int64)
        whole = None if segments is None else np.concatenate(segments)
        return TokenTable(ids, np.ones(len(ids), np.uint8), bounds, whole)

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.bounds) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, shape (n_texts,)."""
        return np.diff(self.bounds)

    def lengths_of(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the tokens of some texts, of the rows' shape; of the others nothing is read."""
        lengths: NDArray[np.int64] = self.bounds[1:][rows] - self.bounds[:-1][rows]
        return lengths

    def taken(self, rows: NDArray[np.int64]) -> TokenTable:
        """Return the table of some texts, in memory, in the order of the rows."""
        starts, lengths = self.bounds[:-1][rows], self.lengths_of(rows)
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], lengths)
        segments = None if self.segments is None else self.segments[places]
        return TokenTable(self.ids[places], self.attended[places], bounds, segments)

    def padded(self, values: NDArray[Any], fill: int, *, width: int = 0) -> NDArray[np.int64]:
        """Return one value for each token as a matrix, shape (n_texts, longest), filled behind.

        Args:
            values: shape (n_tokens,), such as the ids.
            fill: stands behind each text's own.
            width: of the matrix at least.
        """
        lengths = self.lengths
        matrix = np.full((len(self), max(width, int(lengths.max(initial=0)))), fill, dtype=np.int64)
        matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = values
        return matrix


def concatenated(tables: Sequence[TokenTable]) -> TokenTable:
    """Return the texts of several tables as one, all of them pairs or none."""
    if len(tables) == 1:
        return tables[0]
    starts = np.cumsum([0, *(len(table.ids) for table in tables)])
    bounds = [table.bounds[1:] + start for table, start in zip(tables, starts, strict=False)]
    segments = [table.segments for table in tables if table.segments is not None]
    return TokenTable(
        np.concatenate([table.ids for table in tables]),
        np.concatenate([table.attended for table in tables]),
        np.concatenate([[0], *bounds]).astype(np.int64),
        np.concatenate(segments) if segments else None,
    )


def tokenised(
    texts: Iterable[str],
    n_texts: int,
    preprocess: Preprocess,
    *,
    folder: Path,
    pad: int,
    vocabulary: int,
    label: str,
) -> TokenTable:
    """Return the tokens of texts, read from a folder where they were made before.

    Args:
        texts: in the order of the table.
        n_texts: how many they are.
        preprocess: the model's.
        folder: whose name says what texts and which model they are of.
        pad: the id that fills shorter texts.
        vocabulary: the number of ids.
        label: for progress.

    Raises:
        ArtifactError: the folder cannot be read or written.
    """
    with locked(folder):
        if not (folder / "meta.json").is_file():
            made = _made(texts, n_texts, preprocess, pad, vocabulary, label)
            arrays = {"ids": made.ids, "attended": made.attended, "bounds": made.bounds}
            write_artifact(folder, kind=_KIND, version=_FORMAT, parameters={}, arrays=arrays)
    held = Artifact.load(folder, kind=_KIND, version=_FORMAT)
    return TokenTable(held.array("ids"), held.array("attended"), held.array("bounds"))


def _made(
    texts: Iterable[str],
    n_texts: int,
    preprocess: Preprocess,
    pad: int,
    vocabulary: int,
    label: str,
) -> TokenTable:
    narrow = np.uint16 if vocabulary <= np.iinfo(np.uint16).max + 1 else np.uint32
    ids: list[NDArray[Any]] = []
    attended: list[NDArray[np.uint8]] = []
    lengths: list[NDArray[np.int64]] = []
    left = iter(texts)
    for _ in track(range(0, n_texts, _CHUNK), label=label, total=-(-n_texts // _CHUNK)):
        found, mask = preprocess(list(islice(left, _CHUNK)))
        kept = _lengths(found, mask, pad)
        is_token = np.arange(found.shape[1]) < kept[:, None]
        ids.append(found[is_token].astype(narrow))
        attended.append(mask[is_token].astype(np.uint8))
        lengths.append(kept)
    none = [np.zeros(0, dtype=np.int64)]
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(lengths or none))]).astype(np.int64)
    return TokenTable(
        np.concatenate(ids) if ids else np.zeros(0, narrow),
        np.concatenate(attended) if attended else np.zeros(0, np.uint8),
        bounds,
    )


def _lengths(ids: NDArray[np.int64], mask: NDArray[np.int64], pad: int) -> NDArray[np.int64]:
    """Return how long each text is: padding is what nobody sees and has the padding's id."""
    is_token = (mask != 0) | (ids != pad)
    places = np.arange(1, ids.shape[1] + 1)
    lengths: NDArray[np.int64] = (is_token * places).max(axis=1, initial=0).astype(np.int64)
    return lengths
