"""Errors against a reference: closed forms, and matching of points."""

import numpy as np
import pytest

from pinnfluence.comparison import (
    absolute_errors,
    error_rows,
    match_points,
    relative_l2,
    with_speed,
)


def test_relative_l2_by_hand():
    predicted, target = np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.0, 2.0])
    assert relative_l2(predicted, target) == pytest.approx(1.0)
    assert relative_l2(predicted, target, np.array([4.0, 4.0, 1.0])) == pytest.approx(
        np.sqrt(9 / 24)
    )
    assert relative_l2(1.1 * target, target) == pytest.approx(0.1)


def test_error_in_the_speed_is_the_difference_of_speeds():
    predicted = with_speed({"u": np.array([3.0]), "v": np.array([4.0]), "p": np.zeros(1)})
    target = with_speed({"u": np.zeros(1), "v": np.ones(1), "p": np.zeros((1, 1))})
    errors = absolute_errors(predicted, target)
    assert {name: error.tolist() for name, error in errors.items()} == {
        "u": [3.0],
        "v": [3.0],
        "p": [0.0],
        "speed": [4.0],
    }


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
    target = with_speed({"u": np.ones(4), "v": np.ones(4), "p": np.ones(4)})
    predicted = with_speed({"u": 1.5 * np.ones(4), "v": np.ones(4), "p": np.array([1, 1, 1, 2])})
    rows = {
        row.quantity: row for row in error_rows(predicted, target, np.array([1, 1, 1, 5]), "bad")
    }
    assert list(rows) == ["u", "v", "p", "speed"]
    assert rows["u"].mean == rows["u"].area_weighted == pytest.approx(0.5)
    assert rows["v"].mean == 0
    assert rows["p"].mean == pytest.approx(0.5)
    assert rows["p"].area_weighted == pytest.approx(np.sqrt(5 / 8))
    assert (rows["p"].model, rows["p"].n_points) == ("bad", 4)
