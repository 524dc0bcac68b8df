"""Losses over scores of a query's passages; each is one formula, and nothing else.

Scores are of shape (n_queries, n_passages) where nothing else is said: row i holds what the model
gives the passages of query i. A teacher's scores have no gradient. `where` is of the same shape and
says which entries are passages at all; None is all of them. `weights`, shape (n_queries,), are what
each query's term counts; None is 1 for all.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "flops",
    "info_nce",
    "list_net",
    "listwise_kl",
    "margin_mse",
    "pairwise_softmax",
    "rank_net",
]

_NOWHERE = float("-inf")


def info_nce(
    scores: Tensor, positives: Tensor, *, tau: float = 1.0, where: Tensor | None = None
) -> Tensor:
    """Return the mean of -log softmax(scores / tau) at each query's positive.

    Paper: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", arXiv
    1807.03748, eq. 4; with tau 1 that of DPR, arXiv 2004.04906, eq. 2.

    Args:
        scores: of all passages of the batch.
        positives: int64, shape (n_queries,); the column of each query's positive.
        tau: the temperature.
        where: which passages compete; a positive always does.
    """
    return functional.cross_entropy(_masked(scores / tau, where), positives)


def pairwise_softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the mean of -log(e^positive / (e^positive + e^negative)); shapes (n_pairs,).

    Paper: Xiong et al., ANCE, arXiv 2007.00808; Khattab and Zaharia, ColBERT, arXiv 2004.12832.
    """
    return functional.softplus(negative - positive).mean()


def margin_mse(
    scores: Tensor, teacher: Tensor, *, where: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Return the mean squared difference between the student's and the teacher's margins.

    A margin is what the first passage of a query is above another one.

    Paper: Hofstätter et al., arXiv 2010.02666, eq. 6. The teacher's scores are raw logits; a
    student whose scores lie in [-1, 1] cannot reach their margins.
    """
    wanted = teacher.detach()
    missed = ((scores[:, :1] - scores[:, 1:]) - (wanted[:, :1] - wanted[:, 1:])).square()
    if where is not None:
        missed = missed.masked_fill(~(where[:, 1:] & where[:, :1]), 0.0)
    n_pairs = missed.numel() if where is None else int((where[:, 1:] & where[:, :1]).sum())
    return _weighted(missed.sum(dim=1), weights).sum() / max(1, n_pairs)


def listwise_kl(
    scores: Tensor,
    teacher: Tensor,
    *,
    tau: float = 1.0,
    student_tau: float = 1.0,
    where: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over queries of KL(softmax(teacher / tau) || softmax(scores / student_tau)).

    Paper: Lin et al., TCT-ColBERT, RepL4NLP 2021: tau .25 for the teacher, 1 for the student.
    """
    told = functional.log_softmax(_masked(scores / student_tau, where), dim=1)
    wanted = functional.softmax(_masked(teacher.detach() / tau, where), dim=1)
    terms = functional.kl_div(told.clamp_min(torch.finfo(told.dtype).min), wanted, reduction="none")
    return _weighted(terms.sum(dim=1), weights).mean()


def rank_net(
    scores: Tensor, ranks: Tensor, *, where: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Return the sum over pairs in the teacher's order of log(1 + e^(worse - better)), per query.

    Paper: Burges et al., "Learning to Rank using Gradient Descent", ICML 2005; as Sun et al.,
    RankGPT, arXiv 2304.09542, distil permutations.

    Args:
        scores: of the student.
        ranks: the teacher's, the best lowest; equal ranks are no pair.
        where: which entries are passages.
        weights: of the queries.
    """
    better = ranks[:, :, None] < ranks[:, None, :]
    if where is not None:
        better &= where[:, :, None] & where[:, None, :]
    worse_by = functional.softplus(scores[:, None, :] - scores[:, :, None])
    return _weighted((worse_by * better).sum(dim=(1, 2)), weights).mean()


def list_net(
    scores: Tensor,
    teacher: Tensor,
    *,
    tau: float = 1.0,
    where: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of the two distributions of who stands first.

    Paper: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007.
    Its gradient is that of `listwise_kl`; the value differs by the teacher's entropy.
    """
    told = functional.log_softmax(_masked(scores, where), dim=1)
    wanted = functional.softmax(_masked(teacher.detach() / tau, where), dim=1)
    terms = -(wanted * told.clamp_min(torch.finfo(told.dtype).min)).sum(dim=1)
    return _weighted(terms, weights).mean()


def flops(values: Tensor) -> Tensor:
    """Return the sum over terms of the squared mean weight, of weights of shape (n_texts, n_terms).

    Paper: Paria et al., "Minimizing FLOPs to Learn Efficient Sparse Representations", ICLR 2020.
    """
    return values.abs().mean(dim=0).square().sum()


def _weighted(terms: Tensor, weights: Tensor | None) -> Tensor:
    return terms if weights is None else terms * weights


def _masked(scores: Tensor, where: Tensor | None) -> Tensor:
    return scores if where is None else scores.masked_fill(~where, _NOWHERE)
