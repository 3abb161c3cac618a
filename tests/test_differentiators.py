"""Gradients of single points against a loop over points with autograd, by each differentiator."""

import numpy as np
import pytest
import torch
from brute_force import TERMS, gradients
from loops_over_points import LAYERS, WEIGHTS, basis_of, close, point_rows, small_flow
from wrapped import wrapped

from pinnfluence.field.field import Declared
from pinnfluence.field.network import MLP
from pinnfluence.loss.differentiators import (
    Differentiator,
    differentiator_of,
    jacobian,
)
from pinnfluence.loss.differentiators.double_backward import DoubleBackward
from pinnfluence.loss.differentiators.functional import Functional
from pinnfluence.loss.differentiators.taylor import Taylor
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation, Pinn
from pinnfluence.loss.points import PointSet
from pinnfluence.problem.equation import Equation

by_differentiator = pytest.mark.parametrize(
    "differentiator", [Taylor(), Functional(), DoubleBackward()], ids=lambda d: d.name
)


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return small_flow(flow_pinn, flow_points)


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
