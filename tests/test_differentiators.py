"""Gradients of single points against a loop over points with autograd, by each differentiator."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from brute_force import TERMS, FlowColumns, flow_residuals, gradients
from torch import Tensor
from wrapped import by_kind, wrapped

from pinnfluence.field.field import Declared
from pinnfluence.field.network import MLP
from pinnfluence.influence.embeddings import project
from pinnfluence.influence.stationarity import point_gradients
from pinnfluence.loss.differentiators import (
    Differentiator,
    differentiator_of,
    jacobian,
    loss_gradients,
    point_loss_rows,
    projection,
)
from pinnfluence.loss.differentiators.double_backward import DoubleBackward
from pinnfluence.loss.differentiators.functional import Functional
from pinnfluence.loss.differentiators.taylor import Taylor
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.loss.points import PointSet
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.executor import Executor

LAYERS = (2, 4, 4, 3)
WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))

by_differentiator = pytest.mark.parametrize(
    "differentiator", [Taylor(), Functional(), DoubleBackward()], ids=lambda d: d.name
)
by_kind_and_batch_size = pytest.mark.parametrize(
    ("kind", "batch_size"),
    [
        *(pytest.param(lambda pinn: pinn, n, id=f"mlp-{n}") for n in (1, 7, 1000)),
        *(pytest.param(wrapped, n, id=f"module-{n}") for n in (7, 1000)),
    ],
)


def residuals_of(pinn: Pinn, conditions: str = "corrected") -> Callable[[Tensor], dict]:
    return lambda x: flow_residuals(pinn.network(x), x, conditions=conditions)


def identity(pinn: Pinn) -> Tensor:
    return torch.eye(pinn.n_params, dtype=pinn.like.dtype)


def basis_of(n_params: int) -> Tensor:
    return torch.randn(n_params, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def close(found: Tensor, expected: Tensor, name: str = "") -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=lambda m: f"{name} {m}")


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    """A network, points, and residuals and gradients at all of them by loops."""
    pinn, x = flow_pinn(LAYERS), flow_points(10, 5)[::2]
    assert all(len(rows) > 1 for rows in pinn.at(x).term_rows().values())
    points = torch.as_tensor(x).double()
    values = residuals_of(pinn)(points.clone().requires_grad_())
    rows = gradients(pinn.network, residuals_of(pinn), points)
    return pinn, x, {name: r.detach() for name, r in values.items()}, rows


def point_rows(pinn: Pinn, x: np.ndarray, values: dict, rows: dict) -> Tensor:
    """grad l_i, the sum over the terms that act on i of 2 w_k r_k grad r_k, ``[n, n_params]``."""
    expected = torch.zeros(len(x), pinn.n_params, dtype=torch.float64)
    for name, acting in pinn.at(x).term_rows().items():
        for i in acting:
            expected[i] += 2 * WEIGHTS[name] * values[name][i] * rows[name][i]
    return expected


# ---- each differentiator


@by_differentiator
def test_jacobian_and_projection(case, differentiator: Differentiator) -> None:
    pinn, x, values, rows = case
    whole, seen = pinn.at(x), []
    R = basis_of(pinn.n_params)
    for one in whole.singles():
        found, projected = differentiator.jacobian(one), differentiator.projection(one, R)
        for name, (r, jac) in found.items():
            here = whole.term_rows()[name]
            close(r, values[name][here], name)
            close(jac, rows[name][here], name)
            close(projected[name][0], values[name][here], name)
            close(projected[name][1], rows[name][here] @ R, name)
        seen += list(found)
    assert tuple(seen) == TERMS


@by_differentiator
def test_gradients_of_the_losses_of_points(case, differentiator: Differentiator) -> None:
    pinn, x, values, rows = case
    loss, expected = Loss(pinn.at(x), WEIGHTS), point_rows(pinn, x, values, rows)
    close(differentiator.point_loss_rows(loss), expected)
    norms, total = differentiator.loss_gradients(loss)
    close(norms, expected.norm(dim=1))
    close(total, expected.sum(0))


@by_differentiator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_have_the_dtype_of_the_basis(case, differentiator, dtype) -> None:
    pinn, x, _, _ = case
    (_, found), *_ = differentiator.projection(
        pinn.at(x).only(0), basis_of(pinn.n_params).to(dtype)
    ).values()
    assert found.dtype == dtype


@by_differentiator
def test_no_points(case, differentiator: Differentiator) -> None:
    pinn, x, _, _ = case
    one = pinn.at(x[:0]).only(0)
    for values, jac in differentiator.jacobian(one).values():
        assert values.shape == (0,)
        assert jac.shape == (0, pinn.n_params)


@by_differentiator
@pytest.mark.parametrize("theta", [("linears.2.weight", "linears.2.bias"), ("linears.1.bias",)])
def test_only_theta(case, differentiator: Differentiator, theta) -> None:
    """The columns of the parameters that are named; the others are constants."""
    pinn, x, values, rows = case
    part = Pinn(pinn.network, pinn.inputs, pinn.outputs, pinn.equations, theta=theta)
    names = [n for n, p in pinn.params.items() for _ in range(p.numel())]
    columns = np.flatnonzero(np.isin(names, theta))
    R = basis_of(len(columns))
    for one in part.at(x).singles():
        projected = differentiator.projection(one, R)
        for name, (r, jac) in differentiator.jacobian(one).items():
            here = part.at(x).term_rows()[name]
            close(r, values[name][here], name)
            close(jac, rows[name][here][:, columns], name)
            close(projected[name][1], jac @ R, name)
    expected = point_rows(pinn, x, values, rows)[:, columns]
    norms, total = differentiator.loss_gradients(Loss(part.at(x), WEIGHTS))
    close(norms, expected.norm(dim=1))
    close(total, expected.sum(0))


@by_differentiator
def test_points_with_images_and_data(differentiator: Differentiator) -> None:
    """A residual of two places: the rows of both add up."""
    torch.manual_seed(0)
    network = MLP((2, 5, 1), "tanh").double()
    jump = Declared(
        ("jump",),
        frozenset({(), (0,)}),
        lambda f: [f.u_x - 2 * f.image.u * f.data[:, 0]],
    )
    equation = Equation(jump)
    pinn = Pinn(network, ("x", "y"), ("u",), (equation,))
    rng = np.random.default_rng(0)
    x, images, data = rng.random((5, 2)), rng.random((5, 2)), rng.random((5, 1))
    points = PointSet(x, (np.arange(5),), (data,), (images,))
    collocation = Collocation(pinn, pinn.equations, points)
    expected, R = [], basis_of(pinn.n_params)
    for here, there, number in zip(x, images, data[:, 0], strict=True):
        point = torch.as_tensor(here)[None].requires_grad_()
        (slope,) = torch.autograd.grad(network(point).sum(), point, create_graph=True)
        value = slope[0, 0] - 2 * network(torch.as_tensor(there)[None])[0, 0] * number
        found = torch.autograd.grad(value, list(network.parameters()), materialize_grads=True)
        expected.append(torch.cat([g.flatten() for g in found]))
    rows = torch.stack(expected)
    values, jac = differentiator.jacobian(collocation)["jump"]
    close(jac, rows)
    close(differentiator.projection(collocation, R)["jump"][1], rows @ R)
    loss = Loss(collocation, {"jump": 0.7})
    norms, total = differentiator.loss_gradients(loss)
    close(norms, (1.4 * values[:, None] * rows).norm(dim=1))
    close(total, (1.4 * values[:, None] * rows).sum(0))


def test_the_fastest_is_chosen(flow_pinn, flow_points) -> None:
    pinn, x = flow_pinn(LAYERS), flow_points(1)
    assert isinstance(differentiator_of(pinn.at(x)), Taylor)
    assert isinstance(differentiator_of(wrapped(pinn).at(x)), Functional)
    assert pinn.at(x).in_threads
    assert not wrapped(pinn).at(x).in_threads  # forward mode is for one thread at a time


def test_what_functional_refuses_is_done_by_double_backward() -> None:
    """An equation that calls NumPy, as a function of detached values."""

    def residual(f):
        factor = torch.as_tensor(np.cos(f.x.detach().numpy()))
        return {"r": f.u * factor}

    torch.manual_seed(0)
    pinn = wrapped(Pinn(MLP((1, 4, 1), "tanh").double(), ("x",), ("u",), (Equation(residual),)))
    x = np.random.default_rng(0).random((5, 1))
    with pytest.warns(
        UserWarning, match=r"slower method, same scores: gradients of r by double backward"
    ):
        found = jacobian(pinn.at(x))["r"][1]
    points = torch.as_tensor(x)
    expected = gradients(
        pinn.network, lambda x: {"r": pinn.network(x)[:, 0] * torch.cos(x[:, 0])}, points
    )
    close(found, expected["r"])


# ---- the functions that take the fastest, batch by batch


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
