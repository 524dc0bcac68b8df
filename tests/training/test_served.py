"""A trained dense model's folder says what it is in the words that servers read."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.training.loop import train
from limbeck.training.objectives.dpr import DPR
from limbeck.training.optimisers import Optimising
from limbeck.training.recipe import BatchSize, Data, Recipe
from limbeck.training.students import DenseStudent

pytestmark = pytest.mark.torch

SHAPES = {
    "mean": ({"pooling": "mean", "normalise": True}, "pooling_mode_mean_tokens"),
    "cls": ({"pooling": "cls"}, "pooling_mode_cls_token"),
    "head": ({"pooling": "cls", "layer_norm": True}, "pooling_mode_cls_token"),
}


def read(file):
    return json.loads(file.read_text())


@pytest.mark.parametrize("shape", SHAPES)
def test_pooling_and_length_are_said_as_servers_read_them(folder, base, tmp_path, shape):
    """By its new words alone, vLLM took [CLS] for the mean without saying so."""
    from sentence_transformers import SentenceTransformer

    given, flag = SHAPES[shape]
    recipe = Recipe(
        objective=DPR(),
        model=DenseStudent(base=str(base), query_tokens=8, document_tokens=20, **given),
        data=Data(dev=None),
        batch=BatchSize(examples=4),
        steps=2,
        optimiser=Optimising(rate=1e-3, warm_up=0),
    )
    model = train(recipe, folder, tmp_path / "out").model
    pooling = read(model / "1_Pooling/config.json")
    on = [name for name, value in pooling.items() if name.startswith("pooling_mode_") and value]
    assert on == [flag]
    assert sum(name.startswith("pooling_mode_") for name in pooling) == 6
    assert read(model / "sentence_bert_config.json")["max_seq_length"] == 20
    kinds = [module["type"] for module in read(model / "modules.json")]
    assert all(kind.startswith("sentence_transformers.models.") for kind in kinds)

    held = SentenceTransformer(str(model), device="cpu")
    texts = ["tell1 noise2 common", "ask3 " * 40]
    tokens = held.tokenizer(
        texts, padding=True, truncation=True, max_length=20, return_tensors="pt"
    )
    with torch.no_grad():
        states = held[0].model(**tokens).last_hidden_state
    there = tokens["attention_mask"][:, :, None]
    wanted = (states * there).sum(1) / there.sum(1) if shape == "mean" else states[:, 0]
    found = torch.from_numpy(held.encode_document(texts))
    if shape == "mean":
        wanted = torch.nn.functional.normalize(wanted, dim=1)
    if shape != "head":
        assert torch.allclose(found, wanted, atol=1e-5)
    assert held.tokenizer.model_max_length == 20
    assert np.isfinite(found.numpy()).all()
