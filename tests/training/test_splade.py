"""A SPLADE student: its weights by hand, that it learns with few terms, and loads elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, UsageError
from limbeck.retrieval.splade import Splade as SpladeNode
from limbeck.training.loop import train
from limbeck.training.losses import flops
from limbeck.training.networks import Computing, SparseNetwork, network
from limbeck.training.objectives.dpr import DPR
from limbeck.training.objectives.splade import DistilSplade, Splade
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe, Watch
from limbeck.training.students import SpladeStudent
from tests.training import world
from tests.training.test_distil import teach

pytestmark = pytest.mark.torch

TEXTS = ["ask1 noise2 common", "tell3"]


@pytest.fixture(scope="module")
def masked(tmp_path_factory) -> Path:
    """A masked language model."""
    return world.masked_bert(tmp_path_factory.mktemp("masked"))


def recipe(masked: Path, **given) -> Recipe:
    usual = {
        "objective": Splade(),
        "model": SpladeStudent(base=str(masked), dropout=0.0),
        "data": Data(dev="dev"),
        "batch": BatchSize(examples=16),
        "steps": 150,
        "optimiser": Optimising(rate=1e-3),
        "watch": Watch(every=150),
        "save_every": 1000,
    }
    return Recipe(**usual | given)


def test_a_weight_is_the_highest_logarithm_over_the_tokens(masked):
    made = SpladeStudent(base=str(masked)).load().eval()
    assert isinstance(network(made, Computing()), SparseNetwork)
    found = made.encode_document(TEXTS, convert_to_sparse_tensor=False)
    tokenizer, model = made.tokenizer, made[0].model
    for text, own in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        wanted = torch.log1p(logits.relu()).max(dim=0).values
        assert (own - wanted).abs().max() < 1e-5


def test_flops_by_hand():
    weights = torch.tensor([[1.0, 0.0, 3.0], [1.0, 2.0, 0.0]])
    assert flops(weights).item() == pytest.approx(1.0**2 + 1.0**2 + 1.5**2)


def test_it_learns_and_its_vectors_become_sparse(folder, masked, tmp_path):
    corpus = Corpus.load(folder)
    n_terms = {}
    for name, weight in (("few", 0.03), ("many", 0.0)):
        objective = Splade(query_weight=weight, document_weight=weight)
        made = train(recipe(masked, objective=objective), folder, tmp_path / name)
        assert made.best_score > 0.3, "by chance it is .1"
        model = SpladeStudent(base=str(made.model)).load()
        texts = [document.contents for document in corpus.documents()]
        found = model.encode_document(texts, convert_to_sparse_tensor=False)
        n_terms[name] = float((found > 0).float().sum(dim=1).mean())
    assert n_terms["few"] < 0.7 * n_terms["many"]
    run = SpladeNode(encoder=str(tmp_path / "few" / "model"), k=5).bind(corpus)(["ask3 common"])
    assert len(run.rows) > 0


def test_it_is_distilled_into(folder, masked, tmp_path):
    teach(folder, tmp_path)
    taught = recipe(
        masked,
        objective=DistilSplade(hard=0.1),
        data=Data(labels=tmp_path / "labels", dev="dev"),
        negatives=Negatives(n=3, depth=15, kept=10),
    )
    assert train(taught, folder, tmp_path / "run").best_score > 0.3, "by chance it is .1"


def test_a_model_without_the_head_is_refused(base, masked):
    with pytest.raises(ArtifactError, match="a SparseEncoder or a masked language model"):
        SpladeStudent(base=str(base)).load()
    with pytest.raises(UsageError, match="dpr must train a model of the kind dense or adapter"):
        recipe(masked, objective=DPR())


def test_a_second_stage_begins_from_the_weights_of_the_first(folder, masked, tmp_path):
    first = train(recipe(masked, steps=3, watch=None), folder, tmp_path / "a").model
    again = SpladeStudent(base=str(first), document_tokens=4).load().eval()
    before = SpladeStudent(base=str(first)).load().eval()
    pair = [each.encode_query(TEXTS, convert_to_sparse_tensor=False) for each in (before, again)]
    np.testing.assert_allclose(*(each.numpy() for each in pair), atol=1e-6)
    assert again.preprocess(["tell1 " * 9], task="document")["input_ids"].shape[1] == 4
