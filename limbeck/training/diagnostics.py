"""How a teacher's labels look: where its scores lie, and what dark examples do to its certainty."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import DataError
from limbeck.training.batches import NO_PASSAGE
from limbeck.training.calibration import as_logits, entropies, fitted_tau
from limbeck.training.labels import Labels

__all__ = ["certainty", "groups", "lists_of"]

_ENTROPY = 0.5

NEGATIVES, REINFORCED, NOISY, POSITIVES = "negatives", "reinforced", "noisy", "positives"


def groups(labels: Labels) -> dict[str, NDArray[np.float32]]:
    """Return the teacher's scores of negatives, of each kind of dark example, and of positives."""
    texts, run = labels.texts, labels.run
    n = len(texts.corpus)
    kinds = [NEGATIVES, REINFORCED, NOISY, POSITIVES]
    of_dark = [kinds.index(str(text.metadata["kind"])) for text in texts.more]
    kind = np.zeros(len(run.rows), dtype=np.int64)
    is_dark = run.rows >= n
    if of_dark:
        kind[is_dark] = np.array(of_dark)[run.rows[is_dark] - n]
    for place, positives in enumerate(labels.positives):
        where = run.segment(place)
        kind[where][np.isin(run.rows[where], positives)] = kinds.index(POSITIVES)
    found = {name: run.scores[kind == number] for number, name in enumerate(kinds)}
    return {name: scores for name, scores in found.items() if len(scores)}


def lists_of(labels: Labels, *, dark: bool) -> NDArray[np.int64]:
    """Return the rows of each query; NO_PASSAGE where it has fewer.

    The first is the positive with the best label. The other positives are left out.

    Args:
        labels: whose queries.
        dark: whether its dark examples stand behind the others.
    """
    run = labels.run if dark else labels.candidates
    most = int(np.diff(run.bounds).max(initial=0))
    rows = np.full((len(run), most + 1), NO_PASSAGE)
    for place, positives in enumerate(labels.positives):
        own = run.rows[run.segment(place)]
        is_positive = np.isin(own, positives)
        others = own[~is_positive]
        rows[place, 0] = own[is_positive][0] if is_positive.any() else positives[0]
        rows[place, 1 : 1 + len(others)] = others
    return rows


def certainty(labels: Labels) -> Mapping[str, float]:
    """Return the mean score of each group, and the entropy of soft labels with and without dark.

    The temperature is that at which the soft labels without dark examples have half the highest
    entropy. An empty mapping where no temperature does it.
    """
    told = {f"mean of {name}": float(scores.mean()) for name, scores in groups(labels).items()}
    queries = np.arange(len(labels))
    try:
        tau = fitted_tau(*_logits(labels, queries, dark=False), entropy=_ENTROPY)
    except DataError:
        return told
    told["tau"] = tau
    for name, dark in (("entropy", False), ("entropy with dark examples", True)):
        if not dark or labels.texts.more:
            told[name] = float(np.nanmean(entropies(*_logits(labels, queries, dark=dark), tau)))
    return told


def _logits(
    labels: Labels, queries: NDArray[np.int64], *, dark: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores = labels.of(queries, lists_of(labels, dark=dark))
    where = ~np.isnan(scores)
    return as_logits(scores, labels.run.kind, where), where
