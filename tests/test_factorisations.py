"""Damped inverses against ``numpy.linalg.solve``."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from brute_force import TERMS
from pinnfluence.curvature.eigenpairs import Eigenpairs
from pinnfluence.curvature.factorisations import (
    Cholesky,
    FullRank,
    LowRank,
    Woodbury,
    prefers_residual_space,
)

from pinnfluence import InputError
from pinnfluence.curvature.operators import GaussNewton, Hessian

WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))


class Given(Hessian):
    """A given symmetric matrix in the place of a Hessian."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix, self.n_params = matrix, len(matrix)

    def dense(self, advance: Callable[[int], object] = lambda n: None, store=None) -> np.ndarray:
        return self.matrix


def with_eigenvalues(values: np.ndarray) -> np.ndarray:
    rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((len(values),) * 2))[0]
    return rotation * values @ rotation.T


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """A with 30 residuals of 50 parameters, its singular values from 1 to 1e-3."""
    U, _, Vt = np.linalg.svd(np.random.default_rng(0).standard_normal((30, 50)), False)
    return U * np.logspace(0, -3, 30) @ Vt


@pytest.mark.parametrize("damping", [1e-6, 1e-3, 1.0])
def test_primal_and_dual_are_the_same_inverse(rows, damping):
    B = np.random.default_rng(1).standard_normal((50, 4))
    expected = np.linalg.solve(rows.T @ rows + damping * np.eye(50), B)
    primal = Cholesky(rows.T @ rows, damping, None)
    dual = Woodbury(rows, rows @ rows.T, damping)
    scale = abs(expected).max()
    assert primal.damping == dual.damping == damping
    np.testing.assert_allclose(primal.solve(B), expected, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(dual.solve(B), expected, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(dual.solve(B), primal.solve(B), rtol=0, atol=1e-9 * scale)


def test_low_rank():
    matrix = with_eigenvalues(np.arange(1.0, 21))
    values, V = np.linalg.eigh(matrix + 0.5 * np.eye(20))
    pairs = Eigenpairs(values[::-1][:6], V[:, ::-1][:, :6], 0.0, 0)
    B = np.random.default_rng(1).standard_normal((20, 3))
    found = LowRank(pairs, 0.5)
    V = V[:, -6:]
    np.testing.assert_allclose(found.solve(B), V / values[-6:] @ V.T @ B, atol=1e-12)
    assert found.damping == 0.5


@pytest.mark.parametrize("layers", [(2, 4, 3), (2, 20, 20, 3)])
def test_the_form_is_chosen_by_size(flow_pinn, flow_points, layers):
    pinn = flow_pinn(layers)
    curvature = GaussNewton(pinn.at(flow_points(5)), WEIGHTS, 20)
    small = curvature.n_params < curvature.n_residuals
    assert small == (layers == (2, 4, 3))
    assert prefers_residual_space(curvature) != small
    assert not prefers_residual_space(Hessian(pinn.at(flow_points(5)), WEIGHTS, 20))
    M, B = curvature.dense(), np.random.default_rng(1).standard_normal((curvature.n_params, 4))
    expected = np.linalg.solve(M + 1e-2 * np.eye(len(M)), B)
    for residual_space in (None, False, True):
        whole = FullRank(curvature, residual_space=residual_space)
        assert isinstance(
            whole.inverse(1e-2),
            Cholesky if residual_space is False or (residual_space is None and small) else Woodbury,
        )
        assert whole.largest == pytest.approx(np.linalg.eigvalsh(M)[-1], rel=1e-9)
        assert whole.lowest == 0
        scale = abs(expected).max()
        np.testing.assert_allclose(whole.inverse(1e-2).solve(B), expected, atol=1e-9 * scale)


@pytest.mark.parametrize("n", [30, 300])
def test_extreme_eigenvalues(n):
    values = np.linspace(-2, 9, n)
    whole = FullRank(Given(with_eigenvalues(values)))
    assert whole.lowest == pytest.approx(-2, rel=1e-5)
    assert whole.largest == pytest.approx(9, rel=1e-5)


def test_the_matrix_can_be_inverted_again():
    matrix = with_eigenvalues(np.arange(1.0, 21))
    whole, B = FullRank(Given(matrix.copy())), np.eye(20)
    for damping in (1.0, 0.0, 3.0):
        expected = np.linalg.inv(matrix + damping * np.eye(20))
        np.testing.assert_allclose(whole.inverse(damping).solve(B), expected, atol=1e-12)


# ---- what is refused, with figures


def test_indefinite():
    whole = FullRank(Given(with_eigenvalues(np.linspace(-3, 5, 40))))
    message = r"damping 1 is not positive definite, its most negative .* is -3: give a larger"
    with pytest.raises(InputError, match=message):
        whole.inverse(1.0)
    assert whole.inverse(3.5).solve(np.eye(40)).shape == (40, 40)


@pytest.mark.parametrize("least", [0.0, 1e-17])
def test_singular(least):
    values = np.concatenate([[least], np.linspace(1, 5, 39)])
    whole = FullRank(Given(with_eigenvalues(values)))
    with pytest.raises(InputError, match=r"is (singular up to|not positive)"):
        whole.inverse(0.0)


def test_singular_in_residual_space(rows):
    with pytest.raises(InputError, match=r"of 50 parameters and 30 residuals is singular"):
        Woodbury(rows, rows @ rows.T, 0.0)


def test_nan():
    with pytest.raises(InputError, match="NaN or infinite"):
        FullRank(Given(np.full((40, 40), np.nan)))


def test_no_curvature():
    with pytest.raises(InputError, match="largest eigenvalue is -1: no minimum"):
        FullRank(Given(-np.eye(5)))


def test_a_network_that_overflows(flow_pinn, flow_points):
    pinn = flow_pinn((2, 4, 3))
    with torch.no_grad():
        pinn.network.linears[-1].weight.fill_(1e200)
    with pytest.raises(InputError, match="NaN or infinite"):
        FullRank(GaussNewton(pinn.at(flow_points(5)), WEIGHTS, 9))
