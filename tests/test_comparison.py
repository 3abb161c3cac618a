"""Errors against a reference: closed forms, and matching of points."""

import numpy as np
import pytest
import torch

from pinnfluence import MLP
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.reference import comparison
from pinnfluence.reference.comparison import (
    absolute_errors,
    error_rows,
    match_points,
    relative_l2,
    with_quantities,
)


def flow(**fields: np.ndarray) -> dict[str, np.ndarray]:
    """The flow's fields with the speed."""
    return with_quantities(PROBLEM, np.zeros((len(fields["u"]), 2)), fields)


def test_relative_l2_by_hand():
    predicted, target = np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.0, 2.0])
    assert relative_l2(predicted, target) == pytest.approx(1.0)
    assert relative_l2(predicted, target, np.array([4.0, 4.0, 1.0])) == pytest.approx(
        np.sqrt(9 / 24)
    )
    assert relative_l2(1.1 * target, target) == pytest.approx(0.1)


def test_error_in_the_speed_is_the_difference_of_speeds():
    predicted = flow(u=np.array([3.0]), v=np.array([4.0]), p=np.zeros(1))
    target = flow(u=np.zeros(1), v=np.ones(1), p=np.zeros((1, 1)))
    errors = absolute_errors(predicted, target)
    assert {name: error.tolist() for name, error in errors.items()} == {
        "u": [3.0],
        "v": [3.0],
        "p": [0.0],
        "speed": [4.0],
    }


def test_quantities_that_need_derivatives_are_left_out():
    given = {"vorticity": lambda f: f.v_x - f.u_y, "shear": lambda f: f.y * f.u}
    points = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    fields = {"u": np.array([3.0, 5.0]), "v": np.zeros(2), "p": np.zeros(2)}
    found = with_quantities(PROBLEM.changed(quantities=given, symbols={}), points, fields)
    assert list(found) == ["u", "v", "p", "shear"]
    assert found["shear"].tolist() == [6.0, 20.0]
    with pytest.raises(KeyError, match="p"):
        with_quantities(PROBLEM, points, {"u": fields["u"], "v": fields["v"]})


def test_prediction_does_not_depend_on_batches(monkeypatch):
    network, points = MLP((2, 5, 3), "tanh"), np.random.default_rng(0).random((50, 2))
    expected = network(torch.as_tensor(points).float()).detach().double().numpy()
    for size in (7, 50, 1000):
        monkeypatch.setattr(comparison, "BATCH_SIZE", size)
        found = comparison.predict(network, points, "abc")
        np.testing.assert_allclose(np.stack(list(found.values()), 1), expected, rtol=1e-5)
        assert list(found) == ["a", "b", "c"]


def test_points_are_matched_by_coordinates():
    rng = np.random.default_rng(0)
    reference = rng.random((200, 2)).astype(np.float32)
    chosen = rng.permutation(200)[:50]
    np.testing.assert_array_equal(match_points(reference[chosen], reference), chosen)
    nudged = reference[chosen].astype(np.float64) + 5e-7
    np.testing.assert_array_equal(match_points(nudged, reference), chosen)
    with pytest.raises(ValueError, match="2 of 50 test points are not points of the reference"):
        match_points(np.concatenate([reference[:48], [[2, 2], [3, 3]]]), reference)


def test_rows_of_a_model():
    target = flow(u=np.ones(4), v=np.ones(4), p=np.ones(4))
    predicted = flow(u=1.5 * np.ones(4), v=np.ones(4), p=np.array([1, 1, 1, 2]))
    rows = {
        row.quantity: row for row in error_rows(predicted, target, np.array([1, 1, 1, 5]), "bad")
    }
    assert list(rows) == ["u", "v", "p", "speed"]
    assert rows["u"].mean == rows["u"].area_weighted == pytest.approx(0.5)
    assert rows["v"].mean == 0
    assert rows["p"].mean == pytest.approx(0.5)
    assert rows["p"].area_weighted == pytest.approx(np.sqrt(5 / 8))
    assert (rows["p"].model, rows["p"].n_points) == ("bad", 4)
