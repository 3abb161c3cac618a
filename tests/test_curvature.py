"""The Hessian against ``torch.func.hessian`` in float64, its eigenpairs against LAPACK."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals
from torch import Tensor

from pinnfluence import curvature
from pinnfluence.curvature import Hessian, top_eigenpairs
from pinnfluence.errors import InputError
from pinnfluence.network import MLP
from pinnfluence.problem import Equation
from pinnfluence.terms import Collocation, Pinn

LAYERS = (2, 6, 5, 3)
ONES = dict.fromkeys(TERMS, 1.0)
WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))


class Matrix:
    """A given symmetric matrix in the place of a Hessian."""

    def __init__(self, dense: np.ndarray) -> None:
        self.matrix, self.n_params, self.shape = dense, len(dense), dense.shape
        self.n_products = 0

    def matvec(self, vector: np.ndarray) -> np.ndarray:
        self.n_products += 1
        return self.matrix @ np.reshape(vector, -1)

    def dense(self, advance: Callable[[int], object]) -> np.ndarray:
        advance(len(self.matrix))
        return self.matrix


def with_eigenvalues(values: np.ndarray) -> Matrix:
    rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((len(values),) * 2))[0]
    return Matrix(rotation * values @ rotation.T)


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
    monkeypatch.setattr(curvature, "GRAPH_BUDGET_BYTES", 1000)
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


# ---- eigenpairs


@pytest.fixture(params=["dense", "lanczos"])
def path(request, monkeypatch):
    if request.param == "lanczos":
        monkeypatch.setattr(curvature, "DENSE_LIMIT", 0)
    return request.param


def test_eigenpairs_of_the_flow(collocation, reference, path):
    values, vectors = np.linalg.eigh(reference)
    pairs = top_eigenpairs(Hessian(collocation, ONES, 7), 12, 0.0, 0.0)
    np.testing.assert_allclose(pairs.values, values[::-1][:12], rtol=1e-9)
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(12), atol=1e-9)
    overlap = abs((pairs.vectors * vectors[:, ::-1][:, :12]).sum(0))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    if path == "dense":
        np.testing.assert_allclose(pairs.most_negative, values[0], rtol=1e-9)
    else:  # a Ritz value is an average of eigenvalues
        assert values[0] <= pairs.most_negative < 0
    assert pairs.n_products > 12


def test_eigenpairs_do_not_depend_on_the_batch_size(collocation, path):
    one, other = (
        top_eigenpairs(Hessian(collocation, ONES, size), 12, 1e-6, 1e-5) for size in (11, 1000)
    )
    np.testing.assert_allclose(one.values, other.values, rtol=1e-9)
    np.testing.assert_allclose(
        one.vectors @ one.vectors.T, other.vectors @ other.vectors.T, atol=1e-8
    )


def test_the_same_again_is_the_same(collocation, path):
    one, other = (top_eigenpairs(Hessian(collocation, ONES, 7), 12, 0, 0) for _ in range(2))
    np.testing.assert_array_equal(one.vectors, other.vectors)


def test_largest_are_not_the_largest_in_size(path):
    values = np.linspace(-50, 3, 60)
    pairs = top_eigenpairs(with_eigenvalues(values), 4, 0.0, 0.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(pairs.values, values[::-1][:4], rtol=1e-6)
    assert pairs.most_negative == pytest.approx(-50, rel=0.1 if path == "lanczos" else 1e-9)


def test_shift_is_added_and_the_threshold_applies_after_it(path):
    matrix = with_eigenvalues(np.concatenate([-np.arange(1.0, 57), [0.25, 1.0, 2.0, 4.0]]))
    find = functools.partial(top_eigenpairs, matrix, 4)  # type: ignore[arg-type]
    np.testing.assert_allclose(find(0.0, -9.0).values, [4, 2, 1, 0.25], atol=1e-9)
    np.testing.assert_allclose(find(0.5, -9.0).values, [4.5, 2.5, 1.5, 0.75], atol=1e-9)
    np.testing.assert_allclose(find(0.5, 1.2).values, [4.5, 2.5, 1.5], atol=1e-9)
    np.testing.assert_allclose(find(0.0, 1.2).values, [4, 2], atol=1e-9)
    assert find(0.5, 1.2).vectors.shape == (60, 3)
    assert find(0.5, -9.0).most_negative == pytest.approx(find(0.0, -9.0).most_negative)


def test_rank_beyond_the_number_of_parameters():
    pairs = top_eigenpairs(with_eigenvalues(np.arange(1.0, 6)), 50, 0.0, 0.0)  # type: ignore[arg-type]
    np.testing.assert_allclose(pairs.values, [5, 4, 3, 2, 1])


def test_no_eigenvalue_above_the_threshold(path):
    matrix = with_eigenvalues(np.linspace(-5, 1, 60))
    with pytest.raises(InputError, match=r"exceeds 2, the largest is 1$"):
        top_eigenpairs(matrix, 4, 0.0, 2.0)  # type: ignore[arg-type]


def test_nan(path):
    matrix = Matrix(np.full((60, 60), np.nan))
    with pytest.raises(InputError, match="NaN or infinite"):
        top_eigenpairs(matrix, 4, 0.0, 0.0)  # type: ignore[arg-type]


def test_a_network_that_overflows(flow_pinn, flow_points, path):
    pinn = flow_pinn(LAYERS)
    with torch.no_grad():
        pinn.network.linears[-1].weight.fill_(1e200)
    with pytest.raises(InputError, match="NaN or infinite"):
        top_eigenpairs(Hessian(pinn.at(flow_points(5, 0)), ONES, 9), 5, 0.0, 0.0)


def test_no_convergence(monkeypatch):
    monkeypatch.setattr(curvature, "DENSE_LIMIT", 0)
    monkeypatch.setattr(curvature, "eigsh", functools.partial(curvature.eigsh, maxiter=1))
    matrix = with_eigenvalues(1 + 1e-9 * np.arange(200.0) ** 2)
    with pytest.raises(InputError, match=r"found \d+ of 20 eigenpairs in \d+ products"):
        top_eigenpairs(matrix, 20, 0.0, 0.0)  # type: ignore[arg-type]


def test_rank_below_one():
    with pytest.raises(InputError, match="at least 1, found 0"):
        top_eigenpairs(with_eigenvalues(np.ones(3)), 0, 0.0, 0.0)  # type: ignore[arg-type]
