"""The Hessian and the Gauss-Newton matrix against loops with nested autograd, in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals, gradients
from torch import Tensor
from wrapped import wrapped

from pinnfluence.curvature import gram, operators
from pinnfluence.curvature.operator import mirror
from pinnfluence.curvature.operators import OPERATORS, GaussNewton, Hessian
from pinnfluence.field.network import MLP
from pinnfluence.loss.collocation import Collocation
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.problem import Equation

LAYERS = (2, 6, 5, 3)
ONES = dict.fromkeys(TERMS, 1.0)
WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))


@pytest.fixture(scope="module")
def collocation(flow_pinn, flow_points):
    return flow_pinn(LAYERS).at(flow_points(20, 2)[::2])


@pytest.fixture(scope="module")
def reference(collocation) -> np.ndarray:
    return by_autograd(collocation, ONES)


def by_autograd(collocation: Collocation, weights: dict[str, float]) -> np.ndarray:
    """The matrix of the loss with nested ``autograd.grad``, as a function of one flat vector."""
    pinn = collocation.pinn
    x = torch.as_tensor(collocation.x).double()
    masks = flow_masks(x)
    names, shapes = list(pinn.params), [p.shape for p in pinn.params.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        params = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        points = x.clone().requires_grad_()
        outputs = torch.func.functional_call(pinn.network, params, (points,))
        residuals = flow_residuals(outputs, points)
        squares = [weights[n] * residuals[n][masks[n]].square().sum() for n in TERMS]
        return torch.stack(squares).sum()

    flat = torch.cat([p.flatten() for p in pinn.params.values()])
    return torch.autograd.functional.hessian(loss, flat).numpy()


@pytest.mark.parametrize("weights", [ONES, WEIGHTS], ids=["ones", "weights"])
def test_dense_matrix(collocation, weights):
    dense = Hessian(collocation, weights, 1000).dense()
    scale = abs(dense).max()
    expected = by_autograd(collocation, weights)
    np.testing.assert_allclose(dense, expected, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-12 * scale)


def test_torch_func_hessian(collocation):
    """The field itself is a plain function, of which functorch makes the same matrix."""
    pinn = collocation.pinn

    def loss(params):
        return sum(r.square().sum() for r in collocation.residuals(params).values())

    blocks = torch.func.hessian(loss)(pinn.params)
    sizes = {name: p.numel() for name, p in pinn.params.items()}
    rows = [torch.cat([blocks[a][b].reshape(sizes[a], sizes[b]) for b in sizes], 1) for a in sizes]
    dense = Hessian(collocation, ONES, 9).dense()
    np.testing.assert_allclose(dense, torch.cat(rows).numpy(), rtol=0, atol=1e-11 * dense.max())


@pytest.mark.parametrize("keep_graph", [True, False, None])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_products(collocation, reference, keep_graph, batch_size):
    hessian = Hessian(collocation, ONES, batch_size, keep_graph)
    for seed in range(3):
        v = np.random.default_rng(seed).standard_normal(hessian.n_params)
        for vector in (v, v[:, None], torch.as_tensor(v)):
            product = hessian.matvec(vector)
            assert (product.shape, product.dtype) == ((hessian.n_params,), np.float64)
            np.testing.assert_allclose(product, reference @ v, rtol=1e-9, atol=1e-10)
    assert hessian.n_products == 9
    np.testing.assert_allclose(hessian.operator() @ v, reference @ v, rtol=1e-9, atol=1e-10)


def test_graph_is_kept_within_its_budget(collocation, monkeypatch):
    assert Hessian(collocation, ONES, 7)._keep
    monkeypatch.setattr(f"{Hessian.__module__}.GRAPH_BUDGET_BYTES", 1000)
    assert not Hessian(collocation, ONES, 7)._keep


def test_float32_products(flow_pinn, flow_points):
    x = flow_points(20, 2)
    single, double = (
        Hessian(flow_pinn(LAYERS, dtype=dtype).at(x), ONES, 7)
        for dtype in (torch.float32, torch.float64)
    )
    v = np.random.default_rng(0).standard_normal(single.n_params)
    expected = double.matvec(v)
    assert abs(single.matvec(v) - expected).max() < 1e-4 * abs(expected).max()


def test_hessian_leaves_the_network_alone(collocation):
    before = {name: p.clone() for name, p in collocation.pinn.network.named_parameters()}
    Hessian(collocation, ONES, 7).dense()
    for name, p in collocation.pinn.network.named_parameters():
        assert p.grad is None
        torch.testing.assert_close(p, before[name], rtol=0, atol=0)


def test_residuals_that_miss_parameters():
    """Laplace's equation alone: the last bias has no part in it."""
    equation = Equation(lambda f: {"laplace": f.u_xx + f.u_yy})
    torch.manual_seed(0)
    pinn = Pinn(MLP((2, 4, 1), "tanh").double(), ("x", "y"), ("u",), (equation,))
    x = np.random.default_rng(0).random((6, 2)).astype(np.float32)
    dense = Hessian(pinn.at(x), {"laplace": 1.0}, 4).dense()
    assert abs(dense).max() > 0
    assert (dense[-1] == 0).all()
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)


# ---- what every matrix promises


@pytest.mark.parametrize("name", OPERATORS)
def test_the_parts_of_a_matrix_agree(collocation, name):
    """What each says of itself, by which inverses, damping and estimates go."""
    matrix = OPERATORS[name](collocation, WEIGHTS, 7)
    counts: list[int] = []
    dense = matrix.dense(counts.append)
    tolerance = 1e-11 * abs(dense).max()
    assert dense.shape == matrix.shape == (matrix.n_params,) * 2
    np.testing.assert_array_equal(dense, dense.T)
    assert sum(counts) == matrix.n_steps
    vectors = np.random.default_rng(0).standard_normal((matrix.n_params, 2))
    np.testing.assert_allclose(matrix.matmat(vectors), dense @ vectors, rtol=0, atol=tolerance * 99)
    if matrix.semidefinite:
        assert np.linalg.eigvalsh(dense)[0] > -tolerance
    assert matrix.is_hessian == np.allclose(
        dense, by_autograd(collocation, WEIGHTS), atol=tolerance
    )
    if matrix.has_rows:
        rows = matrix.rows()
        assert rows.shape == (matrix.n_residuals, matrix.n_params)
        np.testing.assert_allclose(rows.T @ rows, dense, rtol=0, atol=tolerance)
    else:
        with pytest.raises(TypeError, match=type(matrix).__name__):
            matrix.rows()


@pytest.mark.parametrize("name", OPERATORS)
def test_a_matrix_of_other_points(collocation, name):
    half = collocation.subset(np.arange(0, len(collocation.x), 2))
    found = OPERATORS[name](collocation, WEIGHTS, 7).at(half).dense()
    expected = OPERATORS[name](half, WEIGHTS, 7).dense()
    np.testing.assert_array_equal(found, expected)


def test_names_are_those_of_the_files():
    files = Path(str(operators.__file__)).parent.glob("[!_]*.py")
    assert set(OPERATORS) == {path.stem.replace("_", "-") for path in files}
    assert {"hessian": Hessian, "gauss-newton": GaussNewton}.items() <= OPERATORS.items()


# ---- Gauss-Newton


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
    matrix, scale = GaussNewton(collocation, WEIGHTS, batch_size), abs(gauss_newton).max()
    counts: list[int] = []
    dense = matrix.dense(counts.append)
    np.testing.assert_allclose(dense, gauss_newton, rtol=0, atol=1e-12 * scale)
    np.testing.assert_array_equal(dense, dense.T)
    assert sum(counts) == matrix.n_residuals
    rows = matrix.rows()
    assert rows.shape == (matrix.n_residuals, matrix.n_params)
    np.testing.assert_allclose(rows.T @ rows, gauss_newton, rtol=0, atol=1e-12 * scale)
    vectors = np.random.default_rng(0).standard_normal((matrix.n_params, 3))
    expected = gauss_newton @ vectors
    np.testing.assert_allclose(matrix.matmat(vectors), expected, rtol=0, atol=1e-11 * scale)
    operator = matrix.operator()
    np.testing.assert_allclose(operator @ vectors, expected, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(operator.T @ vectors[:, 0], expected[:, 0], rtol=1e-9, atol=1e-9)
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

    shifted = Shifted(**{key: value for key, value in vars(collocation).items() if key != "names"})
    hessian = Hessian(shifted, WEIGHTS, 1000)
    hessian._chunks = lambda: [shifted]  # type: ignore[method-assign]
    M = GaussNewton(collocation, WEIGHTS, 1000).dense()
    np.testing.assert_allclose(hessian.dense(), M, rtol=0, atol=1e-12 * abs(M).max())
    other = Hessian(collocation, WEIGHTS, 1000).dense()
    assert abs(other - M).max() > 1e-3 * abs(M).max()


def test_gauss_newton_of_another_module(flow_pinn, collocation, gauss_newton):
    """A module that is no MLP, and one whose residuals ``torch.func`` cannot differentiate."""
    pinn, v = collocation.pinn, np.random.default_rng(0).standard_normal(len(gauss_newton))
    module = wrapped(pinn)
    matrix = GaussNewton(module.at(collocation.x), WEIGHTS, 7)
    expected = gauss_newton @ v
    np.testing.assert_allclose(matrix.matvec(v), expected, rtol=1e-9, atol=1e-9)

    def refuse(*arguments):
        raise RuntimeError("not functional")

    matrix = GaussNewton(collocation, WEIGHTS, 7)
    matrix._product = refuse  # type: ignore[method-assign]
    np.testing.assert_allclose(matrix.matvec(v), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(matrix.matvec(v), expected, rtol=1e-9, atol=1e-9)


def test_gauss_newton_in_float32(flow_pinn, flow_points):
    x = flow_points(20, 2)
    single, double = (
        GaussNewton(flow_pinn(LAYERS, dtype=dtype).at(x), ONES, 7)
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
    matrix, tolerance = BySize(collocation, {}, batch_size), 1e-12 * abs(expected).max()
    np.testing.assert_allclose(matrix.dense(), expected, rtol=0, atol=tolerance)
    rows, v = matrix.rows(), np.random.default_rng(0).standard_normal(matrix.n_params)
    np.testing.assert_allclose(rows.T @ rows, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(matrix.matvec(v), expected @ v, rtol=0, atol=99 * tolerance)


def test_mirror():
    matrix = np.asfortranarray(np.random.default_rng(0).random((7, 7)))
    expected = np.tril(matrix) + np.tril(matrix, -1).T
    mirror(matrix, 3)
    np.testing.assert_array_equal(matrix, expected)
