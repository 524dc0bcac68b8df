"""Hard negatives of the training queries: mined from a pipeline, and found anew by the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.training.examples import Examples
from limbeck.training.mining import Mined, mined
from limbeck.training.networks import Network
from limbeck.training.recipe import Negatives
from limbeck.training.searching import searched
from limbeck.types import Run

__all__ = ["first_negatives", "refreshed"]


def first_negatives(examples: Examples, negatives: Negatives, *, seed: int) -> Mined:
    """Return the negatives of all training queries by the hits of a pipeline."""
    return mined(
        _first_hits(examples, negatives),
        examples,
        n=negatives.kept,
        depth=negatives.depth,
        pick=negatives.pick,
        guard=negatives.guard,
        seed=seed,
    )


def _first_hits(examples: Examples, negatives: Negatives) -> Run:
    """Return the hits of a pipeline, or what a teacher labelled."""
    if negatives.of is None:
        assert examples.labels is not None, "a recipe refuses this"
        return examples.labels.candidates
    run: Run = negatives.of.bind(examples.corpus).top(negatives.depth + _most_spared(examples))(
        examples.queries
    )
    return run


def refreshed(
    network: Network,
    examples: Examples,
    negatives: Negatives,
    held: Run,
    *,
    generation: int,
    seed: int,
) -> Mined:
    """Return the negatives of a part of the queries anew, and those of the others as they are.

    What was not to be had is counted of that part.

    Paper: Xiong et al., ANCE, arXiv 2007.00808: of the first 200 hits, which are exact, some are
    drawn at random; the released code refreshes a fifth of the queries at a time.

    Args:
        network: whose hits they are; its queries are the examples'.
        examples: queries, positives and corpus.
        negatives: how many are kept, and how they are refreshed.
        held: the negatives before.
        generation: how many refreshes were before; it says which part is next.
        seed: of the draws.
    """
    refresh = negatives.refresh
    assert refresh is not None
    part = np.arange(generation % refresh.parts, len(examples.queries), refresh.parts)
    asked = examples.part(part)
    made = mined(
        _hits(network, part, asked, refresh.depth),
        asked,
        n=negatives.kept,
        depth=refresh.depth,
        pick=refresh.pick,
        guard=negatives.guard,
        seed=seed + generation,
    )
    return made._replace(run=_replaced(held, part, made.run))


def _hits(network: Network, places: NDArray[np.int64], asked: Examples, depth: int) -> Run:
    """Return the hits of some queries, so many that `depth` are left without what is spared."""
    return searched(
        network,
        places,
        [query.query_id for query in asked.queries],
        np.arange(len(asked.corpus)),
        k=depth + _most_spared(asked),
        corpus=asked.corpus,
    )


def _most_spared(examples: Examples) -> int:
    return max((len(rows) for rows in examples.spared), default=0)


def _replaced(held: Run, places: NDArray[np.int64], part: Run) -> Run:
    """Return a run with the hits of some queries replaced by those of another run, in its order."""
    source = {place: number for number, place in enumerate(places.tolist())}
    segments = [
        (part, part.segment(source[place])) if place in source else (held, held.segment(place))
        for place in range(len(held))
    ]
    lengths = [where.stop - where.start for _, where in segments]
    return Run(
        held.query_ids,
        np.cumsum([0, *lengths], dtype=np.int64),
        np.concatenate([run.rows[where] for run, where in segments]),
        np.concatenate([run.scores[where] for run, where in segments]),
        part.kind,
        held.corpus,
    )
