"""Each loss against its formula, written out as loops over Python numbers."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.errors import UsageError
from limbeck.training.losses import (
    info_nce,
    list_net,
    listwise_kl,
    margin_mse,
    pairwise_softmax,
    rank_net,
)
from limbeck.training.saturation import Saturation

pytestmark = pytest.mark.torch

SCORES = [[1.5, -0.5, 2.0, 0.0], [0.2, 0.9, -1.0, 3.0], [2.0, 2.0, 0.5, -0.5]]
TEACHER = [[9.0, 2.0, 8.0, -3.0], [4.0, 5.0, 4.5, -8.0], [1.0, 0.0, -1.0, -2.0]]
WHERE = [[True, True, True, True], [True, True, False, True], [True, False, True, True]]


def _softmax(row: list[float]) -> list[float]:
    whole = sum(math.exp(score) for score in row)
    return [math.exp(score) / whole for score in row]


def _rows(masked: bool):
    """Yield the scores of student and teacher for the passages of each query."""
    for scores, teacher, where in zip(SCORES, TEACHER, WHERE, strict=True):
        kept = [i for i, is_one in enumerate(where) if is_one or not masked]
        yield [scores[i] for i in kept], [teacher[i] for i in kept]


def _tensors(masked: bool):
    scores = torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor(TEACHER, dtype=torch.float64, requires_grad=True)
    return scores, teacher, torch.tensor(WHERE) if masked else None


BOTH = pytest.mark.parametrize("masked", [False, True])


@BOTH
def test_info_nce(masked):
    scores, _, where = _tensors(masked)
    positives = torch.tensor([2, 0, 3])
    given = info_nce(scores, positives, tau=0.5, where=where)
    wanted = 0.0
    for row, positive, allowed in zip(SCORES, positives.tolist(), WHERE, strict=True):
        kept = [i for i, is_one in enumerate(allowed) if is_one or not masked]
        told = dict(zip(kept, _softmax([row[i] / 0.5 for i in kept]), strict=True))
        wanted -= math.log(told[positive]) / 3
    assert given.item() == pytest.approx(wanted, rel=1e-12)


def test_pairwise_softmax():
    better, worse = torch.tensor([1.0, -2.0, 50.0]), torch.tensor([0.5, 2.0, -50.0])
    wanted = sum(-math.log(_softmax([b, w])[0]) for b, w in zip(better, worse, strict=True)) / 3
    assert pairwise_softmax(better, worse).item() == pytest.approx(wanted, rel=1e-6)
    far = pairwise_softmax(torch.tensor([-1000.0]), torch.tensor([1000.0]))
    assert far.item() == 2000.0, "no overflow"


@BOTH
def test_margin_mse(masked):
    scores, teacher, where = _tensors(masked)
    terms = [
        ((s[0] - s[j]) - (t[0] - t[j])) ** 2 for s, t in _rows(masked) for j in range(1, len(s))
    ]
    assert margin_mse(scores, teacher, where=where).item() == pytest.approx(sum(terms) / len(terms))


@BOTH
def test_listwise_kl(masked):
    """The teacher is the target, and its temperature its own (TCT-ColBERT's trap 1)."""
    scores, teacher, where = _tensors(masked)
    wanted = 0.0
    for s, t in _rows(masked):
        p, q = _softmax([x / 4.0 for x in t]), _softmax([x / 2.0 for x in s])
        wanted += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 3
    given = listwise_kl(scores, teacher, tau=4.0, student_tau=2.0, where=where)
    assert given.item() == pytest.approx(wanted, rel=1e-9)


@BOTH
def test_rank_net(masked):
    scores, teacher, where = _tensors(masked)
    wanted = 0.0
    for s, t in _rows(masked):
        wanted += sum(
            math.log(1 + math.exp(s[j] - s[i]))
            for i in range(len(s))
            for j in range(len(s))
            if t[i] > t[j]
        )
    assert rank_net(scores, -teacher, where=where).item() == pytest.approx(wanted / 3, rel=1e-9)
    tied = rank_net(scores, torch.zeros_like(teacher))
    assert tied.item() == 0.0, "equal ranks are no pair"


@BOTH
def test_list_net(masked):
    scores, teacher, where = _tensors(masked)
    wanted = 0.0
    for s, t in _rows(masked):
        p, q = _softmax([x / 4.0 for x in t]), _softmax(s)
        wanted -= sum(a * math.log(b) for a, b in zip(p, q, strict=True)) / 3
    assert list_net(scores, teacher, tau=4.0, where=where).item() == pytest.approx(wanted)


@pytest.mark.parametrize("loss", [margin_mse, listwise_kl, list_net])
@BOTH
def test_a_teacher_s_scores_have_no_gradient(loss, masked):
    """Before, the teacher was pulled towards the student (sentence-transformers #3880)."""
    scores, teacher, where = _tensors(masked)
    loss(scores, teacher, where=where).backward()
    assert teacher.grad is None
    assert scores.grad.isfinite().all()
    assert scores.grad.abs().sum() > 0
    if masked:
        assert not scores.grad[~where].any()


def looks(n: int, scores, teacher, saturation: Saturation | None = None) -> Saturation:
    looking = saturation or Saturation()
    for _ in range(n):
        looking.look(scores, teacher)
    return looking


def test_temperatures_that_leave_no_gradient_are_refused():
    """The run would go on for hours and learn nothing."""
    student = torch.tensor([[9.0, 0.0, 3.0]] * 8) / 0.1
    teacher = torch.tensor([[0.8, 0.6, 0.1]] * 8)
    assert listwise_kl(student, teacher / 0.001).item() == 0.0
    with pytest.raises(UsageError, match="raise tau and student_tau"):
        looks(8, student, teacher / 0.001)
    looks(100, student[:1], teacher[:1] / 0.001)  # one query may be learned already


def test_what_is_learned_late_is_no_fault():
    """One batch that a student knew by heart ended a run; it may know all of them in the end."""
    student = torch.tensor([[9.0, 0.0, 3.0]] * 8) / 0.1
    teacher = torch.tensor([[0.8, 0.6, 0.1]] * 8)
    begun = looks(1, student, teacher)
    assert begun.left == 0
    looks(100, student, teacher / 0.001, begun)
    assert looks(7, student, teacher / 0.001).left == 1


def test_a_student_that_is_sure_still_learns_from_a_teacher_who_is_not():
    sure = torch.tensor([[100.0, 0.0, 0.0]] * 8, requires_grad=True)
    listwise_kl(sure, torch.tensor([[0.5, 0.6, 0.1]] * 8)).backward()
    assert sure.grad.abs().max() > 0.05


def test_margins_of_a_batch_without_pairs_are_0():
    scores = torch.tensor([[1.0, 2.0]], requires_grad=True)
    loss = margin_mse(scores, scores.detach(), where=torch.tensor([[True, False]]))
    loss.backward()
    assert loss.item() == 0.0
    assert not scores.grad.any()
