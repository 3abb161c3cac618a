"""The loss against sums that are written out: residuals by nested autograd, loops over points."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import TERMS, flow_masks, flow_residuals
from torch import Tensor

from pinnfluence import Equation, Pinn
from pinnfluence.field.field import Declared
from pinnfluence.field.network import MLP
from pinnfluence.influence.stationarity import stationarity
from pinnfluence.loss.differentiators import loss_gradient
from pinnfluence.loss.loss import Loss
from pinnfluence.loss.pinn import Collocation
from pinnfluence.loss.points import PointSet
from pinnfluence.runtime.executor import Executor

LAYERS = (2, 6, 5, 3)
WEIGHTS = dict(zip(TERMS, np.linspace(0.3, 4.0, len(TERMS)), strict=True))
C = {"continuity": 0.5, "inflow_u": 3.0, "noslip_v": 0.0}


@pytest.fixture(scope="module")
def collocation(flow_pinn, flow_points) -> Collocation:
    return replace(flow_pinn(LAYERS), loss_weights=C).at(flow_points(13))


@pytest.fixture(scope="module")
def residuals(collocation) -> dict[str, Tensor]:
    """All nine residuals at all points, with a graph to the network's parameters; 0 elsewhere."""
    x = torch.as_tensor(collocation.x).double().requires_grad_()
    found, masks = flow_residuals(collocation.pinn.network(x), x), flow_masks(x)
    return {name: torch.where(masks[name], r, 0.0) for name, r in found.items()}


@pytest.fixture(scope="module")
def n_acting(collocation) -> dict[str, int]:
    masks = flow_masks(torch.as_tensor(collocation.x).double())
    return {name: int(mask.sum()) for name, mask in masks.items()}


def close(found, expected) -> None:
    found, expected = (torch.as_tensor(t).detach() for t in (found, expected))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ["uniform", "of_training", "of_means"])
def test_weights(collocation, n_acting, kind) -> None:
    """w_k is 1, c_k / |S_k| and 1 / |S_k|."""
    loss = getattr(Loss, kind)(collocation)
    expected = {
        "uniform": dict.fromkeys(TERMS, 1.0),
        "of_training": {k: C.get(k, 1.0) / n for k, n in n_acting.items()},
        "of_means": {k: 1 / n for k, n in n_acting.items()},
    }
    assert loss.weights == pytest.approx(expected[kind], rel=1e-15)
    assert tuple(loss.weights) == TERMS


def test_value_terms_and_point_losses(collocation, residuals) -> None:
    loss, params = Loss(collocation, WEIGHTS), collocation.pinn.params
    squares = {name: WEIGHTS[name] * r.square() for name, r in residuals.items()}
    close(loss.point_losses(params), sum(squares.values()))
    close(loss.value(params), sum(s.sum() for s in squares.values()))
    for name, term in loss.terms(params).items():
        close(term, squares[name][collocation.term_rows()[name]])


def test_gradient(collocation, residuals) -> None:
    expected = torch.autograd.grad(
        sum(WEIGHTS[name] * r.square().sum() for name, r in residuals.items()),
        list(collocation.pinn.network.parameters()),
        retain_graph=True,
    )
    flat = torch.cat([g.flatten() for g in expected])
    loss = Loss(collocation, WEIGHTS)
    for batch_size in (1, 7, 1000):
        close(loss_gradient(loss, batch_size), flat)
    theta = {n: p.clone().requires_grad_() for n, p in collocation.pinn.params.items()}
    found = torch.autograd.grad(loss.value(theta), list(theta.values()))
    close(torch.cat([g.flatten() for g in found]), flat)


def test_scaled_residuals_make_the_loss_half_a_square(collocation, residuals) -> None:
    """L = |s|^2 / 2, and s is (2 w_k)^1/2 r_k, term by term."""
    loss, params = Loss(collocation, WEIGHTS), collocation.pinn.params
    s = loss.scaled_residuals(params)
    assert s.shape == (collocation.n_residuals,)
    close(s.square().sum() / 2, loss.value(params))
    rows = collocation.term_rows()
    close(s, torch.cat([(2 * WEIGHTS[n]) ** 0.5 * residuals[n][rows[n]] for n in TERMS]))
    for name, r in residuals.items():
        assert loss.scale(name) ** 2 == pytest.approx(2 * WEIGHTS[name])
        close(loss.slopes(name, r), 2 * WEIGHTS[name] * r)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_sums_over_batches(collocation, residuals, n_acting, batch_size) -> None:
    loss = Loss(collocation, WEIGHTS)
    close(loss.density(batch_size), sum(WEIGHTS[n] * r.square() for n, r in residuals.items()))
    expected = {n: WEIGHTS[n] * float(r.detach().square().sum()) for n, r in residuals.items()}
    assert loss.term_sums(batch_size) == pytest.approx(expected, rel=1e-12)
    means = {n: float(r.detach().square().sum()) / n_acting[n] for n, r in residuals.items()}
    assert Loss.of_means(collocation).term_sums(batch_size) == pytest.approx(means, rel=1e-12)
    params = collocation.pinn.params
    close(sum(chunk.value(params) for chunk in loss.chunks(batch_size)), loss.value(params))


def test_some_points_keep_their_weights(collocation, residuals) -> None:
    loss, some = Loss.of_training(collocation), np.array([0, 3, 4, 20, 30])
    part = loss.subset(some)
    assert part.weights == loss.weights
    expected = sum(loss.weights[n] * r.square() for n, r in residuals.items())
    close(part.point_losses(collocation.pinn.params), expected[some])


def test_one_equation_alone(collocation, residuals) -> None:
    loss = Loss(collocation, WEIGHTS)
    for number, names in enumerate(collocation.names):
        one = loss.only(number)
        expected = sum(WEIGHTS[n] * residuals[n].square().sum() for n in names)
        close(one.value(collocation.pinn.params), expected)


def test_stationarity(collocation, residuals) -> None:
    """Norms of the points' gradients by one backward pass each."""
    loss, params = Loss.of_training(collocation), list(collocation.pinn.network.parameters())
    losses = sum(loss.weights[n] * r.square() for n, r in residuals.items())
    rows = []
    for value in losses:
        found = torch.autograd.grad(value, params, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in found]))
    gradients = torch.stack(rows)
    facts = stationarity(loss, Executor(7))
    norm, median = float(gradients.sum(0).norm()), float(gradients.norm(dim=1).median())
    assert facts["gradient_norm"] == pytest.approx(norm)
    assert facts["median_point_gradient_norm"] == pytest.approx(median)
    assert facts["ratio"] == pytest.approx(norm / median)


# ---- where terms act nowhere, points have data and images


def plain(equations: tuple[Equation, ...], **settings) -> Pinn:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((2, 5, 1), "tanh").double()
    return Pinn(network, ("x", "t"), ("u",), equations, **settings)


def test_a_term_that_acts_nowhere() -> None:
    nowhere = Equation(lambda f: {"edge": f.u}, lambda x: x[:, 0] > 5)
    pinn = plain((Equation(lambda f: {"heat": f.u_t - f.u_xx}), nowhere))
    loss = Loss.of_training(pinn.at(np.random.default_rng(0).random((6, 2))))
    assert loss.weights == {"heat": 1 / 6, "edge": 1.0}
    assert loss.term_sums(4)["edge"] == 0
    assert loss.density(4).shape == (6,)
    assert loss.scaled_residuals(pinn.params).shape == (6,)


def test_no_points() -> None:
    pinn = plain((Equation(lambda f: {"heat": f.u_t - f.u_xx}),))
    loss = Loss.uniform(pinn.at(np.zeros((0, 2))))
    assert loss.density(4).shape == (0,)
    assert loss.value(pinn.params) == 0
    assert loss.term_sums(4) == {"heat": 0.0}


def test_a_point_set_of_ones_own() -> None:
    """Rows as they are given, numbers at them, and a second point of each."""
    value = frozenset({()})
    given = Declared(("data",), value, lambda f: [f.u - f.data[:, 0]])
    periodic = Declared(("periodic",), value, lambda f: [f.u - f.image.u])
    pinn = plain((Equation(given), Equation(periodic)))
    x, rng = np.random.default_rng(0).random((7, 2)), np.random.default_rng(1)
    rows = (np.array([0, 2, 3, 6]), np.array([1, 2, 5]))
    data, images = rng.random((4, 1)), rng.random((3, 2))
    points = PointSet(x, rows, (data, None), (None, images))
    assert points.has_images
    collocation = Collocation(pinn, pinn.equations, points)
    assert collocation.n_residuals == 7
    tensors = collocation.tensors()
    close(tensors.x, np.concatenate([x, images]))
    with torch.no_grad():
        u = pinn.network(torch.as_tensor(x))[:, 0].numpy()
        there = pinn.network(torch.as_tensor(images))[:, 0].numpy()
    expected = {"data": u[rows[0]] - data[:, 0], "periodic": u[rows[1]] - there}
    for at in (None, tensors):
        for name, r in collocation.residuals(pinn.params, at).items():
            close(r, expected[name])
    loss = Loss(collocation, {"data": 2.0, "periodic": 0.7})
    by_point = np.zeros(7)
    by_point[rows[0]] += 2.0 * expected["data"] ** 2
    by_point[rows[1]] += 0.7 * expected["periodic"] ** 2
    for size in (1, 2, 100):
        close(loss.density(size), by_point)
    some = np.array([2, 5, 6])
    close(loss.subset(some).density(2), by_point[some])
    with_images = replace(loss, collocation=collocation.only(1))
    close(with_images.density(10), 0.7 * expected["periodic"] ** 2)


def test_the_same_points_as_in_training_have_its_rows() -> None:
    """Where the training says which rows an equation had, these are taken, not the places."""
    edge = Equation(lambda f: {"edge": f.u}, lambda x: x[:, 0] == 0)
    x = np.array([[0.0, 0.1], [0.0, 0.1], [0.5, 0.5]])
    known = PointSet(x, (np.array([1]),), (None,), (None,))
    pinn = plain((edge,), training=known)
    assert pinn.at(x).term_rows()["edge"].tolist() == [1]
    assert pinn.at(x[:2]).term_rows()["edge"].tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_are_like_the_network(flow_pinn, flow_points, dtype) -> None:
    collocation = flow_pinn(LAYERS, dtype=dtype).at(flow_points(3))
    assert collocation.tensors().x.dtype == dtype
    assert collocation.tensors(torch.zeros(0, dtype=torch.float64)).x.dtype == torch.float64


# ---- some of the parameters are theta


@pytest.mark.parametrize("theta", [(), ("nothing",), ("linears.0.weight", "b")])
def test_parameters_that_are_not_there(theta) -> None:
    with pytest.raises(ValueError, match="theta must be parameters of the network"):
        plain((Equation(lambda f: {"r": f.u}),), theta=theta)


def test_gradients_by_some_parameters() -> None:
    """The others are constants: the loss is the same, its gradient has the entries of theta."""
    equations = (Equation(lambda f: {"heat": f.u_t - f.u_xx}),)
    whole, part = plain(equations), plain(equations, theta=("linears.1.weight",))
    x = np.random.default_rng(0).random((6, 2))
    losses = [Loss.uniform(pinn.at(x)) for pinn in (whole, part)]
    close(*(loss.value(loss.pinn.params) for loss in losses))
    sizes = [p.numel() for p in whole.network.parameters()]
    blocks = dict(zip(whole.params, loss_gradient(losses[0], 4).split(sizes), strict=True))
    close(loss_gradient(losses[1], 4), blocks["linears.1.weight"])
    assert part.n_params == 5
