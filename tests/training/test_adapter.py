"""An adapter: only queries are turned, the index stays, and it learns what its teacher knows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.errors import ArtifactError, UsageError
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.encoders.conventions import Settings
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.training.loop import train
from limbeck.training.objectives.distil import Distil
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Recipe, Watch
from limbeck.training.students import AdapterStudent, DenseStudent
from tests.training.test_distil import recipe as distilling
from tests.training.test_distil import teach

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, base) -> Path:
    """A dense encoder that knows nothing of the tiny world."""
    place = tmp_path_factory.mktemp("adapted") / "encoder"
    model = DenseStudent(base=str(base), normalise=True).load()
    model.save_pretrained(str(place), create_model_card=False)
    return place


def recipe(encoder: Path, **given) -> Recipe:
    usual = {
        "objective": DPR(tau=0.1),
        "model": AdapterStudent(base=str(encoder)),
        "data": Data(dev="dev"),
        "batch": BatchSize(examples=24),
        "steps": 400,
        "optimiser": Optimising(rate=3e-2),
        "watch": Watch(every=400),
        "save_every": 400,
    }
    return Recipe(**usual | given)


def test_it_learns_and_the_index_of_the_encoder_is_used_as_it_is(folder, encoder, tmp_path):
    corpus = Corpus.load(folder)
    before = Dense(encoder=str(encoder), k=5).bind(corpus)
    made = train(recipe(encoder), folder, tmp_path / "run")
    assert made.best_score > 0.3, "the encoder has .1; a matrix can do so much"
    after = Dense(encoder=str(made.model), k=5).bind(corpus)
    rows = np.arange(len(corpus))
    np.testing.assert_array_equal(after.vectors(rows), before.vectors(rows))
    inside, turned = (open_encoder(Settings(str(place))) for place in (encoder, made.model))
    assert turned.document_fingerprint == inside.document_fingerprint
    assert turned.fingerprint != inside.fingerprint
    assert after.fingerprint != before.fingerprint
    matrix = np.load(made.model / "matrix.npy")
    asked = ["ask3 common", "ask5"]
    np.testing.assert_allclose(
        turned.encode_queries(asked), inside.encode_queries(asked) @ matrix, atol=1e-6
    )
    assert "as the encoder of `dense`" in (made.model / "README.md").read_text()


def test_low_rank_begins_where_nothing_changes_and_stays_of_low_rank(folder, encoder, tmp_path):
    student = AdapterStudent(base=str(encoder), rank=2)
    assert student.load().change.abs().max() == 0.0
    made = train(recipe(encoder, model=student, steps=20, watch=None), folder, tmp_path / "run")
    change = np.load(made.model / "matrix.npy") - np.eye(32)
    singular = np.linalg.svd(change, compute_uv=False)
    assert singular[1] > 1e-3
    assert singular[2] < 1e-5


def test_it_is_distilled_into(folder, encoder, tmp_path):
    teach(folder, tmp_path)
    fast = {"optimiser": Optimising(rate=3e-2), "steps": 400, "watch": Watch(every=400)}
    student = AdapterStudent(base=str(encoder))
    given = distilling(encoder, tmp_path, Distil(tau=0.1), model=student, **fast)
    assert train(given, folder, tmp_path / "run").best_score > 0.25


def test_a_folder_that_is_moved_with_its_encoder_still_names_it(folder, encoder, tmp_path):
    shutil.copytree(encoder, tmp_path / "a" / "encoder")
    given = recipe(tmp_path / "a" / "encoder", steps=2, watch=None, optimiser=Optimising(warm_up=0))
    made = train(given, folder, tmp_path / "a" / "run").model
    told = json.loads((made / "adapter.json").read_text())
    assert told["encoder"] == "../../encoder"
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = open_encoder(Settings(str(tmp_path / "b" / "run" / "model")))
    assert moved.encode_queries(["ask1"]).shape == (1, 32)


def test_an_adapter_of_another_encoder_is_refused(folder, encoder, base, tmp_path):
    shutil.copytree(encoder, tmp_path / "encoder")
    given = recipe(tmp_path / "encoder", steps=2, watch=None, optimiser=Optimising(warm_up=0))
    made = train(given, folder, tmp_path / "run").model
    shutil.rmtree(tmp_path / "encoder")
    other = DenseStudent(base=str(base), pooling="cls", normalise=True).load()
    other.save_pretrained(str(tmp_path / "encoder"), create_model_card=False)
    with pytest.raises(ArtifactError, match="with the encoder that it was trained for"):
        open_encoder(Settings(str(made)))
    (made / "adapter.json").write_text("{}")
    with pytest.raises(ArtifactError, match="must name the encoder that the adapter is for"):
        open_encoder(Settings(str(made)))


def test_a_rank_below_1_is_refused(encoder):
    with pytest.raises(UsageError, match="rank of an adapter must be 1 or more"):
        AdapterStudent(base=str(encoder), rank=0)
