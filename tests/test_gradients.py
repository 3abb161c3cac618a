"""Gradients of single points against a loop over points with autograd."""

import functools

import numpy as np
import pytest
import torch
from brute_force import TERMS, FlowColumns, flow_residuals, gradients
from pinnfluence.loss.gradients import point_loss_gradients, project_gradients, split_basis
from torch import Tensor
from wrapped import by_kind, wrapped

from pinnfluence.field.network import MLP
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.problem import Equation

LAYERS = (2, 6, 5, 3)
WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))


by_kind_and_batch_size = pytest.mark.parametrize(
    ("kind", "batch_size"),
    [
        *(pytest.param(lambda pinn: pinn, n, id=f"mlp-{n}") for n in (1, 7, 1000)),
        *(pytest.param(wrapped, n, id=f"module-{n}") for n in (7, 1000)),
    ],
)


def residuals_of(pinn: Pinn, conditions: str = "corrected"):
    return lambda x: flow_residuals(pinn.network(x), x, conditions=conditions)


def identity(pinn: Pinn) -> Tensor:
    n_params = sum(p.numel() for p in pinn.params.values())
    return torch.eye(n_params, dtype=next(iter(pinn.params.values())).dtype)


@functools.cache
def basis(n_params: int) -> Tensor:
    return torch.randn(n_params, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    pinn, x = flow_pinn(LAYERS), flow_points(10, 5)[::2]
    assert all(len(rows) > 1 for rows in pinn.at(x).term_rows().values())
    return pinn, x, torch.as_tensor(x).double()


@by_kind_and_batch_size
def test_every_term_at_every_point(case, kind, batch_size):
    pinn, x, points = case
    found = project_gradients(kind(pinn).at(x), identity(pinn), batch_size)
    expected = gradients(pinn.network, residuals_of(pinn), points)
    values = residuals_of(pinn)(points.clone().requires_grad_())
    assert tuple(found) == TERMS
    for name, rows in pinn.at(x).term_rows().items():
        np.testing.assert_array_equal(found[name].rows, rows)
        torch.testing.assert_close(found[name].values, values[name][rows], rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(
            found[name].gradients, expected[name][rows], rtol=1e-9, atol=1e-13, msg=name
        )


@pytest.mark.parametrize("activation", ["gelu", "sigmoid", "silu", "sin", "tanh"])
def test_every_activation(flow_pinn, flow_points, activation):
    pinn, x = flow_pinn(LAYERS, activation, conditions="published"), flow_points(1, 2)[::3]
    found = project_gradients(pinn.at(x), identity(pinn), 5)
    points = torch.as_tensor(x.copy()).double()
    expected = gradients(pinn.network, residuals_of(pinn, "published"), points)
    for name, p in found.items():
        torch.testing.assert_close(
            p.gradients, expected[name][p.rows], rtol=1e-9, atol=1e-13, msg=name
        )


@by_kind
def test_observables(case, kind):
    pinn, x, points = case
    found = project_gradients(kind(pinn).at(x, [pinn.observables]), identity(pinn), 9)
    columns = FlowColumns(pinn.network)
    names = ("u", "v", "p", "speed")
    expected = gradients(
        pinn.network, lambda x: dict(zip(names, columns(x)[0, :4], strict=True)), points
    )
    assert tuple(found) == names
    for name in names:
        torch.testing.assert_close(found[name].gradients, expected[name], rtol=1e-9, atol=1e-13)


@by_kind_and_batch_size
def test_projection_is_the_product_with_the_basis(case, kind, batch_size):
    pinn, x, _ = case
    R = basis(len(identity(pinn)))
    whole = project_gradients(pinn.at(x), identity(pinn), 50)
    found = project_gradients(kind(pinn).at(x), R, batch_size)
    for name in TERMS:
        torch.testing.assert_close(
            found[name].gradients, whole[name].gradients @ R, rtol=1e-9, atol=1e-13
        )


def test_module_one_point_at_a_time(case):
    pinn, x, _ = case
    one, all_at_once = (
        project_gradients(wrapped(pinn).at(x[:6]), identity(pinn), n) for n in (1, 6)
    )
    for name in TERMS:
        torch.testing.assert_close(one[name].gradients, all_at_once[name].gradients)


def test_progress_counts_every_gradient(case):
    pinn, x, _ = case
    counts: list[int] = []
    project_gradients(pinn.at(x), identity(pinn), 7, counts.append)
    assert sum(counts) == sum(len(rows) for rows in pinn.at(x).term_rows().values())
    assert max(counts) == 7


def test_a_term_without_points(flow_pinn):
    pinn = flow_pinn(LAYERS)
    found = project_gradients(pinn.at(np.array([[1.0, 0.2]], np.float32)), identity(pinn), 5)
    assert found["noslip_u"].gradients.shape == (0, len(identity(pinn)))
    assert found["noslip_u"].values.shape == found["noslip_u"].rows.shape == (0,)
    assert found["continuity"].gradients.shape == (1, len(identity(pinn)))


@by_kind
@pytest.mark.parametrize("name", ["u_xx", "u_x"])
def test_residuals_that_miss_parameters(kind, name):
    """Residuals of derivatives only: the last bias has no part in them."""
    equation = Equation(lambda f: {"r": getattr(f, name)})
    pinn = kind(Pinn(MLP((2, 3, 1), "tanh").double(), ("x", "y"), ("u",), (equation,)))
    x = np.random.default_rng(0).random((4, 2)).astype(np.float32)
    found = project_gradients(pinn.at(x), identity(pinn), 3)["r"].gradients
    assert torch.isfinite(found).all()
    assert (found[:, -1] == 0).all()
    assert found.any()
    norms, total = point_loss_gradients(pinn.at(x), {"r": 1.0}, 3)
    assert norms.shape == (4,)
    assert total.shape == (len(identity(pinn)),)


def test_float32_is_float64_up_to_rounding(flow_pinn, flow_points):
    x = flow_points(20, 2)
    single, double = (flow_pinn(LAYERS, dtype=d) for d in (torch.float32, torch.float64))
    single, double = (project_gradients(p.at(x), identity(p), 50) for p in (single, double))
    for name in TERMS:
        one, other = single[name].gradients, double[name].gradients
        assert one.dtype == torch.float32
        assert (one - other).abs().max() < 1e-5 * other.abs().max()


# ---- gradients of the points' losses


@by_kind_and_batch_size
def test_point_loss_gradients(case, kind, batch_size):
    """||grad l_i|| with l_i = sum_k w_k r_k(z_i)^2 over the terms that act on i, and grad L."""
    pinn, x, points = case
    rows = pinn.at(x).term_rows()
    acting = {name: np.isin(np.arange(len(x)), found) for name, found in rows.items()}
    values, found = residuals_of(pinn)(points.clone().requires_grad_()), []
    slopes = gradients(pinn.network, residuals_of(pinn), points.detach())
    for i in range(len(x)):
        here = [name for name in TERMS if acting[name][i]]
        found.append(
            torch.stack([2 * WEIGHTS[n] * values[n][i].detach() * slopes[n][i] for n in here]).sum(
                0
            )
        )
    expected = torch.stack(found)
    norms, total = point_loss_gradients(kind(pinn).at(x), WEIGHTS, batch_size)
    torch.testing.assert_close(norms, expected.norm(dim=1), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(total, expected.sum(0), rtol=1e-9, atol=1e-12)


def test_split_basis_follows_the_parameters():
    params = {"a": torch.zeros(2, 3), "b": torch.zeros(2)}
    blocks = split_basis(torch.arange(16.0).reshape(8, 2), params)
    assert {name: block.shape for name, block in blocks.items()} == {"a": (6, 2), "b": (2, 2)}
    assert blocks["b"].tolist() == [[12.0, 13.0], [14.0, 15.0]]
