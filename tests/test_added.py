"""The influence of adding points, against retraining with them."""

import numpy as np
import pytest
import retrained_pinn
from retrained_pinn import PROXIMAL

from pinnfluence.loss.loss import Loss
from pinnfluence.validation.added import FIRST_ORDER, AddedPredictions
from pinnfluence.validation.agreement import agreement
from pinnfluence.validation.experiments import Experiment, Outcome, Settings
from pinnfluence.validation.predictions import Predictions
from pinnfluence.validation.results import MATCHED

TEST_X = np.random.default_rng(1).random((30, 2))


def candidates() -> np.ndarray:
    x = np.random.default_rng(5).random((12, 2)).astype(np.float32)
    x[:4, 0] = 0
    return x


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    settings = Settings(PROXIMAL, tolerance=1e-7)
    points = retrained_pinn.points()
    return Experiment(retrained_pinn.pinn(), points, TEST_X, settings, candidates())


@pytest.fixture(scope="module")
def outcome(experiment) -> Outcome:
    return experiment.run([np.array([i]) for i in range(12)])


@pytest.fixture(scope="module")
def predictions(experiment) -> AddedPredictions:
    known = Predictions(experiment.pinn, retrained_pinn.points(), TEST_X, [])
    return AddedPredictions(known, candidates())


def test_predicted_changes_are_those_of_retraining(outcome, predictions):
    assert outcome.converged.all()
    methods = {method.name: method.predict()[..., 0] for method in predictions.matched(PROXIMAL)}
    found = agreement(methods[MATCHED], outcome.changes[..., 0])
    assert found.pearson.value > 0.995
    assert found.spearman.value > 0.99
    assert 0.95 < found.slope.value < 1.05
    alone = agreement(methods[MATCHED + FIRST_ORDER], outcome.changes[..., 0])
    assert alone.slope.value < 0.9  # a new point has a larger leverage than those that are there


def test_controls_do_worse(outcome, predictions):
    actual = outcome.changes[..., 0]
    found = {method.name: agreement(method.predict()[..., 0], actual) for method in
             predictions.controls()}  # fmt: skip
    assert set(found) > {"random scores", "gradient dot product"}
    assert all(abs(figures.spearman.value) < 0.9 for figures in found.values())


def test_an_added_point_keeps_all_weights(experiment):
    points, x = retrained_pinn.points(), candidates()
    loss = Loss.of_training(experiment.pinn.at(np.concatenate([points, x[:1]])))
    assert loss.weights == {"equation": 1 / 41, "edge": 3 / 13}
    objective = experiment._with(np.array([0]))
    assert objective.loss.weights == {"equation": 1 / 40, "edge": 3 / 12}
    np.testing.assert_array_equal(objective.loss.collocation.x, np.concatenate([points, x[:1]]))


def test_groups_of_added_points_join_together(experiment):
    both = experiment.run([np.array([0, 5])])
    assert both.converged.all()
    assert not np.allclose(both.changes[0], experiment.run([np.array([0])]).changes[0], rtol=0.01)
