"""A recipe: all that a training run is, as plain parameters. A spec file holds one as `train`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from limbeck.errors import UsageError
from limbeck.pipeline import Node
from limbeck.training.attention import has_kernel
from limbeck.training.mining import Guard, Pick
from limbeck.training.networks import Computing, Precision
from limbeck.training.objective import Objective
from limbeck.training.optimisers import Optimising
from limbeck.training.students import CrossEncoderStudent, Student

__all__ = ["BatchSize", "Data", "LoRA", "Negatives", "Recipe", "Refresh", "Watch"]


_ON_CPU, _ON_GPU = 2048, 16384
"""Tokens of a part: what a cache holds, and what fills a chip."""

_NOT_SHAPING = frozenset(("part_tokens", "compiled", "checkpointed", "save_every", "tracker"))


def _require_1_or_more(**given: int | None) -> None:
    for name, value in given.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} must be 1 or more; got {value}")


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on, of a collection in BEIR layout.

    Attributes:
        split: whose queries and positives.
        dev: the split to watch; or the share of the training queries that is held out for it; None:
            all are trained on.
        passages: documents are cut into passages of so many words, each with its document's title;
            a positive is then the passage of a relevant document that BM25 puts first. None:
            documents are as they are.
        max_passages: of a document; its text behind them is left out; None: all.
        labels: the folder that `limbeck teach` wrote, whose queries are trained on instead of those
            of the split.
    """

    split: str = "train"
    dev: str | float | None = None
    passages: int | None = None
    max_passages: int | None = None
    labels: Path | None = None

    def __post_init__(self) -> None:
        _require_1_or_more(passages=self.passages, max_passages=self.max_passages)
        if self.passages is not None and self.labels is not None:
            raise UsageError("passages must be of documents; labels are of whole ones; drop one")
        if self.max_passages is not None and self.passages is None:
            raise UsageError("max_passages must be of documents that are cut; give passages too")


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """Negatives found anew by the model that is being trained.

    Paper: Xiong et al., ANCE, arXiv 2007.00808, section 4.

    Attributes:
        every: steps between two refreshes.
        depth: negatives are among the first so many hits.
        pick: which of them are kept.
        parts: one part of the queries is refreshed at a time, in turn; the others keep theirs.
        beside: in a second process, by the newest checkpoint, while training goes on; else in step.
    """

    every: int
    depth: int = 200
    pick: Pick = "random"
    parts: int = 1
    beside: bool = False

    def __post_init__(self) -> None:
        _require_1_or_more(every=self.every, depth=self.depth, parts=self.parts)


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """Where the hard negatives of a query come from.

    Attributes:
        of: the pipeline whose hits they are; None: what a teacher labelled besides positives.
        n: of a query in a batch.
        depth: they are among the first so many of its hits, positives not counted.
        pick: which of the candidates that pass the guard are kept, of `kept`.
        kept: candidates of a query; n of them are drawn anew in each epoch.
        guard: leaves out what is likely to be relevant.
        refresh: finds them anew in training.
    """

    of: Node | None = None
    n: int = 1
    depth: int = 100
    pick: Pick = "top"
    kept: int = 30
    guard: Guard | None = None
    refresh: Refresh | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.kept:
            raise UsageError(f"n must lie in [1, kept], which is {self.kept}; got {self.n}")
        if self.depth < self.kept:
            raise UsageError(f"depth must be kept, {self.kept}, or more; got {self.depth}")
        self._check_refresh()

    def _check_refresh(self) -> None:
        if self.refresh is None:
            return
        if self.refresh.depth < self.kept:
            raise UsageError(
                f"refresh.depth must be kept, {self.kept}, or more; got {self.refresh.depth}"
            )
        if self.guard and self.guard.goes_by_units:
            raise UsageError(
                "a guard beside a refresh must be a relative margin, or have a scorer: scores of "
                "the model are not those of the pipeline; got absolute or above; change the guard"
            )


@dataclass(frozen=True, kw_only=True)
class BatchSize:
    """How much a step looks at: give one of the two.

    Attributes:
        examples: queries with their passages.
        tokens: of queries and passages together, about: passages count as an example's positives
            and first candidates are on average, so that the order does not hang on what is drawn.
        accumulated: batches whose gradients are averaged to one step. The negatives of one are not
            those of another.
        cached: batches are computed in parts, which needs the memory of one part, and a third more
            time.
    """

    examples: int | None = None
    tokens: int | None = None
    accumulated: int = 1
    cached: bool = False

    def __post_init__(self) -> None:
        if (self.examples is None) == (self.tokens is None):
            raise UsageError("a batch must be so many examples or so many tokens; give one of them")
        _require_1_or_more(examples=self.examples, tokens=self.tokens, accumulated=self.accumulated)


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank matrices are trained beside weights that stay; they are added to them in the end.

    Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.

    Attributes:
        rank: of the matrices.
        alpha: their product is scaled by alpha / rank.
        dropout: of what they read.
        modules: names of the linear maps that get some; empty: all of the transformer's.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_1_or_more(rank=self.rank, alpha=self.alpha)
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"dropout of lora must lie in [0, 1); got {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """How a model is measured while it is trained: nDCG@10 on the dev split, the best one kept.

    Attributes:
        every: steps between two looks; there is one before the first step, and after the last.
        queries: of the dev split at most, drawn once; None: all.
        pool: what is searched: all that is judged, and the first so many hits of the pipeline of
            the negatives, of all these queries together; None: the whole corpus. A cross-encoder
            reranks these hits of each query.
        patience: looks without a better one after which training ends; None: it goes on.
    """

    every: int
    queries: int | None = None
    pool: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        _require_1_or_more(
            every=self.every, queries=self.queries, pool=self.pool, patience=self.patience
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run.

    Attributes:
        objective: the method.
        model: what is trained.
        data: on what.
        negatives: hard ones; None: the method does without.
        batch: of a step.
        steps: of the whole run; or give epochs.
        epochs: over the training queries.
        optimiser: how the weights move.
        precision: of the computation; weights and optimiser states are float32 in any case.
        part_tokens: tokens that are computed together; None: 2,048 on a CPU, 16,384 on a GPU.
        packed: texts lie one behind the other, without padding; false: they are padded.
            So they are in any case where a model cannot have it, for a compiled model, and on a GPU
            in fp32 or of compute capability below 8, which has no kernel for it.
        compiled: the model is compiled by torch for few shapes.
        checkpointed: activations are computed again instead of kept, which needs less memory.
        lora: trains few weights instead of all.
        watch: how the model is measured meanwhile.
        save_every: steps between two checkpoints.
        tracker: where scores are sent beside the log.
        seed: of everything that is drawn.
    """

    objective: Objective
    model: Student
    data: Data = field(default_factory=Data)
    negatives: Negatives | None = None
    batch: BatchSize = field(default_factory=lambda: BatchSize(examples=32))
    steps: int | None = None
    epochs: int | None = None
    optimiser: Optimising = field(default_factory=Optimising)
    precision: Precision = "fp32"
    part_tokens: int | None = None
    packed: bool = True
    compiled: bool = False
    checkpointed: bool = False
    lora: LoRA | None = None
    watch: Watch | None = None
    save_every: int = 500
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("a run must have so many steps or so many epochs; give one of them")
        _require_1_or_more(
            steps=self.steps,
            epochs=self.epochs,
            save_every=self.save_every,
            part_tokens=self.part_tokens,
        )
        self.objective.check_student(self.model)
        if self.negatives is None and self.objective.needs_negatives:
            raise UsageError(f"{self.objective.name} must have hard negatives; add negatives")
        self._check_watch()
        self._check_refresh()
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more; got {self.seed}")
        if self.steps is not None:
            self.optimiser.warm_up_steps(self.steps)

    def _check_watch(self) -> None:
        if self.watch is None:
            return
        if self.data.dev is None:
            raise UsageError("a watch must have dev queries; name a split or a share as data.dev")
        if self.watch.pool and (self.negatives is None or self.negatives.of is None):
            raise UsageError("a watch over a pool must have negatives, whose pipeline fills it")
        if self.watch.pool is None and self.model.name == CrossEncoderStudent.name:
            raise UsageError(
                "a cross-encoder must be watched over a pool, which it reranks; give one"
            )

    def _check_refresh(self) -> None:
        refresh = None if self.negatives is None else self.negatives.refresh
        if refresh is None:
            return
        if self.model.name == CrossEncoderStudent.name:
            raise UsageError("a refresh must search with the model; a cross-encoder has no index")
        if refresh.beside and refresh.every < self.save_every:
            raise UsageError(
                f"a refresh beside must go by checkpoints, every {self.save_every} steps or more; "
                f"got every {refresh.every}; raise it, or lower save_every"
            )

    def shaping(self) -> dict[str, Any]:
        """Return the parameters that shape the model, by name.

        How it is computed, how often it is kept, and where its numbers go may change from one
        attempt to the next; from there on numbers differ by rounding, and by what dropout draws.
        Of labels it matters what they say, not where they lie.
        """
        held = {each.name: getattr(self, each.name) for each in fields(self)}
        shaping = {name: value for name, value in held.items() if name not in _NOT_SHAPING}
        return shaping | {
            "batch": replace(self.batch, cached=False),
            "data": replace(self.data, labels=None),
        }

    def computing(self, device: str) -> Computing:
        """Return how the model is computed on a kind of device."""
        is_cpu = device == "cpu"
        can_pack = not self.compiled and (is_cpu or has_kernel(self.precision))
        packed = can_pack and self.packed
        part_tokens = self.part_tokens or (_ON_CPU if is_cpu else _ON_GPU)
        return Computing(self.precision, part_tokens, packed, self.compiled)
