"""Distillation: the two terms by hand, what takes no part in them, and that a student learns."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.errors import UsageError
from limbeck.meter import Usage
from limbeck.retrieval.bm25 import BM25
from limbeck.training import loop
from limbeck.training.asking import asked
from limbeck.training.batches import Batch
from limbeck.training.dark import Dark
from limbeck.training.examples import Examples
from limbeck.training.extended import Extended
from limbeck.training.labels import Labels, Origin
from limbeck.training.lesson import Lesson
from limbeck.training.loop import train
from limbeck.training.networks import Vectors
from limbeck.training.objectives.adam import Adam, Pace
from limbeck.training.objectives.distil import Distil
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe, Refresh, Watch
from limbeck.training.refreshing import _bare
from limbeck.training.students import ColBERTStudent, DenseStudent
from limbeck.training.teaching import taught
from limbeck.types import Document, Query, Run
from tests.training import world
from tests.training.test_teaching import lesson

pytestmark = pytest.mark.torch

CORPUS = Corpus.from_documents({"_id": f"d{i}", "text": f"text {i}"} for i in range(8))
DARK = Document("dark-q0", "dark", "", {"kind": "noisy", "of": ["d0"], "share": 0.5})

# Of q0 rows 0 (its positive), 5 and 8 (dark), of q1 rows 1 (its positive) and 6; q2's row 7 is
# unknown, so that it has one label alone.
KNOWN = {"q0": {0: 4.0, 5: 1.0, 8: 2.0}, "q1": {1: 0.5, 6: 0.0}, "q2": {2: 3.0}}
PASSAGES = np.array([[0, 5], [1, 6], [2, 7]])


def labels(kind: str = "logit", known=KNOWN, dark: tuple[Document, ...] = (DARK,)) -> Labels:
    texts = Extended(CORPUS, dark)
    hits = {
        name: [(texts.doc_ids[row], score) for row, score in scores.items() if row < len(texts)]
        for name, scores in known.items()
    }
    run = Run.from_hits(hits, kind=kind, corpus=texts)
    positives = tuple(np.array([place], dtype=np.int64) for place in range(3))
    queries = tuple(Query(name, name) for name in known)
    return Labels(queries, ("split",) * 3, positives, run, Origin("t", "f", usage=Usage()), "")


def begun(objective, held: Labels | None = None, n_steps: int = 10):
    held = held or labels()
    examples = Examples(CORPUS, held.queries, held.positives, labels=held)
    objective.begin(examples, [batch()], n_steps)
    return objective


def batch() -> Batch:
    return Batch(np.arange(3), PASSAGES, [np.array([row]) for row in range(3)])


def vectors(objective) -> dict[str, Vectors]:
    rng = np.random.default_rng(0)
    return {
        name: Vectors(
            torch.tensor(
                rng.normal(size=(len(view.rows), 4)), dtype=torch.float64, requires_grad=True
            )
        )
        for name, view in objective.views(batch()).items()
    }


def scores_of(made: dict[str, Vectors]) -> np.ndarray:
    """Return the scores of queries 0 to 2 with rows 0, 1, 2, 5, 6, 7."""
    return (made["queries"].values @ made["passages"].values.T).detach().numpy()


def log_softmax(values) -> np.ndarray:
    values = np.array(values, dtype=float)
    return values - values.max() - np.log(np.exp(values - values.max()).sum())


def kl(teacher, student) -> float:
    wanted, told = log_softmax(teacher), log_softmax(student)
    return float((np.exp(wanted) * (wanted - told)).sum())


def hard(scores: np.ndarray, tau: float) -> float:
    return float(np.mean([-log_softmax(row / tau)[i] for i, row in enumerate(scores)]))


def test_both_terms_by_hand():
    """Each query is weighed with what the teacher knows of it: q2 has one label, and no part."""
    objective = begun(Distil(tau=0.5, teacher_tau=2.0, soft=3.0, hard=0.25))
    made = vectors(objective)
    s = scores_of(made)
    own = [([4.0, 1.0], s[0, [0, 3]]), ([0.5, 0.0], s[1, [1, 4]])]
    soft = sum(kl(np.array(told) / 2.0, scores / 0.5) for told, scores in own) / 3
    loss = objective.loss(batch(), made)
    assert loss.item() == pytest.approx(3.0 * soft + 0.25 * hard(s, 0.5), rel=1e-9)
    loss.backward()
    gradient = made["passages"].values.grad
    assert torch.isfinite(gradient).all()
    assert gradient[5].abs().sum() > 0, "as a negative of others q2's second passage is moved"


def test_what_the_teacher_knows_nothing_of_is_not_pulled():
    objective = begun(Distil(tau=0.5, teacher_tau=2.0, hard=0.0))
    made = vectors(objective)
    objective.loss(batch(), made).backward()
    assert made["passages"].values.grad[[2, 5]].abs().sum() == 0.0
    assert made["queries"].values.grad[2].abs().sum() == 0.0


@pytest.mark.parametrize("by", ["margin-mse", "rank-net", "list-net"])
def test_the_other_losses_by_hand(by):
    objective = begun(Distil(by=by, hard=0.0))
    made = vectors(objective)
    s = scores_of(made)
    (a, b), (c, d) = s[0, [0, 3]], s[1, [1, 4]]
    tau = objective.found.get("teacher_tau", 1.0)
    wanted = {
        "margin-mse": ((a - b - 3.0) ** 2 + (c - d - 0.5) ** 2) / 2 * 2 / 3,
        "rank-net": (np.log1p(np.exp(b - a)) + np.log1p(np.exp(d - c))) / 3,
        "list-net": -sum(
            float((np.exp(log_softmax(np.array(told) / tau)) * log_softmax(own)).sum())
            for told, own in (([4.0, 1.0], [a, b]), ([0.5, 0.0], [c, d]))
        )
        / 3,
    }[by]
    assert objective.loss(batch(), made).item() == pytest.approx(wanted, rel=1e-9)


def test_the_temperature_is_fitted_to_the_lists_that_are_trained_on():
    objective = begun(Distil(entropy=0.7))
    tau = objective.found["teacher_tau"]
    shares = [np.exp(log_softmax(np.array(told) / tau)) for told in ([4.0, 1.0], [0.5, 0.0])]
    found = np.mean([-(share * np.log(share)).sum() / np.log(2) for share in shares])
    assert found == pytest.approx(0.7, abs=1e-6)


def test_probabilities_are_taken_as_logits():
    """With scores in [0, 1] and a loss of logits, sentence-transformers learned little (#3540)."""
    sure = {"q0": {0: 0.9, 5: 0.1}, "q1": {1: 0.5, 6: 0.5}, "q2": {2: 0.8}}
    objective = begun(Distil(by="margin-mse", hard=0.0), labels("probability", sure, ()))
    made = vectors(objective)
    s = scores_of(made)
    wanted = ((s[0, 0] - s[0, 3] - 2 * np.log(9)) ** 2 + (s[1, 1] - s[1, 4]) ** 2) / 3
    assert objective.loss(batch(), made).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("objective", "kind", "why"),
    [
        (Distil(by="margin-mse"), "normalised", "on the scale of the student"),
        (Distil(by="margin-mse"), "rank", "are an order; take rank-net"),
        (Adam(), "logit", "the labels hold none; teach with `dark`"),
    ],
)
def test_labels_that_a_loss_cannot_take_are_refused(objective, kind, why):
    with pytest.raises(UsageError, match=why):
        begun(objective, labels(kind, dark=()))


def test_a_scale_makes_margins_of_fused_scores_fit():
    fused = {"q0": {0: 0.9, 5: 0.5}, "q1": {1: 0.5, 6: 0.4}, "q2": {2: 0.8}}
    objective = begun(
        Distil(by="margin-mse", hard=0.0, scale=10.0), labels("normalised", fused, ())
    )
    made = vectors(objective)
    s = scores_of(made)
    wanted = ((s[0, 0] - s[0, 3] - 4.0) ** 2 + (s[1, 1] - s[1, 4] - 1.0) ** 2) / 3
    assert objective.loss(batch(), made).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"by": "mse"}, "by must be one of kl, margin-mse"),
        ({"soft": 0.0}, "soft must be above 0"),
        ({"entropy": 1.0}, r"entropy must lie in \(0, 1\)"),
        ({"by": "rank-net", "teacher_tau": 1.0}, "teacher_tau belongs to kl"),
        ({"scale": 2.0}, "scale belongs to margin-mse"),
        ({"hard": -1.0}, "hard must be 0 or more"),
        ({"tau": 0.0}, "tau must be above 0"),
    ],
)
def test_parameters_out_of_range_are_refused(given, why):
    with pytest.raises(UsageError, match=why):
        Distil(**given)


def test_without_labels_there_is_nothing_to_distil():
    held = labels()
    examples = Examples(CORPUS, held.queries, held.positives)
    with pytest.raises(UsageError, match=r"name their folder as data\.labels"):
        Distil().begin(examples, [batch()], 10)


# ADAM.


def test_dark_examples_stand_in_the_teachers_term_alone():
    objective = begun(Adam(tau=0.5, teacher_tau=2.0, pace=None))
    made = vectors(objective)
    assert objective.views(batch())["dark"].rows.tolist() == [8]
    s = scores_of(made)
    dark = float((made["queries"].values[0] @ made["dark"].values[0]).detach())
    own = [
        ([4.0, 1.0, 2.0], [*s[0, [0, 3]], dark]),
        ([0.5, 0.0], s[1, [1, 4]]),
    ]
    soft = sum(kl(np.array(told) / 2.0, np.array(scores) / 0.5) for told, scores in own) / 3
    loss = objective.loss(batch(), made)
    assert loss.item() == pytest.approx(soft + hard(s, 0.5), rel=1e-9)
    hard_alone = dataclasses.replace(objective, hard=0.0)
    begun(hard_alone)
    assert hard_alone.loss(batch(), made).item() == pytest.approx(soft, rel=1e-9)


def test_the_teacher_is_sure_by_the_first_candidates_alone():
    """With dark examples it would be less sure of every positive."""
    objective = begun(Adam(teacher_tau=1.0))
    found = objective._sure
    assert found[0] == pytest.approx(np.exp(4) / (np.exp(4) + np.exp(1)))
    assert found[1] == pytest.approx(np.exp(0.5) / (np.exp(0.5) + 1))
    assert np.isnan(found[2]), "of one passage nothing can be said"
    margin = begun(Adam(teacher_tau=1.0, pace=Pace(confidence="margin")))
    assert margin._sure[:2].tolist() == [3.0, 0.5]
    entropy = begun(Adam(teacher_tau=1.0, pace=Pace(confidence="entropy")))
    p = found[0]
    by_hand = 1 + (p * np.log(p) + (1 - p) * np.log(1 - p)) / np.log(2)
    assert entropy._sure[0] == pytest.approx(by_hand)


SURE = np.array([0.1, 0.9, 0.5, np.nan, 0.3])


@pytest.mark.parametrize(
    ("pace", "shares"),
    [
        (Pace(direction="grow", share=0.4), (0.4, 0.7, 1.0)),
        (Pace(direction="shrink", share=0.4), (1.0, 0.7, 0.4)),
        (Pace(direction="fixed", share=0.4), (0.4, 0.4, 0.4)),
    ],
)
def test_the_share_that_is_distilled_goes_by_the_pace(pace, shares):
    for done, share in zip((0.0, 0.5, 1.0), shares, strict=True):
        assert pace.share_at(done) == pytest.approx(share)
        weights = pace.weights(SURE, done)
        assert weights[3] == 1.0
        threshold = np.quantile(SURE[~np.isnan(SURE)], 1 - share)
        wanted = SURE[[0, 1, 2, 4]] >= threshold
        assert weights[[0, 1, 2, 4]].tolist() == wanted.astype(float).tolist()


def test_a_soft_pace_counts_the_surer_ones_more():
    weights = Pace(direction="fixed", share=0.75, weighted=True).weights(SURE, 0.0)
    threshold = np.quantile([0.1, 0.9, 0.5, 0.3], 0.25)
    wanted = np.clip((SURE - threshold) / (0.9 - threshold), 0, 1)
    np.testing.assert_allclose(weights, np.nan_to_num(wanted, nan=1.0), rtol=1e-6)


def test_a_query_that_is_not_distilled_yet_moves_nothing():
    objective = begun(Adam(tau=0.5, teacher_tau=1.0, hard=0.0, pace=Pace(share=0.5)))
    made = vectors(objective)
    objective.loss(batch(), made).backward()
    assert made["queries"].values.grad[1].abs().sum() == 0.0, "the teacher is less sure of q1"
    assert made["queries"].values.grad[0].abs().sum() > 0.0
    objective.after_step(9)
    again = vectors(objective)
    objective.loss(batch(), again).backward()
    assert again["queries"].values.grad[1].abs().sum() > 0.0
    assert objective.state()["done"] == 1.0
    other = begun(Adam(pace=Pace(share=0.5)))
    other.load_state(objective.state())
    assert other.weights(batch()).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"share": 0.0}, "share of a pace"),
        ({"direction": "up"}, "direction of a pace must be one of grow"),
        ({"confidence": "guess"}, "confidence of a pace must be one of probability"),
    ],
)
def test_a_pace_out_of_range_is_refused(given, why):
    with pytest.raises(UsageError, match=why):
        Pace(**given)


# A whole run.


def teach(folder, out, **given) -> Lesson:
    corpus = Corpus.load(folder)
    of = lesson(depth=20, **given)
    return taught(of, asked(of, folder, corpus), corpus, out)


def recipe(base, out, objective, **given) -> Recipe:
    usual = {
        "objective": objective,
        "model": DenseStudent(base=str(base), normalise=True, dropout=0.0),
        "data": Data(labels=out / "labels", dev="dev"),
        "negatives": Negatives(n=3, depth=15, kept=10),
        "batch": BatchSize(examples=16),
        "steps": 200,
        "optimiser": Optimising(rate=5e-3, warm_up=5),
        "watch": Watch(every=200),
        "save_every": 1000,
    }
    return Recipe(**usual | given)


@pytest.mark.parametrize(
    "objective",
    [
        Distil(tau=0.1, hard=0.0),
        Distil(tau=0.1, by="rank-net"),
        Adam(tau=0.1, hard=0.0, pace=Pace(share=0.5)),
    ],
    ids=["kl alone", "ranks", "adam"],
)
def test_a_student_learns_what_its_teacher_knows(folder, base, tmp_path, objective):
    teach(folder, tmp_path, dark=Dark())
    made = train(recipe(base, tmp_path, objective), folder, tmp_path / "run")
    assert made.best_score > 0.3, "by chance it is .1"


def test_a_run_that_was_stopped_goes_on_bit_for_bit(folder, base, tmp_path, monkeypatch):
    """The pace too: how much of the run is done is part of a checkpoint."""
    teach(folder, tmp_path, dark=Dark())
    given = {"steps": 6, "watch": None, "save_every": 3, "optimiser": Optimising(rate=1e-3)}
    halted = recipe(base, tmp_path, Adam(tau=0.1), **given)
    whole = train(recipe(base, tmp_path, Adam(tau=0.1), **given), folder, tmp_path / "whole")
    real, n_steps = loop._gradient, 0

    def gradient(job, batch):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 5:
            raise KeyboardInterrupt
        return real(job, batch)

    monkeypatch.setattr(loop, "_gradient", gradient)
    with pytest.raises(KeyboardInterrupt):
        train(halted, folder, tmp_path / "cut")
    cut = train(recipe(base, tmp_path, Adam(tau=0.1), **given), folder, tmp_path / "cut")
    files = [(run.model / "model.safetensors").read_bytes() for run in (whole, cut)]
    assert files[0] == files[1]


def test_a_share_of_what_people_judged_is_held_out(folder, tmp_path):
    held = teach(folder, tmp_path)
    examples = Examples.taught(held, folder, dev=0.25, seed=3)
    watched = {query.query_id for query in examples.dev.queries}
    assert len(watched) == round(0.25 * len(held))
    assert watched.isdisjoint(query.query_id for query in examples.queries)
    assert [query.query_id for query in examples.queries] == list(examples.labels.run.query_ids)
    for query in examples.dev.queries:
        place = held.run.query_ids.index(query.query_id)
        ids = {held.texts.doc_ids[row] for row in held.positives[place].tolist()}
        assert set(examples.dev.qrels.judgements[query.query_id]) == ids


def test_vectors_are_drawn_to_those_of_a_larger_encoder(folder, base, tmp_path):
    """Of 32 dimensions the larger one's 32 best are wanted, by hand from its own vectors."""
    import transformers

    from limbeck.retrieval.encoders.conventions import Settings
    from limbeck.retrieval.encoders.opening import open_encoder
    from limbeck.training.objectives.align import Alignment

    teach(folder, tmp_path)
    large = DenseStudent(base=str(world.bare("Bert", tmp_path / "large", hidden_size=64)))
    large.load().save_pretrained(str(tmp_path / "encoder"), create_model_card=False)
    held = Labels.load(tmp_path / "labels", Corpus.load(folder))
    examples = Examples.taught(held, folder)
    alignment = Alignment(str(tmp_path / "encoder"), examples)
    rows = np.array([[3, 5], [7, 9]])
    given = Batch(np.array([1, 4]), rows, [rows[0], rows[1]])
    encoder = open_encoder(Settings(str(tmp_path / "encoder")))
    documents = encoder.encode_documents(list(examples.corpus.documents()))
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    queries = encoder.encode_queries([query.text for query in examples.queries])[given.queries]
    *_, best = np.linalg.svd(documents, full_matrices=False)
    rng = np.random.default_rng(0)
    own = [rng.normal(size=(n, 32)).astype(np.float32) for n in (2, 4)]
    loss = alignment.loss(given, *(Vectors(torch.from_numpy(each)) for each in own))
    wanted = 0.0
    for found, like in zip(own, (queries, documents[given.rows]), strict=True):
        seen = like @ best[:32].T @ best[:32]
        assert np.linalg.norm(seen) > 0.9 * np.linalg.norm(like)
        mapped = like @ alignment._map
        cosines = (found * mapped).sum(axis=1)
        cosines /= np.linalg.norm(found, axis=1) * np.linalg.norm(mapped, axis=1)
        wanted += (1 - cosines).mean() / 2
        np.testing.assert_allclose(mapped @ mapped.T, seen @ seen.T, atol=1e-3)
    assert loss.item() == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(UsageError, match="as many dimensions as the student, 80, or more"):
        Alignment(str(tmp_path / "encoder"), examples).loss(
            given, *(Vectors(torch.zeros(n, 80)) for n in (2, 4))
        )
    aligned = Distil(tau=0.1, align_to=str(tmp_path / "encoder"))
    given = {"steps": 2, "watch": None, "optimiser": Optimising(rate=1e-3)}
    made = train(recipe(base, tmp_path, aligned, **given), folder, tmp_path / "run")
    assert transformers.AutoConfig.from_pretrained(made.model).hidden_size == 32


def test_margins_that_cosines_cannot_have_are_refused():
    """sentence-transformers trains on them without a word; cosines differ by 2 at most."""
    far = {"q0": {0: 9.0, 5: -9.0}, "q1": {1: 8.0, 6: -8.0}, "q2": {2: 0.8}}
    for given, is_refused in (({}, True), ({"tau": 0.05}, False), ({"scale": 0.1}, False)):
        objective = begun(Distil(by="margin-mse", hard=0.0, **given), labels("logit", far, ()))
        made = {
            name: held._replace(values=torch.nn.functional.normalize(held.values, dim=-1))
            for name, held in vectors(objective).items()
        }
        if is_refused:
            with pytest.raises(UsageError, match="differ by 2 at most; give scale"):
                objective.loss(batch(), made)
        else:
            assert objective.loss(batch(), made).item() > 0


@pytest.mark.parametrize("kind", ["bm25", "rrf", "maxsim", "cosine", "normalised", "unknown"])
def test_margins_on_a_scale_of_their_own_need_a_scale(kind):
    with pytest.raises(UsageError, match="are on one of their own; give scale"):
        begun(Distil(by="margin-mse"), labels(kind, dark=()))


def test_a_run_begins_at_its_beginning_each_time():
    """The second run of one objective took its first step at the pace of the last."""
    objective = begun(Adam(teacher_tau=1.0))
    objective.after_step(9)
    assert objective.done > 0
    assert begun(objective).done == 0.0


def test_what_is_drawn_to_one_vector_is_no_colbert():
    with pytest.raises(UsageError, match="a ColBERT has many"):
        Recipe(
            objective=Distil(align_to="minilm"),
            model=ColBERTStudent(base="minilm"),
            negatives=Negatives(of=BM25()),
            steps=1,
        )


def test_a_recipe_that_began_can_be_sent_to_another_process():
    """Labels hold the corpus, which is mapped: it could not be sent, and the run ended."""
    objective = begun(Distil(teacher_tau=1.0))
    recipe = Recipe(
        objective=objective,
        model=DenseStudent(base="minilm"),
        negatives=Negatives(of=BM25(), refresh=Refresh(every=500, beside=True)),
        steps=1000,
    )
    sent = pickle.loads(pickle.dumps(_bare(recipe)))
    assert sent.objective == objective
    assert sent.negatives.refresh == recipe.negatives.refresh
