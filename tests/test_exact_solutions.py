"""Problems with a formula for their solution: it solves their equations, on their points."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_bvp
from torch import Tensor, nn

from pinnfluence import problems
from pinnfluence.loss.pinn import Pinn
from pinnfluence.models.deepxde.model import build
from pinnfluence.problems import allen_cahn, poisson_disk
from pinnfluence.reference import chebyshev

PI = math.pi
SOLUTIONS: dict[str, Any] = {
    "heat": lambda x, t: torch.exp(-t) * torch.sin(PI * x),
    "drift_diffusion": lambda x, t: torch.exp(-4 * t) * torch.sin(PI / 4 + 2 * (x - 20 * t)),
    "convection": lambda x, t: torch.sin(x - 50 * t),
    "wave": lambda x, t: (
        torch.sin(PI * x) * torch.cos(2 * PI * t)
        + torch.sin(4 * PI * x) * torch.cos(8 * PI * t) / 2
    ),
}
TERMS = {
    "heat": ["heat", "boundary", "initial"],
    "drift_diffusion": ["drift_diffusion", "periodic", "initial"],
    "convection": ["convection", "periodic", "initial"],
    "wave": ["wave", "left", "right", "initial", "velocity"],
    "poisson_disk": ["poisson", "boundary"],
    "allen_cahn": ["allen_cahn", "initial", "right", "left"],
}
NUMBERS = {"heat": 1200, "drift_diffusion": 1200, "convection": 1200, "wave": 3500}
"""Training points of the variant good."""


class Formula(nn.Module):
    """A field of x and t, with one parameter that is never used."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.function = function

    def forward(self, points: Tensor) -> Tensor:
        value: Tensor = self.function(points[:, :1], points[:, 1:])
        return value


def residuals(name: str, function: Any) -> tuple[Any, dict[str, Tensor]]:
    problem = problems.load(name)
    built = build(problem, next(iter(problem.conditions)), seed=0)
    equations = problem.equations(next(iter(problem.conditions)))
    at = Pinn(Formula(function), problem.inputs, problem.outputs, equations).at(built.train_x)
    return built, at.residuals(at.pinn.params)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_exact_solution_has_no_residual(name: str) -> None:
    built, found = residuals(name, SOLUTIONS[name])
    assert list(found) == TERMS[name]
    assert len(built.train_x) == NUMBERS[name]
    for term, residual in found.items():
        assert len(residual) >= 100
        assert residual.abs().max() < 2e-4, term  # ends are rounded to float32: 50 * 1e-7 * ...
    wrong = residuals(name, lambda x, t: SOLUTIONS[name](1.1 * x + 0.03, t + 0.02))[1]
    assert all(residual.abs().max() > 1e-2 for residual in wrong.values())


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_reference_is_that_solution(name: str) -> None:
    found = problems.load(name).reference
    assert found is not None
    reference = found()
    x, t = torch.from_numpy(reference.points.astype(np.float64)).T
    np.testing.assert_allclose(reference.values["u"], SOLUTIONS[name](x, t), atol=2e-7)
    lengths = np.ptp(reference.points, axis=0)
    assert reference.area.sum() == pytest.approx(np.prod(lengths), rel=1e-5)


def test_the_disk_is_solved_along_its_radius() -> None:
    """Against a collocation of ``(r u')' / r = -source`` with ``u'(0) = 0 = u(1)``."""
    width, start = poisson_disk.WIDTH, 1e-6

    def slopes(r: np.ndarray, y: np.ndarray) -> np.ndarray:
        source = np.exp(-(r**2) / (2 * width**2)) / (2 * PI * width**2)
        return np.stack([y[1], -y[1] / r - source])

    r = np.geomspace(start, 1.0, 400)
    solved = solve_bvp(slopes, lambda a, b: np.array([a[1], b[0]]), r, np.zeros((2, 400)), tol=1e-8)
    points = np.stack([r * np.cos(1), r * np.sin(1)], 1)
    np.testing.assert_allclose(poisson_disk.solution(points)["u"], solved.sol(r)[0], atol=1e-6)
    at_center = poisson_disk.solution(np.zeros((1, 2)))["u"]
    np.testing.assert_allclose(at_center, solved.sol(start)[:1], atol=1e-6)


def test_the_disk_has_its_center_among_its_points() -> None:
    built, found = residuals("poisson_disk", lambda x, y: 1 - x**2 - y**2)
    assert list(found) == TERMS["poisson_disk"]
    assert len(built.train_x) == 3001
    assert (np.abs(built.train_x) == 0).all(1).sum() == 1
    assert len(found["boundary"]) == 500
    assert found["poisson"].max() == pytest.approx(1 / (2 * PI * 0.02**2) - 4)
    reference = poisson_disk.reference()
    assert reference.area.sum() == pytest.approx(PI, rel=1e-6)
    mean = float(reference.area @ reference.values["u"])
    assert mean == pytest.approx(1 / 4 - 0.02**2 / 2, rel=5e-3)  # int u = int (1 - r^2) source / 4


def test_allen_cahn_converges_faster_than_any_power() -> None:
    axes = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(0, 1, 5), indexing="ij")
    points = [axis.ravel() for axis in axes]
    coarse, middle, fine = (allen_cahn.solve(n)(*points) for n in (64, 128, 256))
    assert np.abs(middle - fine).max() < 0.2 * np.abs(coarse - fine).max()
    left = np.abs(fine - allen_cahn.solve(448)(*points)).max()
    assert left < 0.01 * np.abs(middle - fine).max()


def test_allen_cahn_has_its_terms_and_its_start() -> None:
    _, found = residuals("allen_cahn", lambda x, t: x**2 * torch.cos(PI * x) + 0 * t)
    assert list(found) == TERMS["allen_cahn"]
    assert all(found[name].abs().max() < 1e-12 for name in ("initial", "right", "left"))
    reference = allen_cahn.reference()
    assert set(reference.values["u"][np.abs(reference.points[:, 0]) == 1]) == {-1.0}


def test_diffusion_by_collocation_decays_as_it_must() -> None:
    x, D = chebyshev.differentiation_matrix(24)
    np.testing.assert_allclose(D @ np.sin(x), np.cos(x), atol=1e-12)
    found = chebyshev.evolve(lambda u, u_xx: u_xx, lambda x: np.sin(PI * x), 24)
    places, times = np.array([0.3, -0.7, 0.5]), np.array([0.1, 0.1, 0.25])
    exact = np.exp(-(PI**2) * times) * np.sin(PI * places)
    np.testing.assert_allclose(found(places, times), exact, atol=1e-9)
