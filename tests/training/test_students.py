"""What a student begins from: a trained model whole, or a transformer and the paper's words."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import transformers

from limbeck.errors import ArtifactError, UsageError
from limbeck.progress import listening
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.encoders.conventions import Settings, convention, write_own
from limbeck.retrieval.encoders.folders import ModelFolder
from limbeck.retrieval.encoders.opening import open_encoder
from limbeck.spec.spec import Spec
from limbeck.training.finishing import Trained
from limbeck.training.loop import train
from limbeck.training.networks import Computing
from limbeck.training.objectives.ance import ANCE
from limbeck.training.objectives.colbert import ColBERT
from limbeck.training.objectives.cross_encoder import CrossEncoder
from limbeck.training.objectives.dpr import DPR
from limbeck.training.objectives.tct_colbert import TCTColBERT
from limbeck.training.optimisers import Optimising
from limbeck.training.preparing import student_of
from limbeck.training.recipe import BatchSize, Data, Negatives, Recipe
from limbeck.training.students import ColBERTStudent, CrossEncoderStudent, DenseStudent
from tests.training import world

pytestmark = pytest.mark.torch

TEXTS = ["noise1 tell2 , noise3 common .", "ask4 noise5", "tell6"]
OURS = Path(str(files("limbeck.training"))) / "recipes"
NO_STEP = Optimising(rate=1e-30, warm_up=0)
"""A run that leaves every weight as it was."""


def run(student, folder, out, objective, *, optimiser=None, **given) -> Trained:
    recipe = Recipe(
        objective=objective,
        model=student,
        data=Data(dev=None),
        negatives=Negatives(of=BM25(k=60), depth=40, kept=30, **given.pop("negatives", {})),
        batch=BatchSize(examples=8),
        steps=4,
        optimiser=optimiser or Optimising(rate=1e-2, warm_up=0),
        **given,
    )
    return train(recipe, folder, out)


def vectors(model) -> list[np.ndarray]:
    """Return the vectors of queries and of documents."""
    model.eval()
    return [
        np.concatenate([np.atleast_2d(each) for each in encode(TEXTS, convert_to_numpy=True)])
        for encode in (model.encode_query, model.encode_document)
    ]


def assert_same(a, b):
    for own, other in zip(vectors(a), vectors(b), strict=True):
        assert own.shape == other.shape
        assert np.abs(own - other).max() < 1e-6


def saved(student, place: Path) -> Path:
    """Return the folder of a student with weights that no other has."""
    model = student.load()
    torch.manual_seed(5)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights) * 0.05)
    model.save_pretrained(str(place), create_model_card=False)
    return place


AS_ANCE = {"pooling": "cls", "layer_norm": True, "query_tokens": 12, "title_separator": " </s> "}
AS_TCT = {
    "pooling": "mean",
    "masks": True,
    "query_tokens": 12,
    "document_tokens": 30,
    "query_prefix": "[Q]",
    "document_prefix": "[D]",
}
KINDS = {
    "ance": (DenseStudent, AS_ANCE, ANCE()),
    "two towers": (DenseStudent, {"towers": "two", "pooling": "cls"}, DPR()),
    "tct": (DenseStudent, AS_TCT, DPR()),
    "colbert": (
        ColBERTStudent,
        {"dim": 8, "query_tokens": 10, "document_tokens": 30, "attend": True},
        ColBERT(),
    ),
    "colbert without masks": (
        ColBERTStudent,
        {"dim": 8, "query_tokens": 10, "document_tokens": 30, "masks": False},
        ColBERT(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("again", ["told again", "not told"])
def test_a_second_stage_begins_from_the_vectors_of_the_first(folder, base, tmp_path, kind, again):
    cls, shape, objective = KINDS[kind]
    warm = run(cls(base=str(base), **shape), folder, tmp_path / "warm", objective).model
    student = cls(base=str(warm), **shape if again == "told again" else {})
    assert_same(student.load(), cls(base=str(warm)).load())
    second = run(student, folder, tmp_path / "second", objective, optimiser=NO_STEP).model
    wanted, found = (vectors(cls(base=str(place)).load()) for place in (warm, second))
    for own, other in zip(wanted, found, strict=True):
        assert np.abs(own - other).max() < 1e-6
    bare = vectors(cls(base=str(base), **shape).load())
    assert np.abs(bare[0] - wanted[0]).max() > 1e-2, "the first stage trained it"
    assert student.between == shape.get("title_separator", " ")


def test_ances_recipe_goes_from_its_warm_up_to_its_own_negatives(folder, base, tmp_path):
    """As the recipes' first lines say: its head, its weights, and then it trains them."""
    own = ["model.dense.query_tokens=12", "model.dense.document_tokens=64", "watch=null"]
    own += ["batch.examples=8", "data.dev=null", "precision=fp32", "negatives.kept=4"]
    own += ["steps=4", "optimiser.warm_up=0", "negatives.depth=40"]
    warming = [f"model.dense.base={base}", "optimiser.rate=2e-3"]
    first = Spec.load(OURS / "ance-warm-up.yaml", [*warming, *own])
    warm = train(first.recipe, folder, tmp_path / "warm").model
    refreshed = ["negatives.refresh.beside=false", "negatives.refresh.every=2"]
    refreshed += ["negatives.refresh.parts=1", "negatives.refresh.depth=40"]
    recipe = Spec.load(OURS / "ance.yaml", [f"model.dense.base={warm}", *refreshed, *own]).recipe
    before = vectors(DenseStudent(base=str(warm)).load())[0]
    assert np.abs(vectors(student_of(recipe).model)[0] - before).max() < 1e-6
    after = vectors(DenseStudent(base=str(train(recipe, folder, tmp_path / "out").model)).load())[0]
    assert 0 < np.abs(after - before).max() < 1e-2, "at a rate of 1e-6"


def test_a_cross_encoder_goes_on_with_its_head_and_its_length(folder, base, tmp_path):
    """Its length of 20 was less than the student's own 256, and it was refused."""
    shorter = CrossEncoderStudent(base=str(base), max_tokens=20)
    first = run(shorter, folder, tmp_path / "a", CrossEncoder()).model
    assert CrossEncoderStudent(base=str(first)).load().max_seq_length == 20
    assert CrossEncoderStudent(base=str(first), max_tokens=40).load().max_seq_length == 40
    student = CrossEncoderStudent(base=str(first))
    second = run(student, folder, tmp_path / "b", CrossEncoder(), optimiser=NO_STEP).model
    pairs = [("ask1", text) for text in TEXTS]
    wanted, found = (
        CrossEncoderStudent(base=str(place)).load().eval().predict(pairs)
        for place in (first, second)
    )
    assert np.abs(wanted - found).max() < 1e-6


REFUSED = {
    "pooling": (DenseStudent, {}, {"pooling": "cls"}),
    "normalise": (DenseStudent, {"normalise": True}, {"normalise": False}),
    "layer_norm": (DenseStudent, {}, {"layer_norm": True}),
    "masks": (DenseStudent, {}, {"masks": True, "query_tokens": 8}),
    "towers": (DenseStudent, {"towers": "two"}, {"towers": "one"}),
    "dim": (ColBERTStudent, {"dim": 8}, {"dim": 16}),
    "markers": (ColBERTStudent, {"dim": 0}, {"markers": ("[unused1]", "[unused0]")}),
    "attend": (ColBERTStudent, {}, {"attend": True}),
    "masks of tokens": (ColBERTStudent, {}, {"masks": False}),
    "skip_punctuation": (ColBERTStudent, {}, {"skip_punctuation": False}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_trained_model_is_not_is_refused(base, tmp_path, name):
    cls, shape, asked = REFUSED[name]
    cls(base=str(base), **shape).load().save_pretrained(str(tmp_path), create_model_card=False)
    name = name.partition(" ")[0]
    with pytest.raises(UsageError, match=f"{name} must be .*leave {name} out"):
        cls(base=str(tmp_path), **asked).load()


def read_at_most(model) -> list[int]:
    """Return how many tokens of a long query and of a long document a model reads."""
    text = " ".join(["tell1"] * 40)
    made = [model.preprocess([text], task=side) for side in ("query", "document")]
    return [each["input_ids"].shape[1] for each in made]


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_prefixes_and_dropout_are_changed_where_they_are_asked_for(base, tmp_path, kind):
    cls, shape, _ = KINDS[kind]
    place = saved(cls(base=str(base), **shape), tmp_path / "m")
    model = cls(base=str(place), dropout=0.25, query_tokens=6, document_tokens=5).load()
    assert read_at_most(model) == [6, 5]
    model.save_pretrained(str(tmp_path / "short"), create_model_card=False)
    longer = cls(base=str(tmp_path / "short"), query_tokens=9, document_tokens=30)
    assert read_at_most(longer.load()) == [9, 30]
    readers = [m for m in model.modules() if type(m).__name__ == "Transformer"]
    assert len(readers) == (2 if kind == "two towers" else 1)
    assert {each.model.config.hidden_dropout_prob for each in readers} == {0.25}
    with pytest.raises(UsageError, match="query_tokens must be 258 or less"):
        cls(base=str(place), query_tokens=300).load()


def test_a_colbert_without_masks_reads_queries_as_they_are(base):
    student = ColBERTStudent(base=str(base), query_tokens=10, masks=False)
    model = student.load()
    made = model.preprocess(["tell1", "tell1 tell2 tell1"], task="query")
    assert model.tokenizer.mask_token_id not in made["input_ids"]
    lengths = made["attention_mask"].sum(dim=1).tolist()
    assert lengths[1] == lengths[0] + 2 < 10
    with pytest.raises(UsageError, match="attend must be of"):
        ColBERTStudent(base=str(base), masks=False, attend=True)


def test_a_base_keeps_its_prefixes_and_its_separator_unless_others_are_asked_for(base, tmp_path):
    own = {"query_prefix": "noise1 ", "document_prefix": "noise2 "}
    place = saved(DenseStudent(base=str(base), **own), tmp_path / "m")
    (place / "limbeck.json").write_text(json.dumps({"title_separator": " , "}))
    plain = DenseStudent(base=str(place))
    assert plain.between == " , "
    assert plain.load().prompts == {"query": "noise1 ", "document": "noise2 "}
    other = DenseStudent(base=str(place), document_prefix="", title_separator=" ")
    assert other.between == " "
    assert other.load().prompts == {"query": "noise1 ", "document": ""}


@pytest.mark.parametrize("kind", ["bare", "saved", "saved two"])
def test_prefixes_that_nothing_states_are_those_of_the_bases_name(base, tmp_path, kind):
    place = tmp_path / "e5-small-v2"
    if kind == "bare":
        shutil.copytree(base, place)
    else:
        saved(DenseStudent(base=str(base), towers=kind[6:] or None, normalise=True), place)
    student = DenseStudent(base=str(place))
    assert student.load().prompts == {"query": "query: ", "document": "passage: "}
    other = DenseStudent(base=str(place), query_prefix="noise1 ")
    assert other.load().prompts == {"query": "noise1 ", "document": "passage: "}
    none = DenseStudent(base=str(place), query_prefix="", document_prefix="")
    assert none.load().prompts == {"query": "", "document": ""}


def test_a_name_of_the_hub_tells_them_too(base, tmp_path, monkeypatch):
    snapshot = saved(DenseStudent(base=str(base), pooling="cls"), tmp_path / "1a2b3c")
    found = {"BAAI/bge-small-en-v1.5": ModelFolder(snapshot, "digest")}
    monkeypatch.setattr("limbeck.training.students.text.model_folder", found.__getitem__)
    (name,) = found
    model = DenseStudent(base=name).load()
    assert model.prompts == {"query": convention(name).query_prefix, "document": ""}
    write_own(snapshot, title_separator=" , ")
    trained_here = DenseStudent(base=name)
    assert trained_here.load().prompts == {"query": "", "document": ""}
    assert trained_here.between == " , "


def test_what_is_trained_reads_what_is_encoded_before_and_after(folder, base, tmp_path):
    """A model of a known name is trained with its prefixes, and its own stand above any name."""
    place = saved(DenseStudent(base=str(base), normalise=True), tmp_path / "e5-small-v2")
    student = DenseStudent(base=str(place))
    own = open_encoder(Settings(str(place), max_tokens=256))
    for made, known in zip(
        vectors(student.load()),
        (own.encode_queries(TEXTS), own.encode_documents(TEXTS)),
        strict=True,
    ):
        assert np.abs(made - known).max() < 1e-6
    changed = DenseStudent(base=str(place), query_prefix="noise1 ", title_separator=" , ")
    trained = run(changed, folder, tmp_path / "out", DPR()).model
    for name in ("other", "e5-base-v2", "bge-small-en"):
        renamed = trained.rename(tmp_path / name)
        encoder = open_encoder(Settings(str(renamed)))
        model = DenseStudent(base=str(renamed))
        assert model.between == " , "
        assert model.load().prompts == {"query": "noise1 ", "document": "passage: "}
        known = vectors(model.load())
        assert np.abs(encoder.encode_queries(TEXTS) - known[0]).max() < 1e-6
        assert np.abs(encoder.encode_documents(TEXTS) - known[1]).max() < 1e-6
        trained = renamed


def test_a_similarity_that_nothing_states_is_that_of_the_bases_name(base, tmp_path):
    cosine = saved(DenseStudent(base=str(base), normalise=True), tmp_path / "contriever")
    dot = saved(DenseStudent(base=str(base)), tmp_path / "m")
    for place, wanted in ((cosine, "dot"), (dot, "dot")):
        assert DenseStudent(base=str(place)).load().similarity_fn_name == wanted
    unknown = cosine.rename(tmp_path / "n")
    assert DenseStudent(base=str(unknown)).load().similarity_fn_name == "cosine"


def test_a_trained_model_is_taken_for_both_towers(base, tmp_path):
    place = saved(DenseStudent(base=str(base), normalise=True, **AS_ANCE), tmp_path / "m")
    model = DenseStudent(base=str(place), towers="two").load()
    assert_same(model, DenseStudent(base=str(place)).load())
    model.save_pretrained(str(tmp_path / "two"), create_model_card=False)
    again = DenseStudent(base=str(tmp_path / "two"), towers="two", layer_norm=True).load()
    assert_same(model, again)
    assert len({id(weights) for weights in again.parameters()}) == 2 * sum(
        1 for _ in DenseStudent(base=str(place)).load().parameters()
    )


def test_of_another_kind_of_model_the_transformer_is_taken(base, tmp_path):
    place = saved(ColBERTStudent(base=str(base), dim=8), tmp_path / "m")
    model = DenseStudent(base=str(place), pooling="mean").load()
    own = ColBERTStudent(base=str(place)).load()[0].model.state_dict()
    held = model[0].model.state_dict()
    assert all(torch.equal(held[name], weights) for name, weights in own.items())
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling"]


def test_masks_need_a_length(base):
    with pytest.raises(UsageError, match="give query_tokens"):
        DenseStudent(base=str(base), masks=True).load()


def released(base: Path, place: Path, *, named: str) -> Path:
    """Write the base as ColBERT's released code saves one, with a map to 8 numbers."""
    from safetensors.torch import load_file, save_file

    place.mkdir()
    weights = {f"bert.{k}": v for k, v in load_file(base / "model.safetensors").items()}
    save_file(weights | {"linear.weight": torch.randn(8, 32)}, place / "model.safetensors")
    config = json.loads((base / "config.json").read_text()) | {"architectures": [named]}
    (place / "config.json").write_text(json.dumps(config))
    (place / "artifact.metadata").write_text(json.dumps({"query_maxlen": 12, "doc_maxlen": 20}))
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(place)
    return place


def test_the_map_of_a_released_colbert_is_taken(base, tmp_path):
    from safetensors.torch import load_file

    place = released(base, tmp_path / "v2", named="HF_ColBERT")
    model = ColBERTStudent(base=str(place), dim=8).load()
    held = load_file(place / "model.safetensors")["linear.weight"]
    assert torch.equal(model[1].linear.weight, held)
    with pytest.raises(UsageError, match="must name HF_ColBERT"):
        ColBERTStudent(base=str(released(base, tmp_path / "v1", named="ColBERT"))).load()


class TestTeacher:
    def test_what_makes_no_vectors_of_tokens_is_refused(self, base, tmp_path):
        dense = saved(DenseStudent(base=str(base)), tmp_path / "dense")
        for place in (base, dense):
            with pytest.raises(UsageError, match="teacher must be a trained ColBERT"):
                TCTColBERT(teacher=str(place)).others(Computing())
        colbert = saved(ColBERTStudent(base=str(base), dim=8), tmp_path / "colbert")
        (teacher,) = TCTColBERT(teacher=str(colbert)).others(Computing()).values()
        assert teacher.frozen
        assert_same(teacher.model, ColBERTStudent(base=str(colbert)).load())


DROPOUTS = {
    "Bert": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "Roberta": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "MPNet": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "DebertaV2": {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "DistilBert": {"dropout": 0.1, "attention_dropout": 0.1},
    "ModernBert": {"attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1},
    "Qwen2": {"attention_dropout": 0.1},
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_is_that_of_all_the_transformer(tmp_path, name):
    place = world.bare(name, tmp_path / "m", **DROPOUTS[name])
    for student in (
        DenseStudent(base=str(place), dropout=0.0),
        ColBERTStudent(base=str(place), dropout=0.0),
        CrossEncoderStudent(base=str(place), dropout=0.0),
    ):
        model = student.load()
        config = model[0].model.config.to_dict()
        assert {config[named] for named in DROPOUTS[name]} == {0.0}
        drops = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        assert set(drops) <= {0.0}


def test_a_dropout_that_the_architecture_has_not_is_refused(tmp_path):
    place = world.bare("Bert", tmp_path / "m")
    config = transformers.MambaConfig(hidden_size=32, num_hidden_layers=1, vocab_size=70)
    config.save_pretrained(place)
    with pytest.raises(UsageError, match="dropout must be one that the model has"):
        DenseStudent(base=str(place), dropout=0.0).load()


def test_two_towers_are_no_base_of_another_kind(base, tmp_path):
    place = saved(DenseStudent(base=str(base), towers="two"), tmp_path / "m")
    for student in (ColBERTStudent(base=str(place)), CrossEncoderStudent(base=str(place))):
        with pytest.raises(ArtifactError, match="must hold a model"):
            student.load()


def test_weights_that_begin_at_random_are_told_of_in_a_line(base, caplog):
    """transformers tells it in a table of colours, with the weights that nobody needs."""
    told = []
    with listening(lambda *_: None, hear=told.append):
        CrossEncoderStudent(base=str(base)).load()
        DenseStudent(base=str(base)).load()
    (line,) = told
    assert line.startswith("weights that the base lacks, and that begin at random: ")
    assert "classifier.weight" in line
    assert "pooler" not in line
    assert "REPORT" not in caplog.text
