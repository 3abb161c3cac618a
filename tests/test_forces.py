"""Forces on a cylinder: manufactured fields with known forces, spectral convergence."""

import numpy as np
import pytest
import torch

from pinnfluence import load_model
from pinnfluence.diagnosis.quantities import evaluate
from pinnfluence.problem.forces import Cylinder
from pinnfluence.problems import cylinder_flow as flow

CENTER, RADIUS, RHO, NU, U_MEAN = (0.2, 0.2), 0.05, 1.3, 2e-3, 0.2
SCALE = 2 / (RHO * U_MEAN**2 * 2 * RADIUS)


def forces(field, n_points=256):
    return Cylinder(CENTER, RADIUS, RHO, NU, U_MEAN, n_points).forces(field)


def still_fluid(points):
    return dict.fromkeys(("u_x", "u_y", "v_x", "v_y", "p"), np.zeros(len(points)))


def test_pressure_gradients_give_the_divergence_theorems_force():
    def field(points):
        return still_fluid(points) | {"p": 5 - 2 * points[:, 0] + 3 * points[:, 1]}

    found = forces(field)
    area = np.pi * RADIUS**2  # F = -int grad p over the disc
    assert found.drag == pytest.approx(SCALE * 2 * area, rel=1e-12)
    assert found.lift == pytest.approx(SCALE * -3 * area, rel=1e-12)
    assert found.dp == pytest.approx(2 * 2 * RADIUS, rel=1e-12)


def test_quadratic_velocity_gives_the_divergence_of_its_stress():
    # u = a y^2, v = b x^2: div(grad u + grad u^T) = (2 a, 2 b), the same everywhere
    a, b = 0.7, -0.4

    def field(points):
        x, y = points.T
        return still_fluid(points) | {"u_y": 2 * a * y, "v_x": 2 * b * x}

    found = forces(field)
    area = np.pi * RADIUS**2
    assert found.drag == pytest.approx(SCALE * RHO * NU * 2 * a * area, rel=1e-12)
    assert found.lift == pytest.approx(SCALE * RHO * NU * 2 * b * area, rel=1e-12)


def test_normal_stresses_count_twice():
    # u = x^2, v = -2 x y: div(grad u + grad u^T) = lap u = (2, 0)
    def field(points):
        x, y = points.T
        return still_fluid(points) | {"u_x": 2 * x, "v_x": -2 * y, "v_y": -2 * x}

    found = forces(field)
    assert found.drag == pytest.approx(SCALE * RHO * NU * 2 * np.pi * RADIUS**2, rel=1e-12)
    assert found.lift == pytest.approx(0, abs=1e-14)


def test_the_rule_converges_spectrally():
    def field(points):
        x, y = points.T
        return still_fluid(points) | {"p": np.exp(8 * x) * np.sin(10 * y)}

    exact = forces(field, 256)
    errors = [abs(forces(field, n).drag - exact.drag) for n in (4, 8, 16)]
    assert errors[1] < 1e-2 * errors[0]
    assert errors[2] < 1e-6 * errors[0]


def test_integrals_of_a_network_are_its_forces():
    model = load_model("model_zoo/good", dtype=torch.float64)
    assert model.problem.measures is not None
    forces = model.problem.measures(model.fields)
    for name, integral in flow.integrals().items():
        values = evaluate(model.pinn, integral.x, {name: integral.function})[name]
        assert integral.weights @ values == pytest.approx(forces[name], rel=1e-9)


def test_the_finite_element_flow_has_the_forces_of_the_benchmark():
    fem = pytest.importorskip("pinnfluence.reference.cylinder_fem")
    solution = fem.solve(6)
    found = flow.forces(solution)
    assert found.drag == pytest.approx(flow.DFG.drag, rel=5e-3)
    assert found.lift == pytest.approx(flow.DFG.lift, abs=1e-3)  # of a drag of 5.6
    assert found.dp == pytest.approx(flow.DFG.dp, rel=1e-3)
