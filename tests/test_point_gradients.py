"""Gradients of residuals, losses and quantities of points, batch by batch."""

import numpy as np
import pytest
import torch
from brute_force import TERMS, FlowColumns, gradients
from loops_over_points import LAYERS, WEIGHTS, basis_of, close, point_rows, residuals_of, small_flow
from torch import Tensor
from wrapped import by_kind, wrapped

from pinnfluence.field.network import MLP
from pinnfluence.influence.embeddings import project
from pinnfluence.influence.stationarity import point_gradients
from pinnfluence.loss.differentiators import (
    jacobian,
    loss_gradients,
    point_loss_rows,
    projection,
)
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Pinn
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.executor import Executor

by_kind_and_batch_size = pytest.mark.parametrize(
    ("kind", "batch_size"),
    [
        *(pytest.param(lambda pinn: pinn, n, id=f"mlp-{n}") for n in (1, 7, 1000)),
        *(pytest.param(wrapped, n, id=f"module-{n}") for n in (7, 1000)),
    ],
)


def identity(pinn: Pinn) -> Tensor:
    return torch.eye(pinn.n_params, dtype=pinn.like.dtype)


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return small_flow(flow_pinn, flow_points)


@by_kind_and_batch_size
def test_every_term_at_every_point(case, kind, batch_size) -> None:
    pinn, x, values, rows = case
    found = project(kind(pinn).at(x), identity(pinn), Executor(batch_size))
    R = basis_of(pinn.n_params)
    projected = project(kind(pinn).at(x), R, Executor(batch_size))
    assert tuple(found) == TERMS
    for name, here in pinn.at(x).term_rows().items():
        close(found[name].values, values[name][here], name)
        close(found[name].gradients, rows[name][here], name)
        close(projected[name].gradients, rows[name][here] @ R, name)


@pytest.mark.parametrize("activation", ["gelu", "sigmoid", "silu", "sin", "tanh"])
def test_every_activation(flow_pinn, flow_points, activation) -> None:
    pinn, x = flow_pinn(LAYERS, activation, conditions="published"), flow_points(1, 2)[::3]
    points = torch.as_tensor(x.copy()).double()
    expected = gradients(pinn.network, residuals_of(pinn, "published"), points)
    rows = pinn.at(x).term_rows()
    for name, p in project(pinn.at(x), identity(pinn), Executor(5)).items():
        close(p.gradients, expected[name][rows[name]], name)


@by_kind
def test_observables(case, kind) -> None:
    pinn, x, _, _ = case
    found = project(kind(pinn).at(x, [pinn.observables]), identity(pinn), Executor(9))
    columns, names = FlowColumns(pinn.network), ("u", "v", "p", "speed")
    expected = gradients(
        pinn.network,
        lambda x: dict(zip(names, columns(x)[0, :4], strict=True)),
        torch.as_tensor(x).double(),
    )
    assert tuple(found) == names
    for name in names:
        close(found[name].gradients, expected[name], name)


@by_kind_and_batch_size
def test_point_gradients(case, kind, batch_size) -> None:
    """||grad l_i|| and grad L, and the rows behind them."""
    pinn, x, values, rows = case
    expected = point_rows(pinn, x, values, rows)
    loss = Loss(kind(pinn).at(x), WEIGHTS)
    norms, total = point_gradients(loss, Executor(batch_size))
    close(norms, expected.norm(dim=1))
    close(total, expected.sum(0))
    close(torch.cat([point_loss_rows(part) for part in loss.chunks(batch_size)]), expected)


def test_a_weight_of_zero_takes_a_term_out(case) -> None:
    pinn, x, values, rows = case
    weights = WEIGHTS | {"momentum_x": 0.0, "noslip_u": 0.0}
    loss = Loss(pinn.at(x), weights)
    expected = point_rows(pinn, x, values, rows)
    for name in ("momentum_x", "noslip_u"):
        here = pinn.at(x).term_rows()[name]
        expected[here] -= (2 * WEIGHTS[name] * values[name][:, None] * rows[name])[here]
    close(point_loss_rows(loss), expected)
    close(loss_gradients(loss)[1], expected.sum(0))


def test_a_term_without_points(flow_pinn) -> None:
    pinn = flow_pinn(LAYERS)
    found = project(pinn.at(np.array([[1.0, 0.2]], np.float32)), identity(pinn), Executor(5))
    assert found["noslip_u"].gradients.shape == (0, pinn.n_params)
    assert found["noslip_u"].values.shape == (0,)
    assert found["continuity"].gradients.shape == (1, pinn.n_params)


def test_losses_of_no_points(flow_pinn) -> None:
    pinn = flow_pinn(LAYERS)
    norms, total = loss_gradients(Loss.uniform(pinn.at(np.zeros((0, 2)))))
    assert norms.shape == (0,)
    assert total.shape == (pinn.n_params,)
    assert not total.any()


@by_kind
@pytest.mark.parametrize("name", ["u_xx", "u_x"])
def test_residuals_that_miss_parameters(kind, name) -> None:
    """Residuals of derivatives only: the last bias has no part in them."""
    equation = Equation(lambda f: {"r": getattr(f, name)})
    pinn = kind(Pinn(MLP((2, 3, 1), "tanh").double(), ("x", "y"), ("u",), (equation,)))
    x = np.random.default_rng(0).random((4, 2)).astype(np.float32)
    found = project(pinn.at(x), identity(pinn), Executor(3))["r"].gradients
    assert torch.isfinite(found).all()
    assert (found[:, -1] == 0).all()
    assert found.any()
    norms, total = point_gradients(Loss.uniform(pinn.at(x)), Executor(3))
    assert norms.shape == (4,)
    assert total.shape == (pinn.n_params,)


@by_kind
def test_residuals_without_parameters(kind) -> None:
    """A residual of the point alone: its gradient is zero, by every differentiator."""
    equations = (Equation(lambda f: {"r": f.x * 2}), Equation(lambda f: {"s": f.u}))
    pinn = kind(Pinn(MLP((2, 3, 1), "tanh").double(), ("x", "y"), ("u",), equations))
    one = pinn.at(np.random.default_rng(0).random((4, 2))).only(0)
    values, rows = jacobian(one)["r"]
    assert values.shape == (4,)
    assert rows.shape == (4, pinn.n_params)
    assert not rows.any()
    assert not projection(one, basis_of(pinn.n_params))["r"][1].any()
    norms, total = loss_gradients(Loss(one, {"r": 1.0}))
    assert not norms.any()
    assert not total.any()


def test_float32_is_float64_up_to_rounding(flow_pinn, flow_points) -> None:
    x = flow_points(20, 2)
    single, double = (
        project(pinn.at(x), identity(pinn), Executor(50))
        for pinn in (flow_pinn(LAYERS, dtype=d) for d in (torch.float32, torch.float64))
    )
    for name in TERMS:
        one, other = single[name].gradients, double[name].gradients
        assert one.dtype == torch.float32
        assert (one - other).abs().max() < 1e-5 * other.abs().max()
