"""Score matrices against dense arrays, and the files against what they were made from."""

import numpy as np
import pytest
from small_scores import GROUPS, N_TEST, N_TRAIN, OUTPUTS, TERMS, make_scores

from pinnfluence import Scores
from pinnfluence.scores.embedding import Embedding


def dense_scores(scores: Scores, quantity: str, term: str) -> np.ndarray:
    """One point after another."""
    left = {int(i): e for i, e in zip(*swap(scores.test[quantity]), strict=True)}
    right = {int(j): e for j, e in zip(*swap(scores.train[term]), strict=True)}
    dense = np.zeros((N_TEST, N_TRAIN))
    for i, e in left.items():
        for j, f in right.items():
            dense[i, j] = e.astype(np.float64) @ f
    return dense


def swap(embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
    return embedding.rows, embedding.values


def members(quantity: str) -> list[str]:
    return GROUPS.get(quantity, [quantity])


@pytest.fixture
def scores() -> Scores:
    return make_scores()


@pytest.mark.parametrize("quantity", [*OUTPUTS, *TERMS, *GROUPS])
def test_matrix_of_each_quantity(scores, quantity):
    parts = {
        term: sum(dense_scores(scores, name, term) for name in members(quantity)) for term in TERMS
    }
    for term in TERMS:
        np.testing.assert_allclose(
            np.asarray(scores.matrix(quantity, term)), parts[term], rtol=1e-4, atol=1e-5
        )
    for terms in (*GROUPS, ["noslip", "continuity"]):
        names = GROUPS.get(terms, terms) if isinstance(terms, str) else terms
        np.testing.assert_allclose(
            np.asarray(scores.matrix(quantity, terms)),
            sum(parts[name] for name in names),
            rtol=1e-4,
            atol=1e-5,
        )
    whole = sum(parts.values())
    np.testing.assert_allclose(np.asarray(scores[quantity]), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("terms", [None, "noslip", "pde"])
def test_paper_scale_is_n_train_times(scores, terms):
    removal = np.asarray(scores.matrix("u", terms))
    paper = np.asarray(scores.matrix("u", terms, scale="paper"))
    np.testing.assert_allclose(paper, N_TRAIN * removal, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(removal, np.asarray(scores.matrix("u", terms, scale="removal")))


def test_a_term_counts_once(scores):
    once, twice = (scores.matrix("u", terms=["noslip"] * n) for n in (1, 2))
    np.testing.assert_array_equal(np.asarray(twice), np.asarray(once))


def test_keys(scores):
    assert list(scores) == [*OUTPUTS, *TERMS, "pde", "bcs", "all"]
    assert len(scores) == len(list(scores)) == 10
    assert "u" in scores
    assert "w" not in scores


def test_acting_rows(scores):
    assert scores.acting_rows("noslip").tolist() == [0, 7, 8]
    assert scores.acting_rows("bcs").tolist() == [0, 7, 8]
    assert scores.acting_rows("u").tolist() == list(range(N_TEST))


def test_unknown_names(scores):
    with pytest.raises(KeyError, match="no quantity 'w', expected one of u, v, p, speed, "):
        scores["w"]
    with pytest.raises(KeyError, match="no loss term 'w', expected one of continuity"):
        scores.matrix("u", "w")
    with pytest.raises(ValueError, match="scale must be one of removal, paper, file, found 'mean'"):
        scores.matrix("u", scale="mean")


def test_whole_embedding():
    whole = Embedding(np.array([[1.0, 2.0]], np.float32), np.array([2])).whole(4)
    np.testing.assert_array_equal(whole, [[0, 0], [0, 0], [1, 2], [0, 0]])
