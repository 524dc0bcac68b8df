"""What each paper says a representation and a score are, computed by hand from the transformer."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from limbeck.corpus import Corpus
from limbeck.retrieval.bm25 import BM25
from limbeck.retrieval.colbert import ColBERT as ColBERTIndex
from limbeck.retrieval.dense import Dense
from limbeck.retrieval.fusion import Fuse
from limbeck.training.batches import Batch
from limbeck.training.encoding import encoded, representations
from limbeck.training.examples import Examples
from limbeck.training.networks import Computing, Vectors, network
from limbeck.training.objectives.ance import ANCE
from limbeck.training.objectives.colbert import ColBERT
from limbeck.training.objectives.dpr import DPR
from limbeck.training.objectives.tct_colbert import TCTColBERT
from limbeck.training.scores import all_scores, own_scores
from limbeck.training.searching import searched
from limbeck.training.students import ColBERTStudent, DenseStudent
from limbeck.types import Query

pytestmark = pytest.mark.torch

DOCUMENTS = [
    {"doc_id": "d0", "title": "noise1", "text": "tell2 , noise3 tell4 ."},
    {"doc_id": "d1", "title": "noise2", "text": "tell3 noise5 noise6 tell5 noise7 tell6 ."},
    {"doc_id": "d2", "title": "", "text": "tell1"},
]
QUERIES = [Query("q0", "ask1 noise2"), Query("q1", "ask2")]
AS_DPR = {"towers": "two", "pooling": "cls", "title_separator": " [SEP] "}
AS_TCT = {"masks": True, "query_tokens": 12, "query_prefix": "[Q]", "document_prefix": "[D]"}
TEXTS = [query.text for query in QUERIES]


def opened(student):
    made = network(student.load(), Computing())
    corpus = Corpus.from_documents(DOCUMENTS)
    made.read(corpus, QUERIES, separator=student.between)
    return made, corpus


def vectors(made, side, n):
    return encoded(made, side, np.arange(n), label="t")


def states(made, text, *, attend=None, side="query", **more):
    """Return the last layer's states of one text by the bare transformer, shape (n_tokens, dim)."""
    tokenizer, model = made.model.tokenizer, made.readers[0 if side == "query" else -1].model
    ids = text if isinstance(text, list) else tokenizer(text)["input_ids"]
    mask = torch.ones(1, len(ids), dtype=torch.long) if attend is None else torch.tensor([attend])
    model.eval()
    with torch.no_grad():
        return model(torch.tensor([ids]), attention_mask=mask, **more).last_hidden_state[0].numpy()


class TestDPR:
    def test_a_passage_is_the_first_state_of_title_and_text_all_of_one_segment(self, base):
        made, corpus = opened(DenseStudent(base=str(base), **AS_DPR))
        found = vectors(made, "document", 3)
        tokenizer = made.model.tokenizer
        for document in DOCUMENTS[:2]:
            row = corpus.row(document["doc_id"])
            pair = tokenizer(document["title"], document["text"])["input_ids"]
            assert pair.count(tokenizer.sep_token_id) == 2
            zeros = torch.zeros(1, len(pair), dtype=torch.long)
            wanted = states(made, pair, side="document", token_type_ids=zeros)[0]
            assert np.abs(found[row] - wanted).max() < 1e-5
        assert abs(np.linalg.norm(found[0]) - 1) > 0.1, "not brought to length 1"

    def test_what_is_cut_still_ends_with_sep(self, base):
        made, corpus = opened(DenseStudent(base=str(base), document_tokens=5, **AS_DPR))
        ids = made.tables["document"].taken(np.array([corpus.row("d1")]))
        assert ids.lengths.tolist() == [5]
        assert ids.ids[-1] == made.model.tokenizer.sep_token_id

    def test_each_query_competes_with_all_passages_also_the_others_hard_ones(self):
        passages = np.array([[0, 5], [1, 6], [2, 7]])
        spared = [np.array([row]) for row in range(3)]
        batch = Batch(np.arange(3), passages, spared)
        rng = np.random.default_rng(0)
        q, p = (torch.tensor(rng.normal(size=(n, 4)), dtype=torch.float32) for n in (3, 6))
        found = DPR().loss(batch, {"queries": Vectors(q), "passages": Vectors(p)})
        scores = (q @ p.T).numpy().astype(float)  # rows 0, 1, 2, 5, 6, 7
        wanted = np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(scores)])
        assert float(found) == pytest.approx(wanted, rel=1e-5)

    def test_the_hybrid_adds_raw_scores_with_the_weight_on_the_dense_side(self, base, tmp_path):
        made, corpus = opened(DenseStudent(base=str(base)))
        made.model.save_pretrained(str(tmp_path / "m"))
        legs = [BM25(k=2, k1=0.9, b=0.4), Dense(encoder=str(tmp_path / "m"), k=2)]
        fused = Fuse(legs, method="linear", normalise="none", weights=(1.0, 1.1))
        asked = [Query("q", "noise1 tell2")]
        sparse, dense = (leg.bind(corpus)(asked) for leg in legs)
        run = fused.bind(corpus)(asked)
        for row, score in zip(run.rows.tolist(), run.scores.tolist(), strict=True):
            parts = []
            for leg in (sparse, dense):
                held = dict(zip(leg.rows.tolist(), leg.scores.tolist(), strict=True))
                parts.append(held.get(row, min(held.values())))
            assert score == pytest.approx(parts[0] + 1.1 * parts[1], rel=1e-5)


class TestANCE:
    def test_a_vector_is_the_layer_norm_of_a_linear_map_of_the_first_state(self, base):
        made, _ = opened(DenseStudent(base=str(base), pooling="cls", layer_norm=True))
        head = list(made.model)[-2:]
        for row, text in enumerate(TEXTS):
            first = torch.from_numpy(states(made, text)[0])
            with torch.no_grad():
                wanted = head[1].norm(head[0].linear(first)).numpy()
            assert np.abs(vectors(made, "query", 2)[row] - wanted).max() < 1e-5

    def test_there_are_no_in_batch_negatives(self):
        batch = Batch(np.arange(2), np.array([[0, 3], [1, 4]]), [np.array([0]), np.array([1])])
        q = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        p = torch.tensor([[2.0, 0.5], [0.3, 1.0], [1.0, 9.0], [4.0, 0.0]])  # rows 0, 1, 3, 4
        found = ANCE().loss(batch, {"queries": Vectors(q), "passages": Vectors(p)})
        margins = np.array([2.0 - 1.0, 1.0 - 0.0])
        assert float(found) == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-5)


class TestColBERT:
    def tokens(self, made, side, n):
        with torch.no_grad():
            parts = list(representations(made, side, np.arange(n), label="t"))
        return {
            place: found.values[number][found.where[number]].numpy()
            for places, found in parts
            for number, place in enumerate(places.tolist())
        }

    def test_masks_of_a_query_are_scored_and_unattended(self, base):
        made, _ = opened(ColBERTStudent(base=str(base), dim=8, query_tokens=10))
        tokenizer = made.model.tokenizer
        linear = list(made.model)[1].linear
        assert linear.bias is None
        found = self.tokens(made, "query", 2)
        for place, text in enumerate(TEXTS):
            words = tokenizer(text)["input_ids"]
            marker = tokenizer.convert_tokens_to_ids("[unused0]")
            ids = [words[0], marker, *words[1:]]
            attend = [1] * len(ids) + [0] * (10 - len(ids))
            ids += [tokenizer.mask_token_id] * (10 - len(ids))
            with torch.no_grad():
                mapped = linear(torch.from_numpy(states(made, ids, attend=attend))).numpy()
            wanted = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
            assert found[place].shape == (10, 8)
            assert np.abs(found[place] - wanted).max() < 1e-5

    def test_punctuation_of_a_document_is_context_and_not_scored(self, base):
        made, corpus = opened(ColBERTStudent(base=str(base), dim=8, query_tokens=10))
        tokenizer = made.model.tokenizer
        words = tokenizer("noise1 tell2 , noise3 tell4 .")["input_ids"]
        ids = [words[0], tokenizer.convert_tokens_to_ids("[unused1]"), *words[1:]]
        linear = list(made.model)[1].linear
        with torch.no_grad():
            mapped = linear(torch.from_numpy(states(made, ids))).numpy()
        marks = tokenizer.convert_tokens_to_ids([",", "."])
        kept = mapped[[token not in marks for token in ids]]
        wanted = kept / np.linalg.norm(kept, axis=1, keepdims=True)
        found = self.tokens(made, "document", 3)[corpus.row("d0")]
        assert len(found) == len(ids) - 2, "[CLS], [D] and [SEP] stay"
        assert np.abs(found - wanted).max() < 1e-5

    def test_padding_never_beats_a_negative_cosine(self):
        rng = np.random.default_rng(1)
        lengths, asked = [3, 1, 4], [2, 3]
        p, q = (torch.zeros(n, 4, 5) for n in (3, 2))
        for held, sizes in ((p, lengths), (q, asked)):
            for row, size in enumerate(sizes):
                sign = -1.0 if held is p else 1.0
                held[row, :size] = sign * torch.tensor(rng.uniform(0.1, 1, (size, 5))).float()
        queries, passages = (
            Vectors(held, torch.arange(4)[None] < torch.tensor(sizes)[:, None])
            for held, sizes in ((q, asked), (p, lengths))
        )
        wanted = np.array(
            [
                [
                    sum(max(float(q[i, t] @ p[j, u]) for u in range(lengths[j])) for t in range(n))
                    for j in range(3)
                ]
                for i, n in enumerate(asked)
            ]
        )
        assert (wanted < 0).all()
        assert np.abs(all_scores(queries, passages).numpy() - wanted).max() < 1e-5
        places = np.array([[2, 0], [1, 2]])
        own = own_scores(queries, passages, places).numpy()
        assert np.abs(own - np.take_along_axis(wanted, places, axis=1)).max() < 1e-5

    def test_its_index_finds_what_training_scores(self, base, tmp_path):
        made, corpus = opened(
            ColBERTStudent(base=str(base), dim=8, query_tokens=10, document_tokens=30)
        )
        made.model.save_pretrained(str(tmp_path / "m"))
        index = ColBERTIndex(encoder=str(tmp_path / "m"), k=3, bits=8)
        found = index.bind(corpus)(QUERIES)
        ids = [query.query_id for query in QUERIES]
        wanted = searched(made, np.arange(2), ids, np.arange(3), k=3, corpus=corpus)
        assert found.rows.tolist() == wanted.rows.tolist()
        assert np.abs(found.scores / wanted.scores - 1).max() < 0.01, "it keeps a byte a number"


class TestTCTColBERT:
    def test_a_query_is_the_mean_of_attended_masks_and_words_without_the_first_four(self, base):
        made, _ = opened(DenseStudent(base=str(base), **AS_TCT))
        tokenizer = made.model.tokenizer
        assert tokenizer.tokenize("[Q]") == ["[", "q", "]"], "three pieces, no reserved token"
        found = vectors(made, "query", 2)
        for row, text in enumerate(TEXTS):
            ids = tokenizer("[Q]" + text)["input_ids"]
            ids += [tokenizer.mask_token_id] * (12 - len(ids))
            assert np.abs(found[row] - states(made, ids)[4:].mean(0)).max() < 1e-5

    def test_a_document_is_the_mean_without_the_first_four_and_without_masks(self, base):
        made, corpus = opened(DenseStudent(base=str(base), **AS_TCT))
        found = vectors(made, "document", 3)[corpus.row("d2")]
        assert np.abs(found - states(made, "[D]tell1")[4:].mean(0)).max() < 1e-5
        assert abs(np.linalg.norm(found) - 1) > 0.1, "not brought to length 1"


def batch_of(passages) -> Batch:
    rows = np.array(passages)
    return Batch(np.arange(len(rows)), rows, [row[:1] for row in rows])


def scored(**each) -> dict[str, Vectors]:
    """Return vectors whose inner products are what a table says: queries are unit vectors."""
    made = {}
    for name, table in each.items():
        scores = torch.tensor(table, dtype=torch.float64)
        prefix = "" if name == "student" else f"{name} "
        made[f"{prefix}queries"] = Vectors(torch.eye(len(scores), dtype=torch.float64))
        made[f"{prefix}passages"] = Vectors(scores.T.contiguous())
    return made


def test_tct_draws_the_student_to_the_teacher_each_by_its_own_temperature():
    """Exchanged temperatures, or a target of the student's, would give another number."""
    objective = TCTColBERT(teacher="nowhere", tau=0.25, student_tau=2.0)
    teacher, student = [[4.0, 3.5, 1.0], [0.0, 2.0, 1.75]], [[1.0, 2.0, 0.0], [3.0, 1.0, 0.5]]
    found = objective.loss(batch_of([[0, 2], [1, 2]]), scored(student=student, teacher=teacher))
    wanted = torch.softmax(torch.tensor(teacher, dtype=torch.float64) / 0.25, dim=1)
    told = torch.log_softmax(torch.tensor(student, dtype=torch.float64) / 2.0, dim=1)
    assert found.item() == pytest.approx(((wanted * (wanted.log() - told)).sum() / 2).item())


def test_max_p_is_the_best_passage_and_a_document_counts_once():
    """Passages 0 and 1 are of one document, 2 and 3 of another, 4 of a third."""
    corpus = Corpus.from_documents({"doc_id": f"p{n}", "text": "x"} for n in range(5))
    documents = np.array([0, 0, 1, 1, 2], dtype=np.int32)
    examples = Examples(corpus, (Query("q", "x"),), (np.array([0]),), documents=documents)
    objective = ANCE(max_p=True, tau=0.5)
    objective.begin(examples, (), 1)
    scores = [[1.0, 3.0, 0.5, 2.0, -1.0]]
    one = batch_of([[0, 2, 4]])
    assert objective.views(one)["passages"].rows.tolist() == [0, 1, 2, 3, 4]
    terms = [np.log1p(np.exp((best - 3.0) / 0.5)) for best in (2.0, -1.0)]
    assert objective.loss(one, scored(student=scores)).item() == pytest.approx(np.mean(terms))
    twice = batch_of([[0, 2, 3, 4]])
    found = objective.loss(twice, scored(student=scores)).item()
    assert found == pytest.approx(np.mean(terms)), "two passages of a document are no two pairs"


def test_all_passages_of_the_batch_stand_in_for_hard_negatives():
    assert ColBERT().needs_negatives
    assert not ColBERT(in_batch=True).needs_negatives
