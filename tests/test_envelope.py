"""Envelopes against autograd, and what the model ``best`` gets from its own."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from torch import Tensor

from pinnfluence import MLP, Equation, InputError, Pinn, from_deepxde
from pinnfluence.influence.embeddings import project
from pinnfluence.models.deepxde import model as deepxde_model
from pinnfluence.problems.cylinder_flow import CENTER, HEIGHT, PROBLEM, RADIUS, no_slip_envelope
from pinnfluence.runtime.executor import Executor

POINTS = np.random.default_rng(1).random((40, 2)) * [0.6, 0.4] + [0.3, 0.005]
INDICES = [i for n in range(3) for i in combinations_with_replacement((0, 1), n)]


def envelope(x: Tensor) -> Tensor:
    return torch.stack([torch.sin(3 * x[:, 0]) * x[:, 1] ** 2, torch.exp(x[:, 0] * x[:, 1])], 1)


def network(factor=envelope, layers=(2, 7, 6, 2)) -> MLP:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return MLP(layers, "tanh", (1.5, 0.5), factor).double()


def by_autograd(function, x: Tensor, index: tuple[int, ...], output: int) -> Tensor:
    x = x.clone().requires_grad_()
    value = function(x)[:, output]
    for i in index:
        value = torch.autograd.grad(value.sum(), x, create_graph=True)[0][:, i]
    return value.detach()


def test_outputs_are_the_factor_times_the_network() -> None:
    x = torch.as_tensor(POINTS)
    plain = network(None)
    torch.testing.assert_close(network()(x), envelope(x) * plain(x), rtol=1e-14, atol=0)


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("output", [0, 1])
def test_derivatives_follow_the_product_rule(index: tuple[int, ...], output: int) -> None:
    x, net = torch.as_tensor(POINTS), network()
    found = net.taylor(dict(net.named_parameters()), x, [index])[index]
    assert found is not None
    plain = network(None)
    expected = by_autograd(lambda points: envelope(points) * plain(points), x, index, output)
    torch.testing.assert_close(found[:, output].detach(), expected, rtol=1e-10, atol=1e-12)


def test_gradients_of_points_in_threads() -> None:
    net = network(layers=(2, 64, 64, 2))
    flow = Equation(lambda f: {"r": f.u * f.u_x + f.v_yy - f.u_xy})
    pinn = Pinn(net, ("x", "y"), ("u", "v"), (flow,))
    n_params = sum(p.numel() for p in pinn.params.values())
    basis = torch.as_tensor(np.random.default_rng(0).standard_normal((n_params, 3)))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = project(pinn.at(np.repeat(POINTS, 20, 0)), basis, Executor(250))["r"].gradients
    finally:
        torch.set_num_threads(before)
    x = torch.as_tensor(POINTS)

    def residual(points: Tensor) -> Tensor:
        points = points.requires_grad_()
        y = net(points)
        u_x = torch.autograd.grad(y[:, 0].sum(), points, create_graph=True)[0][:, 0]
        u_xy = torch.autograd.grad(u_x.sum(), points, create_graph=True)[0][:, 1]
        v_y = torch.autograd.grad(y[:, 1].sum(), points, create_graph=True)[0][:, 1]
        v_yy = torch.autograd.grad(v_y.sum(), points, create_graph=True)[0][:, 1]
        return y[:, 0] * u_x + v_yy - u_xy

    for i in (0, 17, 39):
        slope = torch.autograd.grad(residual(x[i : i + 1].clone())[0], list(net.parameters()))
        expected = torch.cat([g.flatten() for g in slope]) @ basis
        torch.testing.assert_close(found[20 * i + 7], expected, rtol=1e-9, atol=1e-12)


# ---- the model best


@pytest.fixture(scope="module")
def best():
    problem = PROBLEM.variant("best")
    return deepxde_model.build(
        problem.changed(num_domain=200, num_boundary=80), "corrected", seed=42
    )


def test_the_envelope_is_zero_where_nothing_moves() -> None:
    angle = torch.linspace(0, 6, 50, dtype=torch.float64)
    circle = torch.stack([torch.cos(angle), torch.sin(angle)], 1) * RADIUS + torch.tensor(CENTER)
    x = torch.linspace(0, 2.2, 50, dtype=torch.float64)
    walls = [torch.stack([x, torch.full_like(x, y)], 1) for y in (0.0, HEIGHT)]
    factor = no_slip_envelope(torch.cat([circle, *walls]))
    assert factor[:, :2].abs().max() < 1e-6  # the constants' own rounding on the circle
    assert torch.equal(factor[:, 2], torch.ones(150, dtype=torch.float64))
    inside = no_slip_envelope(torch.as_tensor(POINTS))
    assert (inside[:, :2] > 0).all()


def test_a_model_read_from_deepxde_keeps_its_envelope(best) -> None:
    weights = [best.pinn.loss_weights[name] for name in best.pinn.terms]
    best.compile("adam", lr=1e-3, loss_weights=weights, verbose=0)
    network = from_deepxde(best).network
    x = torch.cat([torch.zeros(1, 2), torch.as_tensor(best.train_x[::20])]).double()
    with torch.no_grad():
        expected = no_slip_envelope(x) * plain(best.net, x)
        torch.testing.assert_close(network(x), expected, rtol=1e-6, atol=1e-9)
        assert network(x)[0, :2].tolist() == [0.0, 0.0]


def test_a_model_with_other_loss_weights_is_refused(best) -> None:
    best.compile("adam", lr=1e-3, verbose=0)
    with pytest.raises(InputError, match="loss term continuity is"):
        from_deepxde(best)


def plain(network: MLP, x: Tensor) -> Tensor:
    """The perceptron without its envelope, by torch's layers."""
    z = x / torch.tensor(PROBLEM.variant("best").network.scale, dtype=x.dtype)
    *hidden, last = network.linears.to(x.dtype)
    for linear in hidden:
        z = torch.nn.functional.gelu(linear(z))
    z = last(z)
    network.linears.to(torch.float32)
    return z


def test_first_layer_begins_at_the_cylinders_centre(best) -> None:
    first = best.net.linears[0]
    center = torch.tensor(CENTER) / torch.tensor(PROBLEM.variant("best").network.scale)
    torch.testing.assert_close(first(center), torch.zeros(32), rtol=0, atol=1e-5)
    assert first.bias.abs().max() > 0.1
