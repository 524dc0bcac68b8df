"""The gradient of a step is one, however it is computed and by however many processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.training.batches import Draw
from limbeck.training.examples import Examples
from limbeck.training.gradients import accumulate
from limbeck.training.networks import Computing, network
from limbeck.training.objectives.colbert import ColBERT
from limbeck.training.objectives.cross_encoder import CrossEncoder
from limbeck.training.objectives.dpr import DPR
from limbeck.training.ranks import Ranks
from limbeck.training.students import (
    AdapterStudent,
    ColBERTStudent,
    CrossEncoderStudent,
    DenseStudent,
)
from limbeck.types import Run

pytestmark = pytest.mark.torch


def made(folder: Path, base: Path, kind: str, *, n_queries: int = 8, **computing):
    """Return a network, its objective and a batch with two hard negatives a query, one missing."""
    student, objective = {
        "dpr": (DenseStudent(base=str(base)), DPR()),
        "two towers": (DenseStudent(base=str(base), towers="two", pooling="cls"), DPR(tau=0.5)),
        "colbert": (ColBERTStudent(base=str(base), dim=8, query_tokens=8), ColBERT()),
        "colbert in batch": (
            ColBERTStudent(base=str(base), dim=8, query_tokens=8),
            ColBERT(in_batch=True),
        ),
        "cross-encoder": (CrossEncoderStudent(base=str(base)), CrossEncoder()),
        "adapter": (AdapterStudent(base=str(base)), DPR()),
    }[kind]
    examples = Examples.load(folder, dev=None)
    torch.manual_seed(0)
    held = network(student.load(), Computing(**computing))
    held.model.train()
    held.read(examples.corpus, examples.queries)
    n = len(examples.queries)
    rng = np.random.default_rng(0)
    counts = np.full(n, 2)
    counts[3] = 1
    bounds = np.concatenate([[0], np.cumsum(counts)])
    rows = rng.integers(0, len(examples.corpus), bounds[-1]).astype(np.int32)
    ids = tuple(query.query_id for query in examples.queries)
    run = Run(ids, bounds, rows, np.zeros(len(rows), np.float32), "bm25", examples.corpus)
    draw = Draw(examples.positives, examples.spared, n_negatives=2, seed=0)
    batch = draw.batch(np.arange(n_queries), 0, run)
    return held, objective, batch


def gradient(held, objective, batch, *, cached=False, ranks=None):
    held.model.zero_grad()
    torch.manual_seed(1)
    ranks = ranks or Ranks()
    loss = accumulate(
        {"student": held},
        objective.views(batch),
        lambda vectors: objective.loss(batch, vectors),
        ranks=ranks,
        cached=cached,
    )
    ranks.add_gradients(held.model.parameters())
    parts = [p.grad.reshape(-1) for p in held.model.parameters() if p.grad is not None]
    return loss, torch.cat(parts)


KINDS = ["dpr", "two towers", "colbert", "colbert in batch", "cross-encoder", "adapter"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_cached_gradient_is_the_gradient_with_dropout_on(folder, base, kind):
    held, objective, batch = made(folder, base, kind, part_tokens=40)
    loss, whole = gradient(held, objective, batch)
    again, parts = gradient(held, objective, batch, cached=True)
    assert again == pytest.approx(loss, rel=1e-6)
    assert whole.norm() > 0.0
    assert (whole - parts).abs().max() <= 1e-5 * whole.abs().max()
    assert gradient(held, objective, batch)[0] == loss, "dropout draws the same at each step"


@pytest.mark.parametrize("kind", KINDS[:4])
def test_packed_texts_have_the_gradient_of_padded_ones(folder, base, kind):
    found = []
    for packed in (False, True):
        held, objective, batch = made(folder, base, kind, packed=packed, part_tokens=60)
        held.model.eval()  # dropout draws in another order
        found.append(gradient(held, objective, batch))
    (loss, whole), (again, parts) = found
    assert again == pytest.approx(loss, rel=1e-6)
    assert (whole - parts).abs().max() <= 1e-5 * whole.abs().max()


def test_parts_of_any_size_have_one_gradient(folder, base):
    found = []
    for part_tokens in (8192, 50, 1):
        held, objective, batch = made(folder, base, "dpr", part_tokens=part_tokens)
        held.model.eval()
        found.append(gradient(held, objective, batch))
    for loss, parts in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert (parts - found[0][1]).abs().max() <= 1e-5 * parts.abs().max()


RANK = """
    import json, sys
    from pathlib import Path
    import torch
    from torch import distributed
    from limbeck.training.ranks import together
    from tests.training.test_gradients import gradient, made

    folder, base, kind, n_queries, out = sys.argv[1:]
    given = {"n_queries": int(n_queries), "part_tokens": 64}
    real, calls = distributed.all_reduce, []
    distributed.all_reduce = lambda *given, **named: (calls.append(1), real(*given, **named))[1]
    with together() as ranks:
        held, objective, batch = made(Path(folder), Path(base), kind, **given)
        held.model.eval()
        loss, whole = gradient(held, objective, batch, cached=True, ranks=ranks)
        told = {"loss": loss, "gradient": whole.tolist(), "calls": len(calls)}
        (Path(out) / f"{ranks.rank}.json").write_text(json.dumps(told))
"""


RANKS = [("dpr", 2, 8), ("colbert in batch", 2, 8), ("cross-encoder", 2, 8), ("two towers", 3, 2)]


@pytest.mark.parametrize(("kind", "n_ranks", "n_queries"), RANKS)
def test_several_ranks_have_the_loss_and_the_gradient_of_one(
    folder, base, tmp_path, kind, n_ranks, n_queries
):
    """Also where a rank has no text: three of them, and two queries with a tower of their own."""
    script = tmp_path / "rank.py"
    script.write_text(textwrap.dedent(RANK))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command.append(f"--nproc-per-node={n_ranks}")
    subprocess.run(
        [*command, str(script), str(folder), str(base), kind, str(n_queries), str(tmp_path)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )
    held, objective, batch = made(folder, base, kind, n_queries=n_queries)
    held.model.eval()
    loss, whole = gradient(held, objective, batch)
    for rank in range(n_ranks):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["loss"] == pytest.approx(loss, rel=4e-6), "of scores up to 30, in float32"
        assert told["calls"] == 1, "one exchange of gradients a step"
        found = torch.tensor(told["gradient"])
        difference = float((found - whole).abs().max() / whole.abs().max())
        assert difference <= 1e-5
