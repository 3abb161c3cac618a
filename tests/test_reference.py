"""The finite-element reference: orders of convergence, the committed file, its quadrature."""

import math
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pinnfluence.problem.reference import Reference, load_reference
from pinnfluence.reference import cylinder_fem as fem
from pinnfluence.reference.lattice import lattice_rule, merge_lattice

COMMITTED = Path(fem.__file__).with_name("cylinder_flow.npz")
DOMAIN_AREA = fem.LENGTH * fem.HEIGHT - math.pi * fem.RADIUS**2
FLUX = 2 / 3 * fem.U_MAX * fem.HEIGHT
flow_on = cache(fem.solve)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return load_reference(COMMITTED)


@pytest.fixture(scope="module", params=[4, 12])
def cells_and_sample(request, reference) -> tuple[int, Reference]:
    """A sample taken now, and the committed one of 12 cells."""
    return request.param, reference if request.param == 12 else fem.sample(flow_on(request.param))


def norm(reference: Reference, value: np.ndarray) -> float:
    return math.sqrt(reference.area @ value.astype(np.float64) ** 2)


@pytest.mark.parametrize(
    ("cells", "tolerance"),  # measured: 6.9e-5, 3.4e-2, 3.5e-3; 2.1e-6, 4.0e-4, 4.9e-5
    [(4, {"drag": 1e-4, "lift": 5e-2, "dp": 5e-3}), (8, {"drag": 3e-6, "lift": 6e-4, "dp": 8e-5})],
)
def test_forces_on_coarse_meshes(cells, tolerance):
    for name, found in asdict(flow_on(cells).forces).items():
        expected = getattr(fem.DFG, name)
        assert abs(found / expected - 1) < tolerance[name], name


def test_drag_converges_with_order_four():
    """A quadratic arc of half-angle a has a mean radius too small by r a^4 / 60.

    This bounds the drag's order, as the order of P4/P3 in a functional would be 8.
    """
    coarse, fine = (flow_on(cells).forces.drag / fem.DFG.drag - 1 for cells in (6, 8))
    order = math.log(coarse / fine) / math.log(8 / 6)  # measured 3.96
    assert 3.5 < order < 4.5
    sensitivity = fine / -((math.pi / 32) ** 4 / 60)  # measured 1.4 d(log drag)/d(log r)
    assert 1 < sensitivity < 2


@pytest.mark.parametrize(("name", "low", "high"), [("u", 4, 5), ("v", 3.75, 4.75), ("p", 3, 4)])
def test_fields_converge_to_the_committed_ones(reference, name, low, high):
    """In L2 the wall, displaced by O(h^4), leaves u and v order 4 and p order 3.5.

    The p error comes of the displacement's gradient, O(h^3), in a layer of thickness h.
    """
    errors = []
    for cells in (4, 8):
        found = flow_on(cells)(reference.points)[name]
        error = norm(reference, found - reference.values[name])
        errors.append(error / norm(reference, reference.values[name]))
    order = math.log2(errors[0] / errors[1])  # measured 4.46, 4.25, 3.54
    assert low < order < high
    assert errors[1] < 2e-4


def test_newton_converges_and_residual_vanishes_in_the_interior():
    flow = flow_on(4)
    assert flow.newton_steps <= 8
    fixed = flow.velocity.get_dofs(["walls", "cylinder", "inflow"]).all()
    for residual in flow.residuals[:2]:
        assert np.abs(np.delete(residual, fixed)).max() < 1e-12
    assert np.abs(flow.residuals[2]).max() < 1e-12


@pytest.mark.parametrize("cells", [2, 3, 4])
def test_mesh_is_conforming_and_fills_the_domain(cells):
    mesh = fem.make_mesh(cells)
    wake = math.ceil(19 * cells / 6)
    assert mesh.nvertices == 4 * cells * (cells + 1) + wake * (cells + 1)
    assert mesh.nelements == 8 * cells**2 + 2 * wake * cells
    assert mesh.nvertices - mesh.nfacets + mesh.nelements == 0  # Euler, one hole
    sides = {name: len(facets) for name, facets in mesh.boundaries.items()}
    assert sides == {"inflow": cells, "walls": 2 * cells + 2 * wake, "cylinder": 4 * cells}
    assert len(mesh.boundary_facets()) == sum(sides.values()) + cells  # the outflow
    area = fem.Basis(mesh, fem.ElementTriP3()).dx.sum()
    # a quadratic arc encloses less than the circle, by about (2/60) a^4
    excess = math.pi * fem.RADIUS**2 * (math.pi / (4 * cells)) ** 4 / 30
    assert area - DOMAIN_AREA == pytest.approx(excess, rel=0.05)


def test_mass_flux_is_the_same_at_every_station():
    flow = flow_on(8)
    nodes, weights = np.polynomial.legendre.leggauss(6)
    for x in (0.0, 0.05, 0.12, 0.5, 1.0, 1.7, 2.2):  # measured 1.4e-6 at 0.05, below elsewhere
        y = fem.HEIGHT / 64 * (np.arange(64)[:, None] + (1 + nodes) / 2)
        u = flow(np.stack([np.full(y.size, x), y.reshape(-1)], axis=1))["u"].reshape(y.shape)
        assert (u @ weights).sum() * fem.HEIGHT / 128 == pytest.approx(FLUX, rel=5e-6), x


def test_traction_integral_agrees_with_the_residual():
    """F = int (nu du/dn - p n) ds over the circle, differentiated: less accurate, same sign."""
    flow = flow_on(8)
    angle = 2 * np.pi * (np.arange(2000) + 0.5) / 2000
    normal = np.stack([np.cos(angle), np.sin(angle)])
    value = flow((fem.CENTRE[:, None] + fem.RADIUS * normal).T)
    ds = 2 * np.pi * fem.RADIUS / 2000
    scale = 2 / (fem.RHO * fem.U_MEAN**2 * 2 * fem.RADIUS)
    # measured 1.3e-3 and 3.8e-5
    for i, name, expected, tol in ((0, "u", fem.DFG.drag, 4e-3), (1, "v", fem.DFG.lift, 1e-4)):
        slope = value[f"{name}_x"] * normal[0] + value[f"{name}_y"] * normal[1]
        force = scale * ds * (fem.NU * slope - value["p"] * normal[i]).sum()
        assert force == pytest.approx(expected, abs=tol)


def test_evaluator_agrees_with_the_samples():
    flow = flow_on(4)
    sample = fem.sample(flow)
    value = flow(sample.points)
    # on the circle, a little beside the quadratic edge, the samples' no slip is imposed
    circle = fem.radial_distance(sample.points.T) < fem.RADIUS + 1e-7
    for name, expected in sample.values.items():
        error = np.abs(value[name] - expected)
        assert error[~circle].max() < 5e-7, name
        assert error[circle].max() < 1e-4, name  # measured 7.9e-5 for u


def test_evaluator_differentiates():
    flow, step = flow_on(4), 1e-6
    x = np.array([[0.31, 0.22], [0.1, 0.3], [1.3, 0.111], [0.2, 0.251]])
    value = flow(x)
    for axis, shift in (("x", [step, 0]), ("y", [0, step])):
        forward, backward = flow(x + shift), flow(x - shift)
        for name in "uvp":
            slope = (forward[name] - backward[name]) / (2 * step)
            np.testing.assert_allclose(value[f"{name}_{axis}"], slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("point", [[0.2, 0.2], [-0.01, 0.2], [1, 0.42], [2.3, 0.1], [np.nan, 0]])
def test_points_outside_the_fluid_are_refused(point):
    with pytest.raises(ValueError, match="found 1 outside"):
        flow_on(4)(np.array([[1.0, 0.2], point]))


def test_too_few_cells_are_refused():
    with pytest.raises(ValueError, match="at least 2 cells, found 1"):
        fem.solve(1)


def test_lattice_rule_integrates_degree_five():
    nodes, weights = lattice_rule(6, degree=5)
    assert nodes.shape == (3, 28)
    assert (nodes.sum(axis=0) == 6).all()
    assert weights.min() > 0
    x, y = nodes[1:] / 6
    for a in range(6):
        for b in range(6 - a):
            exact = math.factorial(a) * math.factorial(b) / math.factorial(a + b + 2)
            assert weights @ (x**a * y**b) == pytest.approx(exact, rel=1e-12)


def test_merge_lattice_counts_each_shared_node_once():
    nodes, _ = lattice_rule(6, degree=5)
    mesh = fem.make_mesh(3)
    kept, merged = merge_lattice(mesh.t, nodes)
    assert len(kept) == mesh.nvertices + 5 * mesh.nfacets + 10 * mesh.nelements
    places = fem.Basis(mesh, fem.ElementTriP3(), quadrature=(nodes[1:] / 6, nodes[0]))
    x = np.asarray(places.global_coordinates()).reshape(2, -1)
    assert np.abs(x - x[:, kept][:, merged]).max() < 1e-15


def test_points_cover_the_boundary_exactly(cells_and_sample):
    cells, sample = cells_and_sample
    x, y = sample.points.T
    length, height = np.float32(fem.LENGTH), np.float32(fem.HEIGHT)
    distance = fem.radial_distance(sample.points.T.astype(np.float64)) - fem.RADIUS
    assert ((x >= 0) & (x <= length) & (y >= 0) & (y <= height) & (distance > -1e-7)).all()
    wall = 6 * (cells + math.ceil(19 * cells / 6)) + 1
    assert (np.sum(y == 0), np.sum(y == height)) == (wall, wall)
    assert (np.sum(x == 0), np.sum(x == length)) == (6 * cells + 1, 6 * cells + 1)
    assert np.sum(np.abs(distance) < 1e-7) == 24 * cells
    corners = {(float(a), float(b)) for a in (0, length) for b in (0, height)}
    assert corners <= set(map(tuple, sample.points.tolist()))
    for gap in (x, length - x, y, height - y, distance):  # nothing is almost on a boundary
        assert not ((np.abs(gap) > 1e-7) & (np.abs(gap) < 1e-4)).any()


def test_values_meet_the_boundary_conditions(cells_and_sample):
    cells, sample = cells_and_sample
    points, (u, v) = sample.points.astype(np.float64), (sample.values[name] for name in "uv")
    walls = (sample.points[:, 1] == 0) | (sample.points[:, 1] == np.float32(fem.HEIGHT))
    no_slip = walls | (np.abs(fem.radial_distance(points.T) - fem.RADIUS) < 1e-7)
    assert np.sum(no_slip) == np.sum(walls) + 24 * cells
    assert (u[no_slip] == 0).all()
    assert (v[no_slip] == 0).all()
    inlet = (points[:, 0] == 0) & ~walls
    assert (u[inlet] == fem.inflow(points[inlet, 1]).astype(np.float32)).all()
    assert (v[inlet] == 0).all()
