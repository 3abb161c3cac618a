"""Scores against retraining: the methods, the figures of agreement, and that they can fail."""

from dataclasses import replace

import numpy as np
import pytest
import retrained_pinn
from retrained_pinn import GROUPS, PROXIMAL, experiment_of
from scipy.stats import pearsonr, spearmanr

from pinnfluence import Pinn
from pinnfluence.curvature.operators import GaussNewton
from pinnfluence.curvature.recipe import RECIPES, recipe_of
from pinnfluence.influence import Influence, engine
from pinnfluence.loss.loss import Loss
from pinnfluence.runtime.executor import Executor
from pinnfluence.validation import experiments, study
from pinnfluence.validation import predictions as predictions_module
from pinnfluence.validation.agreement import agreement, datamodeling_score, rank_correlations
from pinnfluence.validation.predictions import Predictions


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return retrained_pinn.points()


@pytest.fixture(scope="module")
def pinn() -> Pinn:
    return retrained_pinn.pinn()


@pytest.fixture(scope="module")
def outcome() -> experiments.Outcome:
    return retrained_pinn.outcome()


def predicted_by(pinn, points, name="proximal response"):
    experiment = experiment_of(pinn, points)
    known = Predictions(experiment.pinn, points, experiment.test_x, GROUPS)
    _, method = known.dampings([2 * PROXIMAL], name)
    return method.predict()


def is_right(predicted: np.ndarray, actual: np.ndarray) -> bool:
    """Whether the pooled figures are, and the scale of each removed point."""
    found = agreement(predicted, actual)
    slopes = (predicted * actual).sum(1) / np.square(predicted).sum(1)
    return bool(
        found.pearson.value > 0.995
        and found.spearman.value > 0.99
        and 0.9 < found.slope.value < 1.1
        and abs(slopes - 1).max() < 0.05
    )


def test_matched_damping_predicts_the_proximal_response(pinn, points, outcome):
    assert outcome.converged.all()
    assert is_right(predicted_by(pinn, points)[..., 0], outcome.changes[..., 0])


@pytest.mark.parametrize("fault", ["sign", "weights", "term"])
def test_a_fault_is_seen(pinn, points, outcome, fault, monkeypatch):
    gradient = predictions_module.loss_gradient

    def broken(loss, batch_size):
        changed = dict(loss.weights)
        if fault == "weights":
            changed = dict.fromkeys(changed, 1 / 40)
        if fault == "term":
            changed["edge"] = 0.0
        sign = -1 if fault == "sign" else 1
        return sign * gradient(replace(loss, weights=changed), batch_size)

    monkeypatch.setattr(predictions_module, "loss_gradient", broken)
    assert not is_right(predicted_by(pinn, points)[..., 0], outcome.changes[..., 0])


def test_controls_that_must_fail(pinn, points, outcome):
    experiment = experiment_of(pinn, points)
    known = Predictions(experiment.pinn, points, experiment.test_x, GROUPS)
    found = {
        method.name: agreement(method.predict()[..., 0], outcome.changes[..., 0])
        for method in known.controls()
    }
    assert set(found) > {"random scores", "gradient dot product"}
    for name, figures in found.items():
        assert abs(figures.spearman.value) < (0.9 if name == "gradient dot product" else 0.5), name


def test_recipes_are_the_engines(pinn, points):
    test_x = np.random.default_rng(1).random((30, 2))
    groups = [np.array([4]), np.array([3, 17])]
    known = Predictions(pinn, points, test_x, groups)
    methods = {method.name: method for method in known.recipes()}
    assert set(methods) == {*RECIPES, "gauss-newton, curvature of the rest"}
    for name, recipe in RECIPES.items():
        method = methods[name]
        scores = np.asarray(engine.Influence(pinn, points, recipe).scores(test_x, "u"))
        expected = np.stack([scores[:, 4], scores[:, 3] + scores[:, 17]])
        np.testing.assert_allclose(method.predict()[..., 0], expected, rtol=1e-4, atol=1e-9)


def test_spectra_contain_the_recipes(pinn, points):
    known = Predictions(pinn, points, points[:5], [np.array([4])])
    expected, _ = known.dampings([1e-3], "any")
    found = {(m.curvature, m.weighting, m.rank, m.damping): m for m in known.spectral()}[
        ("gauss-newton", "training", "full", 1e-3)
    ]
    np.testing.assert_allclose(found.predict(), expected.predict(), rtol=1e-6, atol=1e-10)


def test_curvature_of_the_rest_is_the_recipe_with_leverage(pinn, points):
    """Two ways to the same: without the rows of a point, and with its deleted residuals."""
    x = np.random.default_rng(1).random((20, 2))
    known = Predictions(pinn, points, x, GROUPS)
    (of_the_rest,) = [m for m in known.dampings([1e-3], "given") if m.name != "given"]
    chosen = recipe_of("gauss-newton", damping=1e-3, leverage=True)
    influence = Influence(pinn, points, chosen)
    removed = np.concatenate(GROUPS)
    expected = influence.scores_by_quantity(x)["u"][:, removed].T
    assert abs(of_the_rest.predict()[..., 0] - expected).max() < 1e-5 * abs(expected).max()
    largest = influence.influence(x).metadata["leverage"]["largest"]
    every = [np.array([i]) for i in range(len(points))]
    leverages = Predictions(pinn, points, x, every).leverages(1e-3)
    assert leverages.max() == pytest.approx(largest, rel=1e-9)


def test_predictions_by_the_inverse_of_large_networks(pinn, points, monkeypatch):
    x = np.random.default_rng(1).random((20, 2))
    expected = list(Predictions(pinn, points, x, GROUPS).dampings([1e-3], "given"))
    recipe = replace(predictions_module.GAUSS_NEWTON, inverse="randomised")
    monkeypatch.setattr(predictions_module, "GAUSS_NEWTON", recipe)
    found = list(Predictions(pinn, points, x, GROUPS).dampings([1e-3], "given"))
    for one, other in zip(found, expected, strict=True):
        known = other.predict()
        assert abs(one.predict() - known).max() < 1e-4 * abs(known).max()


def test_leverages_are_those_of_the_dense_matrix(pinn, points):
    known = Predictions(pinn, points, points[:5], [np.array([20]), np.array([3]), np.array([1, 2])])
    found = known.leverages(1e-3)
    assert ((found > 0) & (found < 1)).all()
    A = GaussNewton(Loss.of_training(pinn.at(points)), Executor(40)).rows()
    hat = A @ np.linalg.inv(A.T @ A + 1e-3 * np.eye(A.shape[1])) @ A.T
    single = np.flatnonzero(np.isclose(np.diag(hat), found[0], rtol=1e-9))
    assert len(single) == 1  # an inner point has one residual: its leverage is on the diagonal
    of_point, of_the_rest = known.dampings([1e-3], "any")
    ratio = of_point.predict()[0] / of_the_rest.predict()[0]
    np.testing.assert_allclose(ratio, 1 - found[0], rtol=1e-6)


def test_agreement_is_scipys():
    generator = np.random.default_rng(0)
    predicted = generator.standard_normal((20, 7))
    actual = 2 * predicted + generator.standard_normal((20, 7)) + 100
    found = agreement(predicted, actual)
    assert found.pearson.value == pytest.approx(pearsonr(predicted.ravel(), actual.ravel())[0])
    assert found.spearman.value == pytest.approx(spearmanr(predicted.ravel(), actual.ravel())[0])
    slope = (predicted * actual).sum() / (predicted**2).sum()
    assert found.slope.value == pytest.approx(slope)
    assert found.pearson.low < found.pearson.value < found.pearson.high
    each = [spearmanr(p, a)[0] for p, a in zip(predicted, actual, strict=True)]
    np.testing.assert_allclose(rank_correlations(predicted, actual), each)
    assert found.by_group.median.value == pytest.approx(np.median(each))


def test_medians_have_intervals_and_the_low_end_none():
    """Of correlations that are known: 17 groups at 1, 3 at -1."""
    actual = np.random.default_rng(0).standard_normal((20, 31))
    predicted = actual.copy()
    predicted[:3] *= -1
    by_group = agreement(predicted, actual).by_group
    assert (by_group.median.value, by_group.median.low, by_group.median.high) == (1, 1, 1)
    assert by_group.low == pytest.approx(-1)
    by_test = agreement(predicted, actual).by_test
    each = np.array([spearmanr(p, a)[0] for p, a in zip(predicted.T, actual.T, strict=True)])
    assert by_test.median.value == pytest.approx(np.median(each))
    assert by_test.median.low < by_test.median.value < by_test.median.high
    resampled = np.random.default_rng(7).choice(each, (4000, 31))
    expected = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    np.testing.assert_allclose((by_test.median.low, by_test.median.high), expected, atol=0.02)
    assert by_test.low == pytest.approx(np.percentile(each, 5))


def test_datamodeling_score_is_a_mean_over_test_points():
    generator = np.random.default_rng(0)
    actual = generator.standard_normal((30, 4))
    predicted = actual.copy()
    predicted[:, 0] *= -1
    found = datamodeling_score(predicted, actual)
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high


def test_a_damping_that_rounding_loses_leaves_the_other_methods(pinn, points, capsys):
    known = Predictions(pinn, points, points[:5], [np.array([4])])
    assert [m.name for m in study._possible(known.dampings([2e-3], study.MATCHED))][:1] == [
        study.MATCHED
    ]
    assert study._possible(known.dampings([2e-20], study.MATCHED)) == []
    assert "left out, as the curvature with damping 2e-20" in capsys.readouterr().out
