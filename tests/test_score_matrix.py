"""Score matrices against dense arrays."""

import numpy as np
import pytest

from pinnfluence.scores import matrix as matrix_module
from pinnfluence.scores.matrix import DenseMatrix, FactoredMatrix

N_TEST, N_TRAIN, RANK = 23, 31, 4


@pytest.fixture(params=["factored", "dense", "dense by 3"])
def pair(request):
    """A matrix and the array that it stands for."""
    rng = np.random.default_rng(1)
    left, right = (rng.standard_normal((n, RANK)).astype(np.float32) for n in (N_TEST, N_TRAIN))
    if request.param == "factored":
        return FactoredMatrix(left, right), left @ right.T
    factor = 3.0 if request.param.endswith("3") else 1.0
    return DenseMatrix(left @ right.T, factor), left @ right.T * np.float32(factor)


# ---- matrices


MASK = np.arange(N_TRAIN) % 3 == 1
KEYS = {
    "int": 3,
    "numpy int": np.int64(3),
    "negative int": -1,
    "slice": slice(2, 9),
    "slice backwards": slice(None, None, -2),
    "empty slice": slice(5, 5),
    "list": [4, 0, 4, -1],
    "array": np.array([4, 0, 4]),
    "mask": np.arange(N_TEST) % 2 == 0,
    "all": slice(None),
    "one entry": (3, -2),
    "column": (slice(None), 7),
    "row of a tuple": (3, slice(None)),
    "int and slice": (3, slice(1, 20, 4)),
    "slice and list": (slice(1, 5), [0, 5, -3]),
    "slice and mask": (slice(1, 5), MASK),
    "mask and int": (np.arange(N_TEST) < 4, 0),
    "int and mask": (2, MASK),
    "empty mask": (slice(None), np.zeros(N_TRAIN, bool)),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_indexing(pair, key):
    matrix, dense = pair
    found, expected = matrix[key], dense[key]
    assert np.shape(found) == np.shape(expected)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_two_lists_choose_a_block(pair):
    """The entries of all pairs, as ``np.ix_`` gives them."""
    matrix, dense = pair
    rows, columns = [4, -1, 4], [0, 7]
    np.testing.assert_allclose(matrix[rows, columns], dense[np.ix_(rows, columns)], rtol=1e-4)
    assert matrix[rows, MASK].shape == (3, MASK.sum())


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (N_TEST, "axis 0 is out of range for 23 points"),
        (-N_TEST - 1, "out of range for 23 points"),
        ((0, N_TRAIN), "axis 1 is out of range for 31 points"),
        (np.ones(N_TEST + 1, bool), r"mask of axis 0 must have shape \(23,\), found \(24,\)"),
        (1.5, "axis 0 must be integers, a slice or a mask"),
        ((0, [[1]]), "axis 1 must be integers"),
    ],
)
def test_bad_index(pair, key, message):
    with pytest.raises(IndexError, match=message):
        pair[0][key]


def test_more_than_two_indices(pair):
    with pytest.raises((IndexError, ValueError)):
        pair[0][0, 0, 0]


@pytest.mark.parametrize("block_elements", [1, 5 * N_TRAIN, 10**6])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, -2])
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("sum", np.sum),
        ("mean", np.mean),
        ("abs_sum", lambda dense, axis: abs(dense).sum(axis)),
        ("abs_mean", lambda dense, axis: abs(dense).mean(axis)),
    ],
)
def test_reductions(pair, name, function, axis, block_elements, monkeypatch):
    monkeypatch.setattr(matrix_module, "BLOCK_ELEMENTS", block_elements)
    matrix, dense = pair
    expected = function(dense.astype(np.float64), axis)
    found = getattr(matrix, name)(axis)
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_reductions_leave_a_dense_matrix_as_it_is(pair):
    matrix, dense = pair
    matrix.abs_sum()
    np.testing.assert_allclose(np.asarray(matrix), dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sum", "mean", "abs_sum", "abs_mean"])
@pytest.mark.parametrize("axis", [2, 5, -3])
def test_bad_axis(pair, name, axis):
    with pytest.raises(ValueError, match=f"axis must be .*, found {axis}"):
        getattr(pair[0], name)(axis=axis)


def test_as_an_array(pair):
    matrix, dense = pair
    assert (matrix.shape, matrix.ndim, len(matrix)) == (dense.shape, 2, N_TEST)
    assert np.asarray(matrix).dtype == matrix.dtype == np.float32
    np.testing.assert_allclose(np.asarray(matrix, np.float64), dense, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.stack(list(matrix)), dense, rtol=1e-5, atol=1e-6)
    assert "n_test=23, n_train=31" in repr(matrix)


@pytest.mark.parametrize("n_rows", [None, 1, 7, 1000])
def test_blocks(pair, n_rows):
    matrix, dense = pair
    seen = np.full(dense.shape, np.nan)
    for rows, block in matrix.blocks(n_rows):
        seen[rows] = block
    np.testing.assert_allclose(seen, dense, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="at least 1, found 0"):
        next(matrix.blocks(0))


def test_embeddings_that_do_not_fit():
    with pytest.raises(ValueError, match=r"found \(3, 2\) and \(4, 3\)"):
        FactoredMatrix(np.zeros((3, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"found \(3,\) and \(4, 3\)"):
        FactoredMatrix(np.zeros(3), np.zeros((4, 3)))
