"""The largest eigenpairs against LAPACK."""

import functools

import numpy as np
import pytest
import torch

from pinnfluence.curvature import lanczos
from pinnfluence.curvature.lanczos import top_eigenpairs
from pinnfluence.curvature.operators import Hessian
from pinnfluence.errors import InputError
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor

LAYERS = (2, 4, 4, 3)


class Matrix:
    """A given symmetric matrix in the place of a Hessian."""

    def __init__(self, dense: np.ndarray) -> None:
        self.matrix, self.n_params, self.shape = dense, len(dense), dense.shape
        self.n_products = 0

    def matvec(self, vector: np.ndarray) -> np.ndarray:
        self.n_products += 1
        return self.matrix @ np.reshape(vector, -1)

    def dense(self) -> np.ndarray:
        return self.matrix


def with_eigenvalues(values: np.ndarray) -> Matrix:
    rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((len(values),) * 2))[0]
    return Matrix(rotation * values @ rotation.T)


@pytest.fixture(scope="module")
def loss(flow_pinn, flow_points):
    return Loss.uniform(flow_pinn(LAYERS).at(flow_points(20, 2)[::2]))


@pytest.fixture(scope="module")
def hessian(loss) -> np.ndarray:
    return Hessian(loss, Executor(1000)).dense()


@pytest.fixture(params=["dense", "lanczos"])
def path(request, monkeypatch):
    if request.param == "lanczos":
        monkeypatch.setattr(lanczos, "DENSE_LIMIT", 0)
    return request.param


def test_eigenpairs_of_the_flow(loss, hessian, path):
    values, vectors = np.linalg.eigh(hessian)
    pairs = top_eigenpairs(Hessian(loss, Executor(7)), 12, 0.0, 0.0)
    np.testing.assert_allclose(pairs.values, values[::-1][:12], rtol=1e-9)
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(12), atol=1e-9)
    overlap = abs((pairs.vectors * vectors[:, ::-1][:, :12]).sum(0))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    if path == "dense":
        np.testing.assert_allclose(pairs.most_negative, values[0], rtol=1e-9)
    else:  # a Ritz value is an average of eigenvalues
        assert values[0] - 1e-9 <= pairs.most_negative < 0
    assert pairs.n_products > 12


def test_eigenpairs_do_not_depend_on_the_batch_size(loss, path):
    one, other = (
        top_eigenpairs(Hessian(loss, Executor(size)), 12, 1e-6, 1e-5) for size in (11, 1000)
    )
    np.testing.assert_allclose(one.values, other.values, rtol=1e-9)
    np.testing.assert_allclose(
        one.vectors @ one.vectors.T, other.vectors @ other.vectors.T, atol=1e-8
    )


def test_the_same_again_is_the_same(loss, path):
    one, other = (top_eigenpairs(Hessian(loss, Executor(7)), 12, 0, 0) for _ in range(2))
    np.testing.assert_array_equal(one.vectors, other.vectors)


def test_largest_are_not_the_largest_in_size(path):
    values = np.linspace(-50, 3, 60)
    pairs = top_eigenpairs(with_eigenvalues(values), 4, 0.0, 0.0)
    np.testing.assert_allclose(pairs.values, values[::-1][:4], rtol=1e-6)
    assert pairs.most_negative == pytest.approx(-50, rel=0.1 if path == "lanczos" else 1e-9)


def test_shift_is_added_and_the_threshold_applies_after_it(path):
    matrix = with_eigenvalues(np.concatenate([-np.arange(1.0, 57), [0.25, 1.0, 2.0, 4.0]]))
    find = functools.partial(top_eigenpairs, matrix, 4)
    np.testing.assert_allclose(find(0.0, -9.0).values, [4, 2, 1, 0.25], atol=1e-9)
    np.testing.assert_allclose(find(0.5, -9.0).values, [4.5, 2.5, 1.5, 0.75], atol=1e-9)
    np.testing.assert_allclose(find(0.5, 1.2).values, [4.5, 2.5, 1.5], atol=1e-9)
    np.testing.assert_allclose(find(0.0, 1.2).values, [4, 2], atol=1e-9)
    assert find(0.5, 1.2).vectors.shape == (60, 3)
    assert find(0.5, -9.0).most_negative == pytest.approx(find(0.0, -9.0).most_negative)


def test_rank_beyond_the_number_of_parameters():
    pairs = top_eigenpairs(with_eigenvalues(np.arange(1.0, 6)), 50, 0.0, 0.0)
    np.testing.assert_allclose(pairs.values, [5, 4, 3, 2, 1])


def test_no_eigenvalue_above_the_threshold(path):
    matrix = with_eigenvalues(np.linspace(-5, 1, 60))
    with pytest.raises(InputError, match=r"exceeds 2, the largest is 1$"):
        top_eigenpairs(matrix, 4, 0.0, 2.0)


def test_nan(path):
    matrix = Matrix(np.full((60, 60), np.nan))
    with pytest.raises(InputError, match="NaN or infinite"):
        top_eigenpairs(matrix, 4, 0.0, 0.0)


def test_a_network_that_overflows(flow_pinn, flow_points, path):
    pinn = flow_pinn(LAYERS)
    with torch.no_grad():
        pinn.network.linears[-1].weight.fill_(1e200)
    with pytest.raises(InputError, match="NaN or infinite"):
        top_eigenpairs(Hessian(Loss.uniform(pinn.at(flow_points(5, 0))), Executor(9)), 5, 0.0, 0.0)


def test_no_convergence(monkeypatch):
    monkeypatch.setattr(lanczos, "DENSE_LIMIT", 0)
    monkeypatch.setattr(lanczos, "eigsh", functools.partial(lanczos.eigsh, maxiter=1))
    matrix = with_eigenvalues(1 + 1e-9 * np.arange(200.0) ** 2)
    with pytest.raises(InputError, match=r"found \d+ of 20 eigenpairs in \d+ products"):
        top_eigenpairs(matrix, 20, 0.0, 0.0)


def test_rank_below_one():
    with pytest.raises(InputError, match="at least 1, found 0"):
        top_eigenpairs(with_eigenvalues(np.ones(3)), 0, 0.0, 0.0)
