"""The Burgers problem: its points and terms, its equation, and the accuracy of its reference."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import deepxde as dde
import numpy as np
import pytest
import torch
from helpers import CALC, TRAIN, history_of, run_well
from torch import Tensor, nn

import pinnfluence
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models import report as model_report
from pinnfluence.models.deepxde.model import PinnModel, build
from pinnfluence.problem.reference import Reference
from pinnfluence.problems import burgers
from pinnfluence.problems.burgers import NU, PROBLEM, SLOPE, STEEPEST, solution
from pinnfluence.reference import cole_hopf
from pinnfluence.training.loss_step import loss_step


@functools.cache
def model(variant: str) -> PinnModel:
    return build(PROBLEM.variant(variant), "dirichlet", seed=42)


@functools.cache
def reference() -> Reference:
    return burgers.reference()


def plain_deepxde(num_domain: int, num_boundary: int, num_initial: int) -> Any:
    """The same problem as one writes it with DeepXDE alone."""
    dde.config.set_random_seed(42)
    space = dde.geometry.Interval(-1, 1)
    domain = dde.geometry.GeometryXTime(space, dde.geometry.TimeDomain(0, 1))

    def pde(x: Tensor, u: Tensor) -> Tensor:
        u_x, u_t = (dde.grad.jacobian(u, x, j=j) for j in (0, 1))
        return u_t + u * u_x - 0.01 / np.pi * dde.grad.hessian(u, x, i=0, j=0)

    ends = dde.icbc.DirichletBC(domain, lambda x: 0, lambda x, on_boundary: on_boundary)
    start = dde.icbc.IC(domain, lambda x: -np.sin(np.pi * x[:, :1]), lambda x, on: on)
    return dde.data.TimePDE(domain, pde, [ends, start], num_domain, num_boundary, num_initial)


# ---- points and terms


@pytest.mark.parametrize(
    ("variant", "sizes"), [("good", (2500, 500, 500)), ("bad", (500, 100, 100))]
)
def test_points_are_those_of_plain_deepxde(variant: str, sizes: tuple[int, int, int]) -> None:
    expected, found = plain_deepxde(*sizes), model(variant)
    assert found.train_x.shape == (sum(sizes), 2)
    np.testing.assert_array_equal(found.train_x, expected.train_x_all)
    np.testing.assert_array_equal(found.data.train_x, expected.train_x)
    assert found.data.num_bcs == expected.num_bcs == [sizes[1], sizes[2]]
    rows = found.pinn.at(found.train_x).term_rows()
    np.testing.assert_array_equal(rows["initial"], np.arange(sizes[2]))
    np.testing.assert_array_equal(rows["boundary"], sizes[2] + np.arange(sizes[1]))
    np.testing.assert_array_equal(rows["burgers"], np.arange(sum(sizes)))


def test_losses_are_deepxdes_own() -> None:
    built = model("bad")
    plain = dde.Model(plain_deepxde(500, 100, 100), built.net)
    plain.compile("adam", lr=1e-3, verbose=0)
    data = plain.data
    expected = plain.outputs_losses_train(data.train_x, data.train_y, data.train_aux_vars)[1]
    step = loss_step(built.pinn.at(built.train_x), torch.float32, torch.device("cpu"))
    torch.testing.assert_close(step(built.pinn.params)[0], expected.detach(), rtol=1e-4, atol=0)


# ---- the equation and its solution


class ColeHopf(nn.Module):
    """The solution by Gauss-Hermite quadrature, which PyTorch can differentiate."""

    def __init__(self, n_nodes: int = 200) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        nodes, weights = np.polynomial.hermite.hermgauss(n_nodes)
        self.nodes, self.weights = torch.tensor(nodes), torch.tensor(weights)

    def forward(self, points: Tensor) -> Tensor:
        x, t = points[:, :1], points[:, 1:]
        y = np.pi * (x - 2 * torch.sqrt(NU * t) * self.nodes)
        weights = self.weights * torch.exp(-torch.cos(y) / (2 * np.pi * NU))
        return -(torch.sin(y) * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)


def residuals_of(network: nn.Module, x: np.ndarray) -> dict[str, Tensor]:
    equations = PROBLEM.equations("dirichlet")
    at = Pinn(network, PROBLEM.inputs, PROBLEM.outputs, equations).at(x)
    return at.residuals(at.pinn.params)


def test_the_exact_solution_has_no_residual() -> None:
    x = model("bad").train_x[100:]  # without t = 0, where the square root has no derivative
    found = residuals_of(ColeHopf(), x)
    size = 150  # of u_t near the shock
    assert found["burgers"].abs().max() < 1e-9 * size
    assert found["boundary"].abs().max() < 1e-13
    x = model("bad").train_x[:100]
    assert len(x)
    np.testing.assert_allclose(solution(x)["u"], -np.sin(np.pi * x[:, 0]), atol=1e-6)


def test_residuals_by_hand() -> None:
    class Polynomial(ColeHopf):
        def forward(self, points: Tensor) -> Tensor:
            return points[:, :1] ** 2 * (1 + points[:, 1:])

    points = model("bad").train_x
    x, t = points.T.astype(np.float64)
    rows = model("bad").pinn.at(points).term_rows()
    expected = {
        "burgers": x**2 + 2 * x**3 * (1 + t) ** 2 - 0.01 / np.pi * 2 * (1 + t),
        "boundary": 1 + t,
        "initial": x**2 + np.sin(np.pi * x),
    }
    for name, residual in residuals_of(Polynomial(), points).items():
        np.testing.assert_allclose(residual, expected[name][rows[name]], rtol=1e-6, atol=1e-12)


def test_the_quadrature_has_converged() -> None:
    """Steps twice and half as long give the same: measured 1e-15, and 6e-7 at four times."""
    x, t = reference().points.astype(np.float64).T
    whole = cole_hopf.burgers(x, t, NU)
    for step in (0.2, 0.05):
        every = slice(None, None, 9)
        np.testing.assert_allclose(
            cole_hopf.burgers(x[every], t[every], NU, step), whole[every], rtol=0, atol=1e-13
        )
    far = cole_hopf.burgers(x, t, NU, 0.4)
    assert 1e-8 < np.abs(far - whole).max() < 1e-5


def test_the_reference_is_that_of_another_quadrature() -> None:
    points = reference().points[::37].astype(np.float64)
    found = ColeHopf()(torch.tensor(points[points[:, 1] > 0])).detach()[:, 0]
    np.testing.assert_allclose(solution(points[points[:, 1] > 0])["u"], found, rtol=0, atol=1e-10)


@functools.cache
def spectral(n: int = 1024, dt: float = 5e-4) -> dict[float, np.ndarray]:
    """u at n equidistant places from -1, by time: Fourier modes, Runge-Kutta of order 4.

    The odd initial wave stays odd, so periodic continuation keeps u(-1) = u(1) = 0. Diffusion is
    integrated exactly.
    """
    k = np.pi * np.fft.rfftfreq(n, 1 / n)
    half = np.exp(-NU * k**2 * dt / 2)
    v = np.fft.rfft(-np.sin(np.pi * (-1 + 2 * np.arange(n) / n)))
    found = {}

    def convect(v: np.ndarray) -> np.ndarray:
        return -0.5j * k * np.fft.rfft(np.fft.irfft(v, n) ** 2) * dt

    for number in range(1, round(1 / dt) + 1):
        a = convect(v)
        b = convect(half * (v + a / 2))
        c = convect(half * v + b / 2)
        d = convect(half**2 * v + half * c)
        v = half**2 * v + (half**2 * a + 2 * half * (b + c) + d) / 6
        found[round(number * dt, 6)] = np.fft.irfft(v, n)
    return found


@pytest.mark.parametrize(
    ("time", "tolerance"),
    [(0.25, 1e-10), (0.5, 2e-6), (1.0, 2e-7)],  # measured 1e-11, 4e-7, 3e-8
)
def test_the_reference_is_that_of_a_spectral_method(time: float, tolerance: float) -> None:
    expected = spectral()[time]
    x = -1 + 2 * np.arange(len(expected)) / len(expected)
    found = cole_hopf.burgers(x, np.full(len(x), time), NU)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_the_shock_is_as_steep_as_published() -> None:
    network = ColeHopf()
    points = np.array([[0.0, STEEPEST], [0.0, STEEPEST - 0.01], [0.0, STEEPEST + 0.01]])
    x = torch.tensor(points, requires_grad=True)
    slopes = torch.autograd.grad(network(x).sum(), x)[0][:, 0]
    assert float(slopes[0]) == pytest.approx(SLOPE, rel=1e-7)
    assert slopes[0] < slopes[1:].min()
    assert PROBLEM.measures is not None
    found = PROBLEM.measures(lambda x, names: {names[0]: np.array([-3.0])})
    assert found == {"slope": -3.0}


def test_the_reference_resolves_the_shock() -> None:
    points, area = reference().points, reference().area
    assert points.shape == (161 * 101, 2)
    assert PROBLEM.domain.excess(points).max() <= 0
    assert area.sum() == pytest.approx(2, rel=1e-6)
    places = np.unique(points[:, 0])
    assert np.diff(places).min() < 0.3 / abs(SLOPE)
    np.testing.assert_allclose(places, -places[::-1], atol=1e-7)
    start, ends = points[:, 1] == 0, np.abs(points[:, 0]) == 1
    values = reference().values["u"]
    np.testing.assert_allclose(values[start], -np.sin(np.pi * points[start, 0]), atol=1e-6)
    np.testing.assert_allclose(values[ends], 0, atol=1e-7)


# ---- the scripts


def test_training_report_and_influence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = (
        *("--problem", "burgers", "--layers", 2, 5, 5, 1, "--compile", "off", "--threads", 1),
        *("--num_domain", 60, "--num_boundary", 20, "--num_initial", 20),
        *("--n_iterations", 30, "--n_iterations_lbfgs", 5, "--n_iterations_lm", 0),
    )
    folder = tmp_path / "burgers"
    run_well(TRAIN, *flags, "--save_path", folder)
    names, rows = history_of(folder)
    assert names == ["step", "burgers", "boundary", "initial", "error_u", "seconds"]
    assert 0 < rows[-1, 4] < 1.5
    assert json.loads((folder / "config.json").read_text())["num_initial"] == 20
    model_report.main([str(folder)])
    printed = capsys.readouterr().out
    found = re.search(r"\| relative L2 error: u \| ([0-9.]+) % \|", printed)
    assert found is not None
    assert float(found[1]) == pytest.approx(100 * rows[-1, 4], rel=1e-2)
    assert "| measure: slope | " in printed
    run_well(
        CALC,
        "--checkpoint",
        folder,
        "--rank",
        3,
        "--threads",
        1,
        "--save_path",
        tmp_path / "scores",
    )
    scores = pinnfluence.load_scores(tmp_path / "scores")
    np.testing.assert_array_equal(scores.test_x, reference().points)
    assert set(scores) == {"u", "burgers", "boundary", "initial", "pde", "bcs", "all"}
