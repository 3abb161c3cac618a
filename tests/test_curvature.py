"""The Hessian and the Gauss-Newton matrix against loops with nested autograd, in float64."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals
from curvature_cases import LAYERS, ONES, WEIGHTS, Counted
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg
from torch import Tensor
from wrapped import wrapped

from pinnfluence.curvature import operators
from pinnfluence.curvature.operators import OPERATORS, GaussNewton, Hessian
from pinnfluence.field.network import MLP
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime import executor
from pinnfluence.runtime.executor import Executor


@pytest.fixture(scope="module")
def collocation(flow_pinn, flow_points):
    return flow_pinn(LAYERS).at(flow_points(20, 2)[::2])


@pytest.fixture(scope="module")
def reference(collocation) -> np.ndarray:
    return by_autograd(collocation, ONES)


def by_autograd(collocation: Collocation, weights: Mapping[str, float]) -> np.ndarray:
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
    dense = Hessian(Loss(collocation, weights), Executor(1000)).dense()
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
    dense = Hessian(Loss(collocation, ONES), Executor(9)).dense()
    np.testing.assert_allclose(dense, torch.cat(rows).numpy(), rtol=0, atol=1e-11 * dense.max())


@pytest.mark.parametrize("keep_graph", [True, False, None])
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_products(collocation, reference, keep_graph, batch_size):
    hessian = Hessian(Loss(collocation, ONES), Executor(batch_size), keep_graph)
    v = np.random.default_rng(0).standard_normal(hessian.n_params)
    for product in (hessian.matvec(v), hessian @ v, hessian.T @ v, (hessian @ v[:, None])[:, 0]):
        assert (product.shape, product.dtype) == ((hessian.n_params,), np.float64)
        np.testing.assert_allclose(product, reference @ v, rtol=1e-9, atol=1e-10)
    assert hessian.n_products == 4


def test_graph_is_kept_within_its_budget(collocation, monkeypatch):
    assert Hessian(Loss(collocation, ONES), Executor(7))._keep
    monkeypatch.setattr(f"{Hessian.__module__}.GRAPH_BUDGET_BYTES", 1000)
    assert not Hessian(Loss(collocation, ONES), Executor(7))._keep


def test_float32_products(flow_pinn, flow_points):
    x = flow_points(20, 2)
    single, double = (
        Hessian(Loss(flow_pinn(LAYERS, dtype=dtype).at(x), ONES), Executor(7))
        for dtype in (torch.float32, torch.float64)
    )
    v = np.random.default_rng(0).standard_normal(single.n_params)
    expected = double.matvec(v)
    assert abs(single.matvec(v) - expected).max() < 1e-4 * abs(expected).max()


def test_hessian_leaves_the_network_alone(collocation):
    before = {name: p.clone() for name, p in collocation.pinn.network.named_parameters()}
    Hessian(Loss(collocation, ONES), Executor(7)).dense()
    for name, p in collocation.pinn.network.named_parameters():
        assert p.grad is None
        torch.testing.assert_close(p, before[name], rtol=0, atol=0)


def test_residuals_that_miss_parameters():
    """Laplace's equation alone: the last bias has no part in it."""
    equation = Equation(lambda f: {"laplace": f.u_xx + f.u_yy})
    torch.manual_seed(0)
    pinn = Pinn(MLP((2, 4, 1), "tanh").double(), ("x", "y"), ("u",), (equation,))
    x = np.random.default_rng(0).random((6, 2)).astype(np.float32)
    dense = Hessian(Loss.uniform(pinn.at(x)), Executor(4)).dense()
    assert abs(dense).max() > 0
    assert (dense[-1] == 0).all()
    np.testing.assert_allclose(dense, dense.T, atol=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_matrix_is_a_linear_operator_of_scipy(collocation, name):
    """Sums and solvers of SciPy take it as it is."""
    matrix = OPERATORS[name](Loss(collocation, WEIGHTS), Executor(7))
    dense, b = matrix.dense(), np.random.default_rng(0).standard_normal(matrix.n_params)
    assert isinstance(matrix, LinearOperator)
    damped = matrix + 1e3 * aslinearoperator(np.eye(matrix.n_params))
    np.testing.assert_allclose(damped @ b, dense @ b + 1e3 * b, rtol=1e-9)
    found, failed = cg(damped, b, rtol=1e-12)
    assert not failed
    expected = np.linalg.solve(dense + 1e3 * np.eye(len(dense)), b)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("kind", [lambda pinn: pinn, wrapped], ids=["mlp", "module"])
def test_a_matrix_by_some_of_the_parameters(collocation, name, kind):
    """Of theta alone it is the block of the whole that belongs to it."""
    pinn = kind(collocation.pinn)
    theta = tuple(name for name in pinn.params if "linears.2" in name)
    columns = np.isin([n for n, p in pinn.params.items() for _ in range(p.numel())], theta)
    assert 0 < columns.sum() < pinn.n_params
    part = replace(pinn, theta=theta)
    whole = OPERATORS[name](Loss(collocation, WEIGHTS), Executor(7)).dense()
    matrix = OPERATORS[name](Loss(part.at(collocation.x), WEIGHTS), Executor(7))
    expected, v = whole[np.ix_(columns, columns)], np.arange(columns.sum()) - 3.0
    tolerance = 1e-11 * abs(whole).max()
    np.testing.assert_allclose(matrix.dense(), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(matrix @ v, expected @ v, rtol=0, atol=99 * tolerance)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "hessian" else n for n in OPERATORS]
)
def test_threads_change_nothing(flow_pinn, flow_points, name, monkeypatch):
    """Also of a network whose derivatives are in forward mode, which allows one thread."""
    monkeypatch.setattr(executor, "ENTRIES_WORTH_A_THREAD", 0)
    x, before = flow_points(0), torch.get_num_threads()
    for pinn in (flow_pinn(LAYERS), wrapped(flow_pinn(LAYERS))):
        matrix = OPERATORS[name](Loss(pinn.at(x), WEIGHTS), Executor(13))
        v = np.random.default_rng(0).standard_normal(matrix.n_params)
        expected = matrix.dense(), matrix @ v
        torch.set_num_threads(2)
        try:
            np.testing.assert_allclose(matrix.dense(), expected[0], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(matrix @ v, expected[1], rtol=1e-9, atol=1e-9)
        finally:
            torch.set_num_threads(before)


@pytest.mark.parametrize("name", OPERATORS)
def test_the_parts_of_a_matrix_agree(collocation, name):
    """What each says of itself, by which inverses, damping and estimates go."""
    stages = Counted()
    matrix = OPERATORS[name](Loss(collocation, WEIGHTS), Executor(7, stages))
    dense = stages.counted(matrix)
    tolerance = 1e-11 * abs(dense).max()
    assert dense.shape == matrix.shape == (matrix.n_params,) * 2
    np.testing.assert_array_equal(dense, dense.T)
    assert sum(stages.counts) == matrix.n_steps
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
    loss = Loss(collocation, WEIGHTS)
    half = loss.subset(np.arange(0, len(loss), 2))
    found = OPERATORS[name](loss, Executor(7)).at(half).dense()
    expected = OPERATORS[name](half, Executor(7)).dense()
    np.testing.assert_array_equal(found, expected)


def test_names_are_those_of_the_files():
    files = Path(str(operators.__file__)).parent.glob("[!_]*.py")
    assert set(OPERATORS) == {path.stem.replace("_", "-") for path in files}
    assert {"hessian": Hessian, "gauss-newton": GaussNewton}.items() <= OPERATORS.items()
