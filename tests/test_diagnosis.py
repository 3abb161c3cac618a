"""The estimate of a network's error from points on which it was not trained."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pinnfluence import MLP, Equation, Pinn
from pinnfluence.diagnosis import factor
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.diagnosis.error_estimate import NewtonStep, Trial, estimate_error
from pinnfluence.diagnosis.fresh import FreshPoints, FreshSets, draw, split
from pinnfluence.diagnosis.sampler import sampler_of
from pinnfluence.loss.differentiators import jacobian
from pinnfluence.problems import burgers, heat
from pinnfluence.runtime.devices import float64_array
from pinnfluence.storage.config import RunConfig


class Sines(nn.Module):
    """``u = sum_n theta_n sin(n pi x)``: linear in its parameters, zero at 0 and 1."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x):
        n = torch.arange(1, len(self.theta) + 1, dtype=x.dtype)
        return (torch.sin(math.pi * x * n) * self.theta).sum(1, keepdim=True)


def poisson(exact):
    """``u_xx = -sum_n (n pi)^2 exact_n sin(n pi x)`` as a Pinn whose network is far from it."""

    def equation(f):
        source = sum(
            (n * math.pi) ** 2 * a * torch.sin(n * math.pi * f.x) for n, a in enumerate(exact, 1)
        )
        return {"poisson": f.u_xx + source}

    return Pinn(Sines([0.5, -1.0, 0.25, 2.0]), ("x",), ("u",), (Equation(equation),))


def uniform(n, seed):
    return np.random.default_rng(seed).random((n, 1)).astype(np.float32)


def heat_pinn(layers=(2, 12, 12, 1), seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MLP(layers, "tanh").double()
    return Pinn.of(heat.PROBLEM, "dirichlet", network)


def heat_points(n, seed):
    rng = np.random.default_rng(seed)
    inside, ends, start = rng.random((n, 2)), rng.random((n // 4, 2)), rng.random((n // 4, 2))
    ends[:, 0] = np.round(ends[:, 0])
    start[:, 1] = 0
    return np.concatenate([start, ends, inside]).astype(np.float32)


def values(pinn, x, name="u"):
    found = pinn.at(x, [Equation(lambda f: {name: getattr(f, name)})])
    with torch.no_grad():
        return float64_array(found.residuals(pinn.params)[name])


def loss_at(pinn, x):
    return FreshPoints.all_of(pinn.at(x)).loss


def estimate(pinn, sampler, n=400):
    return estimate_error(FreshSets(*(draw(pinn, sampler, n, seed) for seed in (0, 1))))[0]


def test_a_linear_model_of_a_linear_equation_is_corrected_to_its_solution():
    exact = [1.0, 0.5, -0.75, 0.125]
    pinn, x = poisson(exact), np.linspace(0, 1, 31)[:, None]
    found = estimate(pinn, uniform)
    solution = sum(a * np.sin(n * np.pi * x[:, 0]) for n, a in enumerate(exact, 1))
    np.testing.assert_allclose(values(corrected(pinn, found.best.step), x), solution, atol=1e-9)
    assert found.unexplained < 1e-6


def test_the_scatter_of_an_estimate_is_told_from_one_draw_of_fresh_points():
    """The network lacks the sixth sine of the solution, so its fit depends on the points."""
    pinn = poisson([1.0, 0.5, -0.75, 0.125, 0.0, 0.02])
    directions = np.eye(4)
    estimates, variances = [], []
    for seed in range(25):
        fit = loss_at(pinn, uniform(60, seed))
        inverse = factor.SingularValues(fit)
        d = inverse.step(1e-20)
        step = NewtonStep(pinn, fit, inverse, None, Trial(1e-20, 0.0, d))
        shares, variance = step.contributions(directions)
        np.testing.assert_allclose(shares.sum(0), d, rtol=1e-6, atol=1e-9)
        estimates.append(d)
        variances.append(variance)
    scatter = np.std(estimates, axis=0, ddof=1)
    np.testing.assert_allclose(np.mean(variances, 0) ** 0.5, scatter, rtol=0.5)


def test_error_of_an_untrained_network_of_the_heat_equation():
    pinn, x = heat_pinn(), heat_points(500, 9)
    found = estimate(pinn, heat_points, 800)
    error = heat.solution(x)["u"] - values(pinn, x)
    estimated = values(corrected(pinn, found.best.step), x) - values(pinn, x)
    assert np.linalg.norm(error) > 0.3 * np.linalg.norm(heat.solution(x)["u"])
    assert np.linalg.norm(estimated - error) < 0.05 * np.linalg.norm(error)


@pytest.mark.parametrize("name", ["u", "u_x", "u_t", "u_xx"])
def test_corrected_fields_move_along_their_gradients(name):
    pinn, x = heat_pinn(), heat_points(20, 1)
    d = np.random.default_rng(0).standard_normal(pinn.n_params)
    chunk = pinn.at(x, [Equation(lambda f: {name: getattr(f, name)})])
    _, rows = jacobian(chunk)[name]
    moved = values(corrected(pinn, d), x, name) - values(pinn, x, name)
    np.testing.assert_allclose(moved, float64_array(rows) @ d, rtol=1e-10, atol=1e-12)


def test_a_network_of_another_kind_is_corrected_alike():
    pinn, x = heat_pinn(), heat_points(20, 1)
    d = np.random.default_rng(0).standard_normal(pinn.n_params)

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.linears = pinn.network.linears

        def forward(self, x):
            for layer in self.linears[:-1]:
                x = torch.tanh(layer(x))
            return self.linears[-1](x)

    other = corrected(replace(pinn, network=Plain()), d)
    for name in ("u", "u_x", "u_xx"):
        np.testing.assert_allclose(
            values(other, x, name), values(corrected(pinn, d), x, name), rtol=1e-9, atol=1e-12
        )


def test_the_corrected_field_of_a_nonlinear_equation_has_the_equations_own_residual():
    network = heat_pinn().network
    pinn = Pinn.of(burgers.PROBLEM, "dirichlet", network)
    x = heat_points(20, 1)
    d = 0.1 * np.random.default_rng(0).standard_normal(pinn.n_params)
    moved = corrected(pinn, d)
    u, u_x, u_t, u_xx = (values(moved, x, name) for name in ("u", "u_x", "u_t", "u_xx"))
    with torch.no_grad():
        found = moved.at(x).residuals(moved.params)["burgers"]
    np.testing.assert_allclose(float64_array(found), u_t + u * u_x - burgers.NU * u_xx, atol=1e-12)


def test_both_inverses_are_those_of_the_dense_matrix():
    pinn = heat_pinn((2, 6, 1))
    loss = loss_at(pinn, heat_points(60, 0))
    A, s, v = loss.jacobian(), loss.residuals(), np.random.default_rng(0).random(pinn.n_params)
    for inverse in (factor.SingularValues(loss), factor.GramMatrix(loss)):
        np.testing.assert_allclose(inverse.largest, np.linalg.norm(A, 2) ** 2, rtol=1e-2)
        for part in (1e-2, 1e-6):
            M = A.T @ A + part * inverse.largest * np.eye(pinn.n_params)
            np.testing.assert_allclose(inverse.solve(v, part), np.linalg.solve(M, v), rtol=1e-5)
            step = -np.linalg.solve(M, A.T @ s)
            np.testing.assert_allclose(inverse.step(part), step, rtol=1e-5, atol=1e-9)
            trace = np.trace(np.linalg.solve(M, A.T @ A))
            np.testing.assert_allclose(inverse.effective_parameters(part), trace, rtol=0.1)


def test_residuals_and_jacobian_belong_to_the_loss():
    pinn = heat_pinn((2, 6, 1))
    points = FreshPoints(
        pinn.at(heat_points(30, 0)), np.arange(1.0, 45.0), {"heat": 7, "boundary": 3, "initial": 2}
    )
    loss = points.loss
    with torch.no_grad():
        r = {n: float64_array(v) for n, v in pinn.at(points.x).residuals(pinn.params).items()}
    rows = pinn.at(points.x).term_rows()
    by_hand = {n: (points.counts[rows[n]] * r[n] ** 2).sum() / points.n_pool[n] for n in r}
    for name, expected in by_hand.items():
        assert loss.term_losses()[name] == pytest.approx(expected)
    assert loss.point_losses().sum() == pytest.approx(sum(by_hand.values()))
    gradient, theta = loss.jacobian().T @ loss.residuals(), pinn.network.linears[0].bias
    h, found = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            theta[2] += sign * h
        found.append(sum(points.loss.term_losses().values()))
        with torch.no_grad():
            theta[2] -= sign * h
    position = pinn.network.linears[0].weight.numel() + 2
    assert gradient[position] == pytest.approx((found[0] - found[1]) / (2 * h), rel=1e-5)


def test_fresh_points_estimate_the_loss_of_their_pool_without_bias():
    pinn = heat_pinn()
    pool = heat_points(1000, 5)
    expected = sum(loss_at(pinn, pool).term_losses().values())
    found = [
        sum(draw(pinn, lambda n, s: pool, 200, seed).loss.term_losses().values())
        for seed in range(40)
    ]
    assert np.mean(found) == pytest.approx(expected, rel=4 * np.std(found) / 40**0.5 / expected)
    assert np.std(found) < 0.2 * expected


def test_fresh_points_depend_on_their_seed_alone_and_leave_numpy_as_it_was():
    pinn = heat_pinn()
    model = type("Model", (), {"problem": heat.PROBLEM, "config": RunConfig()})()
    sampler = sampler_of(model)
    before = np.random.get_state()  # noqa: NPY002
    first, again, other = (draw(pinn, sampler, 100, seed) for seed in (0, 0, 1))
    np.testing.assert_equal(np.random.get_state(), before)  # noqa: NPY002
    np.testing.assert_array_equal(first.x, again.x)
    assert not set(map(bytes, first.x)) & set(map(bytes, other.x))
    assert (heat.DOMAIN.excess(first.x) <= 1e-6).all()


def test_given_points_are_split_into_two_sets_of_the_same_loss():
    pinn = heat_pinn()
    points = FreshPoints.all_of(pinn.at(heat_points(4000, 0)))
    whole = sum(points.loss.term_losses().values())
    parts = split(points, 0)
    assert sum(len(p.x) for p in parts) == len(points.x)
    for part in parts:
        found = sum(part.loss.term_losses().values())
        assert found == pytest.approx(whole, rel=0.15)
