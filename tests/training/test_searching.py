"""A search by tokens holds the best of each query and a block of scores, and keeps the tie rule."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from hypothesis import given
from hypothesis import strategies as st

from limbeck.corpus import Corpus
from limbeck.training import searching
from limbeck.training.networks import Computing, MultiVectorNetwork, Vectors, network
from limbeck.training.searching import searched
from limbeck.training.students import ColBERTStudent
from limbeck.types import Query

pytestmark = pytest.mark.torch

N = 60
CORPUS = Corpus.from_documents({"_id": f"{i:02}", "text": f"t{i}"} for i in range(N))


def vectors(n: int, width: int, seed: int) -> Vectors:
    """Return token vectors of small whole numbers: scores are exact, and many are equal."""
    made = np.random.default_rng(seed)
    where = torch.from_numpy(made.integers(0, 2, (n, width)).astype(bool))
    where[:, 0] = True
    return Vectors(torch.from_numpy(made.integers(-1, 2, (n, width, 2)).astype(np.float32)), where)


def by_hand(asked: Vectors, documents: Vectors) -> np.ndarray:
    scores = np.zeros((len(asked.values), len(documents.values)))
    for q, d in np.ndindex(*scores.shape):
        products = asked.values[q] @ documents.values[d].T
        scores[q, d] = products[asked.where[q]][:, documents.where[d]].amax(dim=1).sum()
    return scores


@given(st.integers(1, 5), st.integers(1, 15), st.sampled_from([1, 200, 1 << 24]), st.integers(0, 9))
def test_equal_scores_keep_the_lower_row_however_much_is_held_at_once(n, k, products, seed):
    asked, documents = vectors(n, 3, seed), vectors(N, 4, seed + 10)
    pool = np.sort(np.random.default_rng(seed).permutation(N)[:40])
    of_pool = Vectors(documents.values[pool], documents.where[pool])
    sizes: list[int] = []

    def representations(held, side, rows, *, label):
        whole = asked if side == "query" else of_pool
        order = np.random.default_rng(1).permutation(len(whole.values))
        for part in np.array_split(order, min(7, len(order))):
            yield part, Vectors(whole.values[part], whole.where[part])

    real = searching.all_scores

    def all_scores(queries, passages):
        sizes.append(int(np.prod(queries.values.shape[:2]) * np.prod(passages.values.shape[:2])))
        return real(queries, passages)

    held = MultiVectorNetwork.__new__(MultiVectorNetwork)
    ids = [str(query) for query in range(n)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(searching, "representations", representations)
        patched.setattr(searching, "all_scores", all_scores)
        patched.setattr(searching, "_MOST_PRODUCTS", products)
        run = searched(held, np.arange(n), ids, pool, k=k, corpus=CORPUS)
    assert max(sizes) <= max(products, 3 * 4 * 6), "one query with one part is the least"
    scores = by_hand(asked, of_pool)
    for query in range(n):
        best = np.lexsort((pool, -scores[query]))[:k]
        assert run.rows[run.segment(query)].tolist() == pool[best].tolist()
        assert run.scores[run.segment(query)].tolist() == scores[query][best].tolist()


def test_parts_of_a_model_give_what_the_whole_gives(base):
    words = ["tell3 , noise1 .", "tell3 , noise1 .", "tell4", "noise2 tell5 noise6", "tell3"]
    corpus = Corpus.from_documents({"_id": str(i), "text": text} for i, text in enumerate(words))
    queries = [Query("a", "ask3 noise1"), Query("b", "ask5"), Query("c", "ask4 noise2 common")]
    found = []
    for part_tokens in (8, 2048):
        student = ColBERTStudent(base=str(base), dim=8, query_tokens=10)
        torch.manual_seed(0)
        held = network(student.load(), Computing(part_tokens=part_tokens))
        held.read(corpus, queries)
        ids = [query.query_id for query in queries]
        found.append(searched(held, np.arange(3), ids, np.arange(5), k=3, corpus=corpus))
    assert found[0].rows.tolist() == found[1].rows.tolist()
    assert np.allclose(found[0].scores, found[1].scores, atol=1e-5)


def test_keys_are_in_the_order_of_the_tie_rule_and_give_back_what_they_hold():
    inf = float("inf")
    scores = torch.tensor(
        [[-inf, -3e38, -1.5, -1e-44, -0.0, 0.0, 1e-44, 2.0, 2.0, inf, -torch.nan]]
    )
    rows = torch.tensor([0, 1, 2, 2**31 - 1, 3, 4, 5, 7, 6, 8, 9])
    keys = searching._keys(scores, rows)
    order = keys[0].argsort(descending=True).tolist()
    assert order == [10, 9, 8, 7, 6, 4, 5, 3, 2, 1, 0]
    back, found = searching._of_keys(keys)
    assert found[0].tolist() == rows.tolist()
    assert torch.equal(back[0, :10], scores[0, :10])
    assert back[0, 10].isnan()
