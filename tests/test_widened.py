"""The third attempt of a diagnosis: points drawn by their leverage, and a wider network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_diagnosis import heat_pinn, heat_points, loss_at, values

import pinnfluence
from pinnfluence import MLP, Equation, Pinn
from pinnfluence.diagnosis import error_estimate, leverage
from pinnfluence.diagnosis.corrected import corrected
from pinnfluence.diagnosis.error_estimate import bend, estimate_error
from pinnfluence.diagnosis.factor import SingularValues
from pinnfluence.diagnosis.fresh import FreshPoints, FreshSets, draw, split
from pinnfluence.diagnosis.held import is_held
from pinnfluence.diagnosis.widened import widened
from pinnfluence.loss.differentiators import jacobian, projection
from pinnfluence.problems import burgers, heat
from pinnfluence.runtime.devices import float64_array

SMALL = (2, 4, 4, 1)


def wide_of(pinn):
    wide = widened(pinn)
    assert wide is not None
    return wide


def sets(pinn, n=300, with_redraw=True):
    """Two sets of fresh points of the heat equation, which can be drawn again."""

    def redraw(importance):
        return FreshSets(*split(draw(pinn, heat_points, n + n // 2, 7, importance), 0))

    drawn = (draw(pinn, heat_points, n, seed) for seed in (0, 1))
    return FreshSets(*drawn, redraw=redraw if with_redraw else None)


@pytest.mark.parametrize("name", ["u", "u_x", "u_t", "u_xx"])
def test_a_wider_network_has_the_same_fields_and_more_gradients(name):
    pinn, x = heat_pinn(), heat_points(20, 1)
    wide, equation = wide_of(pinn), [Equation(lambda f: {name: getattr(f, name)})]
    assert wide.n_params == pinn.n_params + 900
    np.testing.assert_array_equal(values(wide, x, name), values(pinn, x, name))
    rows = float64_array(jacobian(wide.at(x, equation))[name][1])
    own = float64_array(jacobian(pinn.at(x, equation))[name][1])
    np.testing.assert_allclose(rows[:, : pinn.n_params], own, rtol=1e-12, atol=1e-14)
    d = np.random.default_rng(0).standard_normal(wide.n_params)
    moved = values(corrected(pinn, d), x, name) - values(pinn, x, name)
    np.testing.assert_allclose(moved, rows @ d, rtol=1e-9, atol=1e-11)
    further = np.where(np.arange(wide.n_params) < pinn.n_params, 0, d)
    network = wide_of(pinn).network
    with torch.no_grad():  # linear in these weights: a full step is exact
        network.get_parameter("further.weight").copy_(
            torch.from_numpy(further[pinn.n_params :])[None]
        )
    stepped = values(replace(wide, network=network), x, name) - values(pinn, x, name)
    np.testing.assert_allclose(stepped, rows @ further, rtol=1e-9, atol=1e-11)


def test_products_with_a_basis_have_the_further_weights():
    """Where there are more quantities than outputs, products go through the outputs."""
    chunk = wide_of(heat_pinn()).at(
        heat_points(5, 1), [Equation(lambda f: {"a": f.u**2, "b": 2 * f.u, "c": f.u + f.x})]
    )
    basis = torch.randn(chunk.pinn.n_params, 3, generator=torch.Generator().manual_seed(0)).double()
    rows = jacobian(chunk)
    for name, (_, found) in projection(chunk, basis).items():
        torch.testing.assert_close(found, rows[name][1] @ basis, rtol=1e-9, atol=1e-10)


def test_networks_that_cannot_be_widened():
    flat = Pinn.of(heat.PROBLEM, "dirichlet", MLP((2, 1), "tanh").double())
    assert widened(flat) is None
    other = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    assert widened(Pinn.of(heat.PROBLEM, "dirichlet", other.double())) is None
    some = replace(heat_pinn(), theta=("linears.0.weight",))
    assert list(wide_of(some).params) == ["linears.0.weight", "further.weight"]


def envelope(x):
    return (x[:, :1] * (1 - x[:, :1]) * x[:, 1:]).expand(-1, 1)


def test_an_envelope_must_be_replaced_by_conditions():
    """u = 0 at both ends and at t = 0 by the envelope; the problem's conditions say as much."""
    pinn, x = heat_pinn(), heat_points(50, 1)
    pinn.network.envelope = envelope
    wide = wide_of(pinn)
    assert is_held(loss_at(wide, x))
    inside = replace(wide, equations=wide.equations[:1])
    assert not is_held(loss_at(inside, x)), "nothing holds it at the ends"
    middle = x[(x > 0).all(1) & (x[:, 0] < 1)]
    assert not is_held(FreshPoints.all_of(wide.at(middle)).loss), "no point at the ends"
    pinn.network.envelope = None
    assert is_held(loss_at(wide_of(pinn), x))


def test_draws_have_the_inverse_as_covariance():
    for n in (200, 6):  # more residuals than parameters, and fewer
        loss = loss_at(heat_pinn((2, 4, 1)), heat_points(n, 2))
        inverse = SingularValues(loss)
        drawn = inverse.draws(200_000, 1e-3)
        expected = inverse.solve(np.eye(len(drawn)), 1e-3)
        np.testing.assert_allclose(
            drawn @ drawn.T / 200_000, expected, atol=0.02 * np.abs(expected).max()
        )


def test_leverage_is_that_of_other_points_in_a_fit_to_these(monkeypatch):
    monkeypatch.setattr(leverage, "N_DRAWS", 300)
    monkeypatch.setattr(leverage, "PART", 1e-6)
    pinn = heat_pinn((2, 4, 1))
    fitted, others = loss_at(pinn, heat_points(40, 2)), loss_at(pinn, heat_points(30, 3))
    inverse, A = SingularValues(fitted), others.jacobian()
    rows = (A * inverse.solve(A.T, 1e-6).T).sum(1)
    expected = np.zeros(len(others.collocation))
    np.add.at(expected, others.points, rows)
    assert expected.max() > 1, "an undetermined place"
    found = leverage.leverage(inverse, others)
    np.testing.assert_allclose(found, np.minimum(expected, 1), rtol=0.4)


def test_an_importance_attracts_points_and_leaves_sums_as_they_are():
    pinn = heat_pinn()
    drawn = draw(pinn, heat_points, 2000, 3, lambda loss: loss.collocation.x[:, 0] < 0.1)
    assert (drawn.x[:, 0] < 0.1).mean() > 0.5
    pool = FreshPoints.all_of(pinn.at(heat_points(20_000, 5))).loss
    assert drawn.loss.total() == pytest.approx(pool.total(), rel=0.05)


def test_nonlinear_terms_bend_and_linear_equations_do_not():
    pinn, x = heat_pinn(), heat_points(100, 1)
    d = np.random.default_rng(0).standard_normal(pinn.n_params)
    assert bend(loss_at(pinn, x), d) < 1e-6
    flow = Pinn.of(burgers.PROBLEM, "dirichlet", pinn.network)
    loss = loss_at(flow, x)
    once, twice = bend(loss, d), bend(loss, 2 * d)
    assert once > 0.1
    assert twice == pytest.approx(4 * once, rel=1e-3), "u u_x is of second order"


@pytest.mark.parametrize("with_redraw", [True, False])
def test_an_error_that_no_change_of_the_parameters_explains(with_redraw):
    """Its output layer alone is trained; what the further neurons add is the rest of the error."""
    pinn = replace(heat_pinn(SMALL), theta=("linears.2.weight", "linears.2.bias"))
    x = heat_points(500, 9)
    fresh = sets(pinn, with_redraw=with_redraw)
    own = error_estimate._newton(fresh.fit.loss, fresh.check.loss, 1.0, 1, lambda n: None)[0]
    before = fresh.check.loss.total()
    assert np.sqrt(own.best.loss / before) > 0.2, "the network alone does not explain it"
    found, step = estimate_error(fresh)
    assert found.unexplained < 0.02
    assert step.pinn.n_params == pinn.n_params + 900
    error = heat.solution(x)["u"] - values(pinn, x)
    estimated = values(corrected(pinn, found.best.step), x) - values(pinn, x)
    assert np.linalg.norm(estimated - error) < 0.02 * np.linalg.norm(error)


def test_a_diagnosis_keeps_the_step_of_the_wider_network(tmp_path):
    pinn = replace(heat_pinn(SMALL), theta=("linears.2.weight", "linears.2.bias"))
    trained = replace(pinn, training=pinn.at(heat_points(60, 1)).points)
    report, again = (
        pinnfluence.diagnose(trained, fresh_x=heat_points(400, 2), folder=tmp_path) for _ in "12"
    )
    step = again.estimate.best.step
    assert len(step) == pinn.n_params + 900
    np.testing.assert_array_equal(report.estimate.best.step, step)
    x = heat_points(50, 3)
    true = heat.solution(x)["u"] - values(pinn, x)
    assert np.linalg.norm(again.error(x)["u"] - true) < 0.05 * np.linalg.norm(true)
    assert again.errors == report.errors
    assert again.reliable
    assert len(again.fresh_x) == len(again.responsible) == len(again.fresh_losses)
    assert again.responsible.sum(0) == pytest.approx(1.0, rel=0.2)
    assert again.target().gradients.shape[1] == pinn.n_params, "points change what was trained"


def test_a_network_far_from_nonlinear_equations_is_left_alone(monkeypatch):
    pinn = replace(heat_pinn(SMALL), equations=burgers.PROBLEM.equations("dirichlet"))
    monkeypatch.setattr(error_estimate, "LINEAR", 0.0)
    found, step = estimate_error(sets(pinn))
    assert step.pinn.n_params == pinn.n_params == len(found.best.step)
