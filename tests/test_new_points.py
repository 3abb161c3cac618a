"""Where a new point would help, in a diagnosis: against refits of a linear network."""

from dataclasses import replace

import numpy as np
import pytest
from test_candidates import AT, CANDIDATES, TRAIN, Powers, pinn, points, refit, u

from pinnfluence import Influence, InputError, diagnose
from pinnfluence.diagnosis import new_points
from pinnfluence.diagnosis.new_points import squared_error
from pinnfluence.diagnosis.quantities import quantities_of
from pinnfluence.loss.pinn import Pinn

THETA = refit(TRAIN[:0])


@pytest.fixture(scope="module")
def report():
    model = pinn()
    here = replace(model, training=model.at(TRAIN).points)
    fresh = points(60, 3)
    fresh[:12, 0] = np.linspace(1e-7, 9e-7, 12)  # not 0, which was trained on
    return diagnose(here, fresh_x=fresh)


@pytest.fixture(scope="module")
def influence():
    return Influence(pinn(), TRAIN, "gauss-newton", damping=1e-3)


def test_the_target_is_what_adding_leaves_of_the_estimated_error(report, influence):
    d = report.estimate.best.step
    truth = u(THETA + d, AT)
    found = influence.candidates(CANDIDATES, report.target("u", AT)).changes
    before = ((truth - u(THETA, AT)) ** 2).sum()
    after = [((truth - u(refit(z[None], THETA), AT)) ** 2).sum() for z in CANDIDATES]
    np.testing.assert_allclose(found, np.array(after) - before, rtol=1e-5)


def test_a_number_moves_towards_its_estimated_truth(report, influence):
    d, weights = report.estimate.best.step, np.array([1.0, -2.0, 0.5])
    found = influence.candidates(CANDIDATES, report.target("u", AT, weights))
    error = weights @ (u(THETA + d, AT) - u(THETA, AT))
    assert found.target.values == pytest.approx([-error])
    left = [error - weights @ (u(refit(z[None], THETA), AT) - u(THETA, AT)) for z in CANDIDATES]
    np.testing.assert_allclose(found.changes, np.square(left) - error**2, rtol=1e-5)


def test_the_map_is_the_part_of_the_error_that_a_point_takes_away(report):
    """With the damping of a diagnosis, which is near rounding."""
    d, x = report.estimate.best.step, report.x
    truth = u(THETA + d, x)
    before = ((truth - u(THETA, x)) ** 2).sum()
    assert report.helping.shape == (len(report.candidates),)
    for z, found in list(zip(report.candidates, report.helping, strict=True))[:10]:
        after = ((truth - u(refit(z[None]), x)) ** 2).sum()
        assert found == pytest.approx(1 - after / before, rel=1e-3, abs=1e-6)


def test_quantities_count_by_their_relative_errors(report):
    functions = quantities_of(report.pinn, {"u": "u", "tenfold": lambda f: 10 * f.u}, report.x)
    step = report.estimate.best.step
    both = new_points.relative_error(report.pinn, step, functions, report.x).values
    one = report.target().values
    assert both is not None
    np.testing.assert_allclose(both, np.concatenate([one, one]), rtol=1e-9)
    assert one @ one == pytest.approx(report.errors["u"].relative ** 2, rel=1e-6)


def test_few_places_and_candidates_stand_for_many(report, monkeypatch):
    monkeypatch.setattr(new_points, "N_PLACES", 7)
    assert report.target().gradients.shape == (7, 6)
    assert (np.diff(new_points.some(100, 10)) > 0).all()
    assert len(new_points.some(5, 10)) == 5


def test_a_map_of_scattered_candidates_takes_those_nearby():
    candidates = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 8.0], [1.0, 8.0], [0.5, 4.0]])
    helping = np.array([0.1, 0.2, 0.3, 0.4, -3.0])
    found = new_points.around(candidates, candidates, helping)
    np.testing.assert_allclose(found, [0.1, 0.2, 0.3, 0.4, 0.0], atol=1e-6)
    middle = new_points.around(np.array([[0.5, 0.0]]), candidates[:2], helping[:2])
    np.testing.assert_allclose(middle, [0.15])


def test_what_is_refused(report):
    with pytest.raises(InputError, match="a quantity beside at="):
        report.target(at=AT)
    with pytest.raises(InputError, match="give at="):
        report.target("u")
    with pytest.raises(InputError, match="no quantity 'v'"):
        report.target("v", AT)
    with pytest.raises(InputError, match="expected 3 weights"):
        report.target("u", AT, np.ones(2))
    other = Pinn(Powers([0.0] * 6), ("x",), ("u",), report.pinn.equations)
    assert squared_error(other, np.ones(6), {"u": lambda f: f.u}, AT).values is not None
