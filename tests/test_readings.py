"""The indicators of the second paper on matrices written out by hand, and their conventions."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pinnfluence.errors import InputError
from pinnfluence.scores.dense import DenseScores
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores
from pinnfluence.scores.indicators import (
    READINGS,
    Case,
    cancellation,
    direction,
    in_bins,
    loss_fraction,
    loss_fraction_of_points,
    proximity,
    readings,
    region_ratio,
    self_influence,
)
from pinnfluence.scores.matrix import DenseMatrix, FactoredMatrix

# Rows are test points, columns training points; the third one is on the boundary, where the
# condition acts. The last test point is on the boundary, too.
EQUATION = np.array([[1, -2, 1], [0, 0, 3], [4, 4, 4], [0, 0, 0]], np.float32)
CONDITION = np.array([[0, 0, -1], [0, 0, 1], [0, 0, 4], [0, 0, 0]], np.float32)
TRAIN_X = np.array([[0.0, 0.0], [1.0, 0.5], [0.0, 1.0]], np.float32)
TEST_X = np.array([[0.0, 0.5], [1.0, 0.4], [1.0, 1.0], [0.5, 0.5]], np.float32)


@pytest.fixture
def case():
    return Case(
        DenseMatrix(EQUATION + CONDITION),
        {"equation": DenseMatrix(EQUATION), "condition": DenseMatrix(CONDITION)},
        {"equation": np.array([True, True, True]), "condition": np.array([False, False, True])},
        TRAIN_X,
        TEST_X,
        np.array([True, True, False, True]),
        {"t": (TRAIN_X[:, 1], TEST_X[:, 1])},
        {"A -> B": (np.array([True, True, False]), np.array([True, False, True, False]))},
        ("condition",),
    )


def test_loss_fraction(case):
    found = loss_fraction(case)
    np.testing.assert_allclose(found["equation"], [4 / 5, 3 / 4, 12 / 16, np.nan])
    np.testing.assert_allclose(found["condition"], [1 / 5, 1 / 4, 4 / 16, np.nan])
    uniform = loss_fraction(case.uniform())
    np.testing.assert_allclose(uniform["equation"], 3 / 4)
    np.testing.assert_allclose(uniform["condition"], 1 / 4)


def test_loss_fraction_of_points(case):
    found = loss_fraction_of_points(case)
    np.testing.assert_allclose(found["equation"], [1, 1, 8 / 14])
    np.testing.assert_allclose(found["condition"], [0, 0, 6 / 14])


def test_cancellation(case):
    # z_0: 1, 1 and |1 - 1| / 2; z_1: the third point alone, whose terms agree
    np.testing.assert_allclose(cancellation(case)[""], [1 / 3, 0, 0, np.nan])
    np.testing.assert_allclose(cancellation(case.uniform())[""], 0)


def test_direction(case):
    # z_0 at t = 0.5: |Inf| = 1, 2, 0; the point at t = 0.5 is not beyond it. z_2 is a boundary's.
    np.testing.assert_allclose(direction(case)["t"], [0, 1, np.nan, np.nan])
    uniform = direction(case.uniform())["t"]
    np.testing.assert_allclose(uniform, [1 / 3, 2 / 3, np.nan, 1 / 3], rtol=1e-6)


def test_region_ratio(case):
    np.testing.assert_allclose(region_ratio(case)["A -> B"], [1, np.nan, 8 / 16, np.nan])
    np.testing.assert_allclose(
        region_ratio(case.uniform())["A -> B"], [2 / 3, np.nan, 2 / 3, np.nan]
    )
    tiny = replace(case, whole=DenseMatrix((EQUATION + CONDITION) * 1e-12))
    np.testing.assert_allclose(region_ratio(tiny)["A -> B"][0], 3 / 4, rtol=1e-6)


def test_proximity(case):
    # Inside are two training points and three test points: |Inf| = 1, 2; 0, 0; 0, 0.
    near = 1 * math.exp(-0.5 / 2) + 2 * math.exp(-1 / 2)
    np.testing.assert_allclose(proximity(case)[""], [near / 3], rtol=1e-6)
    pairs = [0.5, 1, math.hypot(1, 0.4), 0.1, math.hypot(0.5, 0.5), 0.5]
    expected = np.mean([math.exp(-distance / 2) for distance in pairs])
    np.testing.assert_allclose(proximity(case.uniform())[""], [expected], rtol=1e-6)


def test_proximity_in_the_bounding_box(case):
    stretch = np.array([7.0, 0.1], np.float32)
    stretched = replace(case, train_x=TRAIN_X * stretch - 3, test_x=TEST_X * stretch - 3)
    np.testing.assert_allclose(proximity(stretched)[""], proximity(case)[""], rtol=1e-5)


def test_self_influence():
    dense = np.array([[1, 2, 3], [4, -5, 6], [7, 8, 9]], np.float32)
    np.testing.assert_array_equal(self_influence(DenseMatrix(dense)), [1, -5, 9])
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((3000, 2)).astype(np.float32) for _ in range(2))
    found = self_influence(FactoredMatrix(left, right))  # more than one block
    np.testing.assert_allclose(found, (left * right).sum(1), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="2 test points and 3 training points"):
        self_influence(DenseMatrix(dense[:2]))


def test_bins():
    values, coordinate = np.array([1.0, 3.0, np.nan, 5.0]), np.array([0.0, 0.4, 0.6, 1.0])
    edges, means = in_bins(values, coordinate, 2)
    np.testing.assert_allclose(edges, [0, 0.5, 1])
    np.testing.assert_allclose(means, [2, 5])
    assert np.isnan(in_bins(values, coordinate, 4)[1][2])


def test_large_matrices_are_read_in_blocks(case, monkeypatch):
    whole = {name: READINGS[name](case) for name in ("loss fraction", "cancellation", "proximity")}
    monkeypatch.setattr("pinnfluence.scores.indicators.case.BLOCK_ELEMENTS", 6)
    for name, expected in whole.items():
        for part, values in READINGS[name](case).items():
            np.testing.assert_allclose(values, expected[part])


def scores_of(weighting="uniform"):
    """The matrices above as a score file of full rank."""
    acting = {"equation": np.arange(3), "condition": np.array([2])}
    parts = {"equation": EQUATION, "condition": CONDITION}
    train = {
        name: Embedding(np.ascontiguousarray(parts[name].T[rows]), rows)
        for name, rows in acting.items()
    }
    test = {
        "u": Embedding(np.eye(4, dtype=np.float32), np.arange(4)),
        "equation": Embedding(np.eye(4, dtype=np.float32), np.arange(4)),
        "condition": Embedding(np.eye(4, dtype=np.float32)[[2]], np.array([2])),
    }
    metadata = {
        "inputs": ["x", "t"],
        "outputs": ["u"],
        "terms": list(acting),
        "groups": {"pde": ["equation"], "bcs": ["condition"], "all": list(acting)},
        "recipe": {"name": "paper", "weighting": weighting},
    }
    return Scores(TRAIN_X, TEST_X, train, test, metadata)


def test_case_of_a_score_file(case):
    found = Case.of(scores_of(), "u", center=(1.0, 0.0))
    np.testing.assert_array_equal(np.asarray(found.whole), np.asarray(case.whole))
    for name in case.parts:
        np.testing.assert_array_equal(np.asarray(found.parts[name]), np.asarray(case.parts[name]))
        np.testing.assert_array_equal(found.acting[name], case.acting[name])
    np.testing.assert_array_equal(found.inside, case.inside)
    np.testing.assert_allclose(found.coordinates["radius"][0], [1, 0.5, math.sqrt(2)])
    origin, where = found.regions["conditions -> interior"]
    assert origin.tolist() == [False, False, True]
    assert where.tolist() == [True, True, False, True]


def test_readings_are_means_over_test_points():
    rows = {(r.indicator, r.part): r for r in readings(scores_of())}
    assert rows["cancellation", ""].value == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert rows["direction", "t"].value == pytest.approx((0 + 1) / 2)
    assert rows["direction", "t"].uniform == pytest.approx((1 / 3 + 2 / 3 + 1 / 3) / 3)
    assert rows["loss fraction", "condition"].value == pytest.approx((1 / 5 + 1 / 4 + 1 / 4) / 3)
    assert rows["mean", ""].value == pytest.approx((-1 + 4 + 16) / 12)
    assert rows["mean of |Inf|", "condition"].value == pytest.approx(6 / 12)
    assert all(r.quantity == "u" for r in rows.values())


@pytest.mark.parametrize(
    ("sign", "scale", "factor"),
    [
        ("removal", "removal", 1),
        ("adding", "removal", -1),
        ("removal", "paper", 3),
        ("adding", "paper", -3),
        ("removal", "file", 1),
        ("adding", "file", -1),
    ],
)
def test_conventions(sign, scale, factor):
    scores, plain = scores_of(), np.asarray(scores_of()["u"])
    np.testing.assert_allclose(np.asarray(scores.matrix("u", None, scale, sign)), factor * plain)
    dense = DenseScores({"output_dim_0": plain, "train_x": TRAIN_X, "test_x": TEST_X}, ("u",))
    np.testing.assert_allclose(np.asarray(dense.matrix("u", None, scale, sign)), factor * plain)
    before = {(r.indicator, r.part): r.value for r in readings(scores)}
    for row in readings(scores, sign=sign, scale=scale):
        expected = before[row.indicator, row.part]
        if row.indicator.startswith("mean"):
            expected *= abs(factor) if "|" in row.indicator else factor
        assert row.value == pytest.approx(expected, rel=1e-6), row


def test_unweighted_scores_are_no_multiple_of_weighted_ones():
    scores = scores_of("training")
    with pytest.raises(InputError, match="weighting training: take the scale removal"):
        scores.matrix("u", scale="file")
    assert len(readings(scores, scale="paper")) == len(readings(scores))


def test_unknown_conventions_are_refused():
    with pytest.raises(InputError, match="sign must be one of removal, adding, found 'both'"):
        scores_of().matrix("u", sign="both")


def test_the_command_prints_and_writes_the_table(tmp_path):
    scores_of("training").save(tmp_path)
    command = [sys.executable, "-m", "pinnfluence", "indicators", str(tmp_path)]
    table = tmp_path / "table.csv"
    more = ["--sign", "adding", "--scale", "paper", "--csv", str(table)]
    shown = subprocess.run([*command, *more], capture_output=True, text=True, check=True).stdout
    mean = next(line.split() for line in shown.splitlines() if " mean " in line)
    assert float(mean[-2]) == pytest.approx(-3 * 19 / 12, rel=1e-3)
    assert "in the scale 'paper'; a positive mean: adding a point raises it" in shown
    assert len(table.read_text().splitlines()) == 1 + len(readings(scores_of()))
    refused = subprocess.run([*command, "--scale", "file"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: the scale file is that of a loss with all weights 1")
    assert refused.stderr.count("\n") == 1
