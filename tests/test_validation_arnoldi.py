"""Stock captum's Arnoldi on a PINN: against a dense Hessian, captum's own scores, and ours."""

import numpy as np
import pytest
import torch
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from torch import nn

from pinnfluence import MLP, Equation, Pinn
from pinnfluence.curvature.operators import Hessian
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.validation.arnoldi import (
    HESSIAN_REG,
    LossesAsTheyAre,
    PointLosses,
    arnoldi_influence,
    projection,
)
from pinnfluence.validation.predictions import Predictions

RANK = 10


def at_edge(x: np.ndarray) -> np.ndarray:
    return np.abs(x[:, 0]) <= 1e-6


EQUATIONS = (
    Equation(lambda f: {"equation": f.u_t - f.u_xx - torch.sin(3 * f.x) * f.t}),
    Equation(lambda f: {"edge": f.u - f.t}, at_edge),
)


class Output(nn.Module):
    """The network's first output at a point, which captum is given in place of a loss."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)[:, 0]


@pytest.fixture(scope="module")
def train_x():
    x = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    x[:12, 0] = 0
    return x


@pytest.fixture(scope="module")
def test_x():
    return np.random.default_rng(1).random((9, 2))


@pytest.fixture(scope="module")
def pinn():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((2, 6, 5, 1), "tanh", (1.0, 1.0)).double()
    return Pinn(network, ("x", "t"), ("u",), EQUATIONS, loss_weights={"edge": 3.0})


def weighted(pinn, train_x, weighting):
    make = Loss.of_training if weighting == "training" else Loss.uniform
    return make(pinn.at(train_x))


def loss_of(pinn, x, theta, weights):
    """Sum of the losses at some points, with nested autograd and no code of the package."""
    names = [name for name, _ in pinn.network.named_parameters()]
    shapes = [p.shape for p in pinn.network.parameters()]
    parts = theta.split([shape.numel() for shape in shapes])
    params = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)}
    x = torch.as_tensor(x).double().requires_grad_()
    u = torch.func.functional_call(pinn.network, params, (x,))[:, 0]
    u_x, u_t = torch.autograd.grad(u.sum(), x, create_graph=True)[0].unbind(1)
    u_xx = torch.autograd.grad(u_x.sum(), x, create_graph=True)[0][:, 0]
    equation = u_t - u_xx - torch.sin(3 * x[:, 0]) * x[:, 1]
    edge = (u - x[:, 1])[x[:, 0] < 1e-6]
    return weights["equation"] * equation.square().sum() + weights["edge"] * edge.square().sum()


def dense_scores(pinn, train_x, test_x, weights):
    """Scores ``[n_test, n_train]`` by the inverse on the largest eigenpairs of the dense H."""
    theta = torch.cat([p.detach().flatten() for p in pinn.network.parameters()])
    H = torch.autograd.functional.hessian(lambda t: loss_of(pinn, train_x, t, weights), theta)
    values, vectors = torch.linalg.eigh(H)
    values, vectors = values[-RANK:] + HESSIAN_REG, vectors[:, -RANK:]
    inverse = vectors @ torch.diag(1 / values) @ vectors.T

    def loss_gradient(x):
        return torch.autograd.functional.jacobian(lambda t: loss_of(pinn, x, t, weights), theta)

    losses = torch.stack([loss_gradient(x[None]) for x in train_x])
    outputs = pinn.network(torch.as_tensor(test_x))[:, 0]
    rows = [torch.autograd.grad(u, pinn.network.parameters(), retain_graph=True) for u in outputs]
    tested = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    return (tested @ inverse @ losses.T).numpy()


@pytest.mark.parametrize("weighting", ["uniform", "training"])
def test_scores_are_those_of_the_dense_hessian(pinn, train_x, test_x, weighting):
    loss = weighted(pinn, train_x, weighting)
    R = projection(arnoldi_influence(loss, RANK))
    assert R.shape == (pinn.n_params, RANK)
    groups = [np.array([i]) for i in range(len(train_x))]
    known = Predictions(pinn, train_x, test_x, groups)
    found = known._by(lambda columns: R @ (R.T @ columns), loss)[..., 0]
    expected = dense_scores(pinn, train_x, test_x, loss.weights).T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * abs(expected).max())


def test_scores_are_captums_own(pinn, train_x, test_x):
    groups = [np.array([i]) for i in range(len(train_x))]
    methods = {m.weighting: m for m in Predictions(pinn, train_x, test_x, groups).arnoldi()}
    for weighting, method in methods.items():
        fitted = arnoldi_influence(weighted(pinn, train_x, weighting))
        assert type(fitted) is ArnoldiInfluenceFunction
        everywhere = torch.arange(len(train_x))
        train = fitted.compute_intermediate_quantities((everywhere, everywhere))
        fitted.model = Output(pinn.network)
        fitted.test_loss_fn, fitted.test_reduction_type = LossesAsTheyAre(), "none"
        places = torch.as_tensor(test_x)
        test = fitted.compute_intermediate_quantities((places, places), test=True)
        expected = (train @ test.T).numpy()
        np.testing.assert_allclose(method.predict()[..., 0], expected, rtol=1e-8, atol=1e-12)
        assert (method.curvature, method.rank) == ("hessian", len(fitted.R))


def test_its_products_are_those_of_the_hessian_with_the_same_settings(pinn, train_x):
    of_training = weighted(pinn, train_x, "training")
    model = PointLosses(of_training)
    names = [name for name, _ in model.named_parameters()]
    params = tuple(model.parameters())
    v = tuple(torch.arange(p.numel()).double().sin().view_as(p) for p in params)

    def loss(*values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, given, torch.arange(len(train_x))).sum()

    _, product = torch.autograd.functional.hvp(loss, params, v)
    flat = torch.cat([part.flatten() for part in v]).numpy()
    expected = Hessian(of_training, Executor(40)).dense() @ flat
    found = torch.cat([part.flatten() for part in product]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * abs(expected).max())


def test_torchs_seed_is_left_alone(pinn, train_x):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    arnoldi_influence(weighted(pinn, train_x, "uniform"), RANK)
    assert torch.rand(1) == expected
