"""A problem that is linear in its parameters, with an unknown constant and measurements."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_diagnosis import heat_pinn, heat_points
from torch import nn

from pinnfluence import Equation, InputError, Pinn
from pinnfluence.diagnosis import factor
from pinnfluence.diagnosis import press as press_module
from pinnfluence.diagnosis.error_estimate import estimate_error
from pinnfluence.diagnosis.fresh import FreshPoints, FreshSets, draw
from pinnfluence.diagnosis.inverse_parameters import unknowns_of
from pinnfluence.diagnosis.loss_weights import weight_steps
from pinnfluence.diagnosis.press import press
from pinnfluence.field.field import Declared


def loss_at(pinn, x):
    return FreshPoints.all_of(pinn.at(x)).loss


def estimate(pinn, sampler, n=400):
    return estimate_error(FreshSets(*(draw(pinn, sampler, n, seed) for seed in (0, 1))))[0]


class Measured(nn.Module):
    """``u = sum_n theta_n sin(n pi x)`` and an unknown of its equation."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.unknowns = nn.ParameterList([nn.Parameter(torch.zeros(1, dtype=torch.float64))])

    def forward(self, x):
        n = torch.arange(1, 4, dtype=x.dtype)
        return (torch.sin(math.pi * x * n) * self.theta).sum(1, keepdim=True)


MEASURED_X = np.linspace(0.05, 0.95, 25, dtype=np.float32)
SIGMA, TRUE = 0.1, 1.7


def measured(seed, weight=3.0):
    """``u_xx = -k pi^2 sin(pi x)`` with k = TRUE from measurements of u with noise SIGMA."""
    noise = SIGMA * np.random.default_rng(seed).standard_normal(len(MEASURED_X))
    y = TRUE * np.sin(np.pi * MEASURED_X) + noise

    def equation(f):
        k = f.params["unknowns.0"] if f.params else 0.0
        return {"poisson": f.u_xx + k * math.pi**2 * torch.sin(math.pi * f.x)}

    equations = (
        Equation(equation),
        Equation(
            Declared(("data",), frozenset([()]), lambda f: [f.u - f.data[:, 0]]),
            lambda x: np.isin(x[:, 0], MEASURED_X),
            lambda x: y[np.searchsorted(MEASURED_X, x[:, 0])][:, None],
        ),
    )
    pinn = Pinn(Measured(), ("x",), ("u",), equations, loss_weights={"data": weight})
    points = np.concatenate([MEASURED_X, np.linspace(0, 1, 40, dtype=np.float32)])[:, None]
    return pinn, loss_at(pinn, np.unique(points, axis=0))


def test_intervals_of_an_unknown_cover_it_as_often_as_they_say():
    covered = 0
    for seed in range(100):
        _, loss = measured(seed)
        inverse = factor.SingularValues(loss)
        found = unknowns_of(loss, inverse, 1e-14, {"data": SIGMA})
        estimate = found.values[0] + inverse.step(1e-14)[-1]  # the problem is linear: the minimum
        low, high = found.intervals()[0] - found.values[0] + estimate
        covered += low <= TRUE <= high
    assert 90 <= covered <= 99, covered
    assert found.determined[0] == pytest.approx(1, abs=1e-6)


def test_an_unknown_without_noise_level_has_sensitivities_and_one_without_data_is_not_determined():
    _, loss = measured(0)
    found = unknowns_of(loss, factor.SingularValues(loss), 1e-12)
    known = unknowns_of(loss, factor.SingularValues(loss), 1e-12, {"data": 2.0})
    assert found.covariance is None
    assert known.deviations is not None
    np.testing.assert_allclose(2 * found.sensitivities, known.deviations, rtol=1e-9)
    with pytest.raises(InputError, match="noise level"):
        found.intervals()
    rest = replace(loss, weights={**loss.weights, "data": 0 * loss.weights["data"]})
    without = unknowns_of(rest, factor.SingularValues(rest), 1e-12)
    assert without.determined[0] < 0.7


def test_weights_move_the_minimum_of_a_linear_problem_as_predicted():
    def minimum(weight):
        _, loss = measured(0, weight)
        return factor.SingularValues(loss).step(1e-14)

    middle, h = 3.0, 1e-4
    pinn, loss = measured(0, middle)
    here = loss.of(corrected_theta(pinn, minimum(middle)))
    predicted = weight_steps(here, factor.SingularValues(here), 1e-14)["data"]
    actual = (minimum(middle * math.exp(h)) - minimum(middle * math.exp(-h))) / (2 * h)
    np.testing.assert_allclose(predicted, actual, atol=1e-6 * np.abs(actual).max())


def corrected_theta(pinn, d):
    """The same PINN at other parameters."""
    network = Measured()
    torch.nn.utils.vector_to_parameters(torch.as_tensor(d), network.parameters())
    return replace(pinn, network=network)


def test_deleted_residuals_of_a_linear_problem_are_those_without_the_residual():
    pinn, loss = measured(0)
    theta = factor.SingularValues(loss).step(1e-14)
    here = loss.of(corrected_theta(pinn, theta))
    found = press(here, factor.SingularValues(here), 1e-14)
    A, s = loss.jacobian(), loss.residuals()
    squares = []
    for i in range(len(s)):
        rest = np.arange(len(s)) != i
        d = np.linalg.lstsq(A[rest], -s[rest], rcond=None)[0]
        squares.append(0.5 * (s[i] + A[i] @ d) ** 2)
    for name, rows in loss.slices.items():
        assert found.losses[name] == pytest.approx(sum(squares[rows]), rel=1e-6)
    assert found.effective == pytest.approx(pinn.n_params, rel=1e-6)
    assert found.leverage.sum() == pytest.approx(pinn.n_params, rel=1e-6)


def test_what_a_sample_says_of_the_loss_between_points_is_no_less_than_the_loss(monkeypatch):
    """Terms of few points are taken whole; of the others the ratio of squares is what counts."""
    here = loss_at(heat_pinn((2, 6, 1)), heat_points(300, 4))
    inverse = factor.SingularValues(here)
    whole = press_module.press(here, inverse, 1e-9)
    monkeypatch.setattr(press_module, "MAX_ROWS", 240)
    found, own = press_module.press(here, inverse, 1e-9), here.term_losses()
    assert [rows.stop - rows.start for rows in here.slices.values()] == [450, 75, 75]
    for name, rows in here.slices.items():
        taken = int(((found.rows >= rows.start) & (found.rows < rows.stop)).sum())
        assert taken == (90 if name == "heat" else 75)
        assert found.losses[name] >= own[name]
        assert found.losses[name] == pytest.approx(whole.losses[name], rel=0.2)
