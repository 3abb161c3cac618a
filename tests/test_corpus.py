"""Scores of a corpus of other people's models against plain double backward, by loss term."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from corpus import MODELS, model_of
from corpus.common import dde, default_float
from corpus.oracle import Oracle, hessian_of, oracle_of, output_gradients, own_gradient, points_of
from corpus.own_training import mini_batches

from pinnfluence import GAUSS_NEWTON, Influence, InputError, from_deepxde
from pinnfluence.loss.loss import Loss
from pinnfluence.models.deepxde.training_points import training_points

REFUSED = {
    "batch_norm": "outputs depend on the other points of the batch",
    "norm_over_points": "outputs depend on the other points of the batch",
    "dropout": "the trained network is another one at each step",
    "l1_regulariser": "the penalty has no second derivative",
    "decoupled_decay": "the optimiser's decay is not part of a loss",
    "mean_absolute_error": "the loss has no second derivative",
    "online_function": "there is no fixed set of training points",
    "relative_loss": "the loss is no sum over the points",
}
"""Models that must be refused, and why."""

MAY_BE_REFUSED = {
    "fourier_features": "in float32 its closure holds a tensor that cannot be cast",
}
"""Models for which a refusal is as good as right scores, and why."""

TOLERANCE, TOLERANCE_IN_FLOAT32 = 1e-6, 1e-3
DAMPING, SMALL_DAMPING = 1e-3, 1e-7
FEW_RESIDUALS = (
    *("poisson_many_parameters", "poisson_multiscale", "conditions_alone"),
    *("second_order_start", "function"),
)
"""Models with fewer residuals than parameters, whose curvature is singular."""

WITH_HESSIAN = (
    *("poisson_robin", "burgers_conservative", "schroedinger", "euler_beam", "delay"),
    *("unknown_flux", "unknown_vector", "layer_norm", "residual_network", "last_layer"),
    *("measured_components", "own_condition", "stream_function", "l2_regulariser", "function"),
    *("weighted_loss", "log_cosh", "huber_dataset", "point_weights"),
)
"""Models that are also compared with the Hessian of DeepXDE's own loss."""

IN_FLOAT32 = (
    *("poisson_dirichlet", "poisson_cuboid", "laplace_disk", "heat", "schroedinger"),
    *("quadrature", "lorenz", "navier_stokes", "unknown_flux", "unknown_offset"),
    *("unknown_vector", "residual_network", "attention", "siren", "fourier_features"),
    *("auxiliary_variables", "own_measurements", "measured_components"),
    *("coordinates_of_a_condition", "last_layer", "l2_regulariser", "function", "dataset"),
)
"""Models that are also made in DeepXDE's default dtype: constants, unknowns and targets in it."""

treated = [name for name in MODELS if name not in REFUSED]
by_model = pytest.mark.parametrize("name", treated)


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    with default_float(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this module is about numbers
        yield


def recipe(damping: float, curvature: str = "gauss-newton") -> Any:
    """A matrix of the loss that was trained, at full rank, with this damping."""
    return replace(GAUSS_NEWTON, curvature=curvature, damping=damping, threshold=0.0)


@functools.cache
def expected_of(name: str) -> Oracle:
    return oracle_of(model_of(name))


def test_points_of(name: str) -> np.ndarray:
    """Three points between training points."""
    x = model_of(name).data.train_x
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 3)
    chosen = np.random.default_rng(1).integers(0, len(x), (3, 4))
    return np.einsum("ij,ijd->id", weights, x[chosen])


test_points_of.__test__ = False  # type: ignore[attr-defined]


def summed_by_place(points: np.ndarray, scores: np.ndarray) -> dict[bytes, np.ndarray]:
    """Scores ``[n_test, n]`` summed over points at one place, ``[n_test]`` by place; zeros out."""
    found: dict[bytes, np.ndarray] = {}
    for point, column in zip(points.astype(np.float32) + np.float32(0), scores.T, strict=True):
        if column.any():
            found[point.tobytes()] = found.get(point.tobytes(), np.zeros(len(column))) + column
    return found


def by_loss(parts: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Scores of each loss of DeepXDE: a loss of several columns has a term ``name.0``, ..."""
    losses: dict[str, np.ndarray] = {}
    for term, values in parts.items():
        loss = term.partition(".")[0]
        losses[loss] = losses.get(loss, 0) + values
    return list(losses.values())


def compare(
    influence: Influence, x: np.ndarray, oracle: Oracle, expected: list[np.ndarray]
) -> list[float]:
    """Largest difference from the oracle by loss, relative to that loss's largest score."""
    scores = influence.scores(x, influence.pinn.outputs[0])
    parts = by_loss(scores.by_term())
    assert len(parts) == len(expected)
    whole = sum(np.asarray(part) for part in scores.by_term().values())
    np.testing.assert_allclose(np.asarray(scores), whole, atol=1e-12 * np.abs(whole).max())
    found = []
    for mine, theirs, loss in zip(parts, expected, oracle.losses, strict=True):
        ours = summed_by_place(influence.train_x, mine)
        wanted = summed_by_place(loss.points, theirs)
        largest = max((np.abs(v).max() for v in wanted.values()), default=0.0)
        zero = np.zeros(len(x))
        off = [np.abs(ours.get(p, zero) - wanted.get(p, zero)).max() for p in ours | wanted]
        found.append(float(max(off, default=0.0) / (largest or 1.0)))
    return found


def differences(name: str, damping: float) -> list[float]:
    """Differences from the oracle by loss, with the Gauss-Newton matrix."""
    model, x = model_of(name), test_points_of(name)
    influence = Influence(model, recipe=recipe(damping))
    expected = expected_of(name).scores(output_gradients(model, x), damping)
    return compare(influence, x, expected_of(name), expected)


def with_theta_of(single: Any, name: str) -> Any:
    """The model in float64 with the parameters of the same model in float32."""
    dde.config.set_random_seed(3)
    model = MODELS[name]()
    model.net.load_state_dict(single.net.state_dict())
    unknowns = zip(
        model.external_trainable_variables, single.external_trainable_variables, strict=True
    )
    with torch.no_grad():
        for mine, other in unknowns:
            mine.copy_(other)
    return model


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@by_model
def test_the_oracle_has_the_gradient_that_deepxde_follows(name):
    assert relative(expected_of(name).gradient(), own_gradient(model_of(name))) < 1e-10


@by_model
def test_scores_are_those_of_double_backward(name):
    try:
        found = differences(name, DAMPING)
    except InputError:
        if name not in MAY_BE_REFUSED:
            raise
        return
    assert max(found) < TOLERANCE, found


@pytest.mark.parametrize("name", FEW_RESIDUALS)
def test_scores_keep_their_digits_at_a_small_damping(name):
    found = differences(name, SMALL_DAMPING)
    assert max(found) < TOLERANCE, found


@pytest.mark.parametrize("name", WITH_HESSIAN)
def test_scores_with_the_hessian(name):
    model, x = model_of(name), test_points_of(name)
    hessian = hessian_of(model)
    damping = float(2 * np.abs(np.linalg.eigvalsh(hessian)).max())  # above negative eigenvalues
    matrix = hessian + np.diag(damping + expected_of(name).decay)
    expected = expected_of(name).scores_by_matrix(output_gradients(model, x), matrix)
    influence = Influence(model, recipe=recipe(damping, "hessian"))
    found = compare(influence, x, expected_of(name), expected)
    assert max(found) < TOLERANCE, found


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_scores_of_a_model_in_float32(name):
    """The same model in DeepXDE's own dtype; its theta in the model of float64 is the oracle."""
    with default_float("float32"):
        single = model_of(name, "float32")
    double = with_theta_of(single, name)
    x = test_points_of(name).astype(np.float32)
    oracle = oracle_of(double)
    places = points_of(single, len(oracle.losses))
    losses = [
        replace(loss, points=points[: len(loss.slope)])
        for loss, points in zip(oracle.losses, places, strict=True)
    ]
    oracle = replace(oracle, losses=losses)
    expected = oracle.scores(output_gradients(double, x.astype(float)), DAMPING)
    try:
        with default_float("float32"):
            influence = Influence(single, recipe=recipe(DAMPING))
            found = compare(influence, x, oracle, expected)
    except InputError:
        if name not in MAY_BE_REFUSED:
            raise
        return
    assert max(found) < TOLERANCE_IN_FLOAT32, found


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_treated_is_refused_in_one_line(name):
    with pytest.raises(InputError) as refusal:
        differences(name, DAMPING)
    assert "\n" not in str(refusal.value)


def test_the_corpus_holds_what_it_says():
    assert len(MODELS) >= 30
    assert not set(REFUSED) - set(MODELS)
    for name in MODELS:
        model = model_of(name)
        assert sum(p.numel() for p in model.net.parameters()) <= 150, name
        assert len(model.data.train_x) <= 110, name


def test_mini_batches_of_measurements_stand_for_all_of_them():
    model = mini_batches()
    whole = mini_batches(batch_size=None)
    x = np.array([[0.3], [0.7]])
    pinn = from_deepxde(model)
    loss = Loss.of_training(pinn.at(pinn.training_points))
    assert len(loss.collocation.term_rows()["pointset"]) == 6
    net = copy.deepcopy(model.net).double()
    misfit = net(torch.as_tensor(whole.data.bcs[0].points)) - whole.data.bcs[0].values
    assert loss.term_sums(7)["pointset"] == pytest.approx(float(misfit.square().mean()))
    assert np.isfinite(Influence(model, recipe=recipe(DAMPING)).scores(x, 0).values).all()


def test_a_restored_model_is_warned_of_its_points(tmp_path):
    """Points of another draw would give other scores, and nothing in the model tells."""
    model = model_of("loss_weights")
    path = model.save(str(tmp_path / "model"), verbose=0)
    again = dde.Model(model.data, copy.deepcopy(model.net))
    again.compile("adam", lr=1e-3, loss_weights=[0.1, 100, 3], verbose=0)
    again.restore(path, verbose=0)
    with pytest.warns(UserWarning, match="was restored"):
        from_deepxde(again)


def test_a_restored_model_is_warned_of_unknowns_that_its_file_does_not_hold(tmp_path):
    """DeepXDE saves the network alone: answers would be those of the equation at the start."""
    model = model_of("lorenz")
    path = model.save(str(tmp_path / "model"), verbose=0)
    unknowns = [dde.Variable(value) for value in (2.0, 3.5, 4.0)]
    again = dde.Model(model.data, copy.deepcopy(model.net))
    again.compile("adam", lr=1e-3, external_trainable_variables=unknowns, verbose=0)
    again.restore(path, verbose=0)
    with pytest.warns(
        UserWarning, match=r"external_trainable_variables, which are 2, 3.5, 4 here:"
    ):
        training_points(again)
