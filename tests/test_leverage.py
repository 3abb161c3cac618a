"""Scores with leverage against the curvature of the points that are left."""

from dataclasses import replace

import numpy as np
import pytest
from brute_force import TERMS, largest_error
from full_rank_cases import LAYERS, recipe, weighted_flow

from pinnfluence import GAUSS_NEWTON, Equation, Influence, Pinn
from pinnfluence.field.network import MLP
from pinnfluence.influence import fit, leverage, training_gradients
from pinnfluence.influence.report import report
from pinnfluence.loss.differentiators import point_loss_rows
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor


@pytest.fixture(scope="module")
def case(flow_pinn, flow_points):
    return weighted_flow(flow_pinn, flow_points)


def by_the_rest(pinn, train_x, test_x, batch_size):
    """Scores of u at test points, and self-influence, from a fit without each point."""
    settings = recipe(weighting="uniform")
    _, G = training_gradients.test_gradients(pinn, test_x, Executor(batch_size))["u"]
    changes, own = [], []
    for i in range(len(train_x)):
        rest = Influence(pinn, np.delete(train_x, i, 0), settings).fit().curvature.inverse
        g = point_loss_rows(Loss.uniform(pinn.at(train_x[i : i + 1]))).numpy().T
        changes.append(G @ rest.solve(g)[:, 0])
        own.append((g.T @ rest.solve(g)).item())
    return np.stack(changes, 1), np.array(own)


@pytest.mark.parametrize(
    ("layers", "batch_size"), [(LAYERS, 17), ((2, 20, 20, 3), 3), ((2, 20, 20, 3), None)]
)
def test_leverage_is_the_curvature_of_the_rest(
    flow_pinn, flow_points, layers, batch_size, monkeypatch
):
    monkeypatch.setattr(leverage, "BLOCK", 7)
    pinn, test_x = flow_pinn(layers), flow_points(5, 1)
    train_x = flow_points(12) if layers == LAYERS else flow_points(2)[::4]
    expected, own = by_the_rest(pinn, train_x, test_x, 10)
    chosen = recipe(weighting="uniform", leverage=True)
    influence = Influence(pinn, train_x, chosen, batch_size and min(batch_size, len(train_x)))
    assert largest_error(influence.scores_by_quantity(test_x)["u"], expected) < 1e-5
    scores = influence.scores(test_x, "u")
    assert largest_error(scores, expected) < 1e-5
    assert largest_error(sum(scores.by_term().values()), expected) < 1e-5
    np.testing.assert_allclose(influence.self_influence(), own, rtol=1e-5)
    without = Influence(pinn, train_x, replace(chosen, leverage=False)).scores_by_quantity(test_x)[
        "u"
    ]
    assert largest_error(without, expected) > 0.1


def test_leverage_is_compressed_kept_and_reported(case, tmp_path, monkeypatch):
    pinn, train_x, test_x = case
    chosen = recipe(leverage=True)
    exact = Influence(pinn, train_x, chosen).scores_by_quantity(test_x)
    scores = Influence(pinn, train_x, chosen, stages_path=tmp_path).influence(test_x)
    for name in ("u", "speed", "all"):
        assert largest_error(scores[name], exact[name]) < 0.01
    found = scores.metadata["leverage"]
    assert 0 < found["median"] < found["p95"] <= found["largest"] < 1
    line = "\n".join(report(scores, {})[0])
    assert f"largest {found['largest']:.4g}" in line
    assert scores.recipe["name"] == "gauss-newton, damping 0.001, leverage"

    def computed(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(fit, "leverage", computed)
    again = Influence(pinn, train_x, chosen, stages_path=tmp_path)
    np.testing.assert_array_equal(again.scores(test_x[:2], "u"), exact_of(case, chosen, test_x[:2]))
    other = again.influence(test_x[:9])
    assert largest_error(other["u"], np.asarray(exact["u"])[:9]) < 0.01


def exact_of(case, chosen, test_x):
    pinn, train_x, _ = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "leverage", leverage.leverage)
        return np.asarray(Influence(pinn, train_x, chosen).scores(test_x, "u"))


def test_leverage_of_terms_without_weight(case):
    """A loss term of weight 0 has no leverage, and its residuals stay as they are."""
    pinn, train_x, _ = case
    solve = Influence(pinn, train_x, recipe()).fit().curvature.inverse.solve
    weights = dict.fromkeys(TERMS, 0.0) | {"continuity": 0.1}
    found = leverage.leverage(Loss(pinn.at(train_x), weights), solve, 1 - 1e-9, Executor(10))
    values = pinn.at(train_x).residuals(pinn.params)
    for name in TERMS:
        same = np.allclose(found.residuals[name], values[name].detach().numpy(), rtol=1e-12)
        assert same == (name != "continuity")


def test_leverage_where_no_term_acts(monkeypatch):
    """Points without a residual have none; some are a whole block."""
    monkeypatch.setattr(leverage, "BLOCK", 2)
    x = np.array([[0.1, 0], [0.2, 0], [0.9, 0.5], [0.8, 0.7], [0.3, 0]], np.float32)
    network = MLP((2, 4, 1), "tanh").double()
    equation = Equation(lambda f: {"edge": f.u - 1}, lambda x: x[:, 1] == 0)
    pinn = Pinn(network, ("x", "y"), ("u",), (equation,))
    influence = Influence(pinn, x, recipe(leverage=True, weighting="uniform"), 2)
    scores = influence.scores_by_quantity(x)["u"]
    assert (scores[:, 2:4] == 0).all()
    assert largest_error(scores, by_the_rest(pinn, x, x, 4)[0]) < 1e-5


def test_a_point_that_alone_determines_something():
    """Its leverage is 1 up to rounding: it is taken as the limit, and the report warns."""
    x = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
    network = MLP((2, 1), "tanh").double()
    pinn = Pinn(network, ("x", "y"), ("u",), (Equation(lambda f: {"fit": f.u - 1}),))
    influence = Influence(pinn, x, recipe(leverage=True, weighting="uniform", damping=1e-14))
    scores = influence.influence(x)
    assert np.isfinite(scores["u"]).all()
    known = scores.metadata["leverage"]
    assert known["n_at_limit"] == 2
    limit = 1 - 2**-52 * scores.metadata["stationarity"]["largest_eigenvalue"] / 1e-14
    assert known["largest"] == pytest.approx(limit, abs=1e-12) != 1
    assert any("leverage of 2 training points" in warning for warning in report(scores, {})[1])
    held = Influence(pinn, x, recipe(leverage=True, weighting="uniform")).influence(x)
    assert held.metadata["leverage"]["n_at_limit"] == 0
    assert not any("leverage" in warning for warning in report(held, {})[1])


def test_leverage_and_the_same_without_it_share_their_damping(case, tmp_path):
    pinn, train_x, _ = case
    for chosen in (GAUSS_NEWTON, replace(GAUSS_NEWTON, leverage=True), GAUSS_NEWTON):
        Influence(pinn, train_x, chosen, stages_path=tmp_path).fit()
    names = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert names.count("damping") == names.count("stationarity") == 1
    (kept,) = tmp_path.glob("damping-*")
    before = kept.stat().st_mtime_ns
    Influence(pinn, train_x, replace(GAUSS_NEWTON, leverage=True), stages_path=tmp_path).fit()
    assert kept.stat().st_mtime_ns == before
