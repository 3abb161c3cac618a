"""The Gauss-Newton matrix and other sums of outer products, against loops with nested autograd."""

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals, gradients
from curvature_cases import LAYERS, ONES, WEIGHTS, Counted
from torch import Tensor
from wrapped import wrapped

from pinnfluence.curvature import gram
from pinnfluence.curvature.operator import mirror
from pinnfluence.curvature.operators import GaussNewton, Hessian
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation
from pinnfluence.runtime.executor import Executor


@pytest.fixture(scope="module")
def collocation(flow_pinn, flow_points):
    return flow_pinn(LAYERS).at(flow_points(20, 2)[::2])


def jacobian_rows(collocation: Collocation) -> dict[str, np.ndarray]:
    """Gradients of each residual at the points on which it acts, by a loop over the points."""
    pinn, x = collocation.pinn, torch.as_tensor(collocation.x).double()
    found = gradients(pinn.network, lambda x: flow_residuals(pinn.network(x), x), x)
    masks = flow_masks(x)
    return {name: found[name][masks[name]].numpy() for name in TERMS}


@pytest.fixture(scope="module")
def gauss_newton(collocation) -> np.ndarray:
    J = jacobian_rows(collocation)
    return sum(2 * WEIGHTS[name] * J[name].T @ J[name] for name in TERMS)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_gauss_newton(collocation, gauss_newton, batch_size, monkeypatch):
    monkeypatch.setattr(gram, "BLOCK_BYTES", 10_000)  # of more than one batch
    stages, scale = Counted(), abs(gauss_newton).max()
    matrix = GaussNewton(Loss(collocation, WEIGHTS), Executor(batch_size, stages))
    dense = stages.counted(matrix)
    np.testing.assert_allclose(dense, gauss_newton, rtol=0, atol=1e-12 * scale)
    np.testing.assert_array_equal(dense, dense.T)
    assert sum(stages.counts) == matrix.n_residuals
    rows = matrix.rows()
    assert rows.shape == (matrix.n_residuals, matrix.n_params)
    np.testing.assert_allclose(rows.T @ rows, gauss_newton, rtol=0, atol=1e-12 * scale)
    vectors = np.random.default_rng(0).standard_normal((matrix.n_params, 3))
    expected = gauss_newton @ vectors
    np.testing.assert_allclose(matrix.matmat(vectors), expected, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(matrix @ vectors, expected, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(matrix.T @ vectors[:, 0], expected[:, 0], rtol=1e-9, atol=1e-9)
    assert matrix.n_products == 7


def test_gauss_newton_is_the_hessian_where_residuals_vanish(collocation):
    """Residuals that are made zero at theta by subtracting their own values there."""
    pinn = collocation.pinn
    with torch.no_grad():
        values = collocation.residuals(pinn.params)

    class Shifted(Collocation):
        def residuals(self, params, *arguments, **settings):
            found = super().residuals(params, *arguments, **settings)
            return {name: r - values[name] for name, r in found.items()}

    shifted = Shifted(pinn, collocation.equations, collocation.points)
    hessian = Hessian(Loss(shifted, WEIGHTS), Executor(1000))
    M = GaussNewton(Loss(collocation, WEIGHTS), Executor(1000)).dense()
    np.testing.assert_allclose(hessian.dense(), M, rtol=0, atol=1e-12 * abs(M).max())
    other = Hessian(Loss(collocation, WEIGHTS), Executor(1000)).dense()
    assert abs(other - M).max() > 1e-3 * abs(M).max()


def test_gauss_newton_of_another_module(collocation, gauss_newton):
    """A module that is no MLP: all goes through reverse mode and ``torch.func``."""
    module = wrapped(collocation.pinn)
    matrix = GaussNewton(Loss(module.at(collocation.x), WEIGHTS), Executor(7))
    v, scale = np.random.default_rng(0).standard_normal(matrix.n_params), abs(gauss_newton).max()
    np.testing.assert_allclose(matrix.matvec(v), gauss_newton @ v, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(matrix.dense(), gauss_newton, rtol=0, atol=1e-11 * scale)


def test_gauss_newton_in_float32(flow_pinn, flow_points):
    x = flow_points(20, 2)
    single, double = (
        GaussNewton(Loss(flow_pinn(LAYERS, dtype=dtype).at(x), ONES), Executor(7))
        for dtype in (torch.float32, torch.float64)
    )
    expected = double.dense()
    assert abs(single.dense() - expected).max() < 1e-4 * abs(expected).max()
    v = np.random.default_rng(0).standard_normal(single.n_params)
    assert abs(single.matvec(v) - expected @ v).max() < 1e-4 * abs(expected @ v).max()


class BySize(gram.Gram):
    """Gradients weighted by the residuals' squares: a number for each residual."""

    def _outer_weights(self, name: str, residuals: Tensor) -> Tensor:
        return WEIGHTS[name] * residuals**2


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_outer_products_with_weights_of_their_own(collocation, batch_size):
    J, residuals = jacobian_rows(collocation), collocation.residuals(collocation.pinn.params)
    expected = sum(
        weight * np.outer(row, row)
        for name in TERMS
        for weight, row in zip(
            WEIGHTS[name] * residuals[name].detach().numpy() ** 2, J[name], strict=True
        )
    )
    matrix, tolerance = (
        BySize(Loss(collocation, {}), Executor(batch_size)),
        1e-12 * abs(expected).max(),
    )
    np.testing.assert_allclose(matrix.dense(), expected, rtol=0, atol=tolerance)
    rows, v = matrix.rows(), np.random.default_rng(0).standard_normal(matrix.n_params)
    np.testing.assert_allclose(rows.T @ rows, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(matrix.matvec(v), expected @ v, rtol=0, atol=99 * tolerance)


def test_mirror():
    matrix = np.asfortranarray(np.random.default_rng(0).random((7, 7)))
    expected = np.tril(matrix) + np.tril(matrix, -1).T
    mirror(matrix, 3)
    np.testing.assert_array_equal(matrix, expected)
