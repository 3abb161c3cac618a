"""Indicators against closed forms, a for-loop, and their invariances."""

import csv
import dataclasses

import numpy as np
import pytest

from pinnfluence.plots.tables import write_csv
from pinnfluence.problem.domain import Disk
from pinnfluence.scores.embedding import Embedding
from pinnfluence.scores.file import Scores
from pinnfluence.scores.indicators import (
    INDICATORS,
    average,
    directional_indicator,
    indicator_rows,
    object_indicator,
    point_indicators,
    summarise,
    uniform_indicators,
)
from pinnfluence.scores.matrix import DenseMatrix, FactoredMatrix

REGION = Disk((0.2, 0.2), 0.075)
QUANTITIES = ("u", "v", "p", "speed", "pde", "bcs", "all")


def channel_points(rng, n):
    """Points in the channel whose coordinates repeat, so that ties in x occur."""
    return np.round(rng.random((n, 2)) * [2.2, 0.41], 1).astype(np.float32)


def is_upstream(z, x):
    return z[0] < x[0]


def is_around_object(z, x):
    return np.hypot(*(z.astype(float) - REGION.center)) <= REGION.radius


COUNTS = {"directional": is_upstream, "object": is_around_object}
"""Whether a training point z counts for a test point x, for every indicator."""


def by_loop(dense, train_x, test_x):
    """The definitions, one pair of points at a time."""
    found: dict[str, list[float]] = {name: [] for name in COUNTS}
    for scores, x in zip(np.abs(dense.astype(float)), test_x, strict=True):
        total = scores.sum() or np.nan
        for name, counts in COUNTS.items():
            part = sum(s for s, z in zip(scores, train_x, strict=True) if counts(z, x))
            found[name].append(part / total)
    return {name: np.array(values) for name, values in found.items()}


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    train_x, test_x = channel_points(rng, 61), channel_points(rng, 83)
    left, right = (rng.standard_normal((n, 5)).astype(np.float32) for n in (83, 61))
    left[[0, 17]] = 0
    return FactoredMatrix(left, right), train_x, test_x


def test_hand_computed():
    train_x = np.array([[0.1, 0.2], [0.2, 0.25], [0.5, 0.1], [2.0, 0.4]], np.float32)
    test_x = np.array([[0.2, 0.0], [0.6, 0.0], [2.2, 0.0], [1.0, 0.0]], np.float32)
    dense = np.array([[1, -2, 3, -4], [-1, 1, 1, 1], [5, 0, 0, -5], [0, 0, 0, 0]], np.float32)
    values = point_indicators(DenseMatrix(dense), train_x, test_x, REGION)
    np.testing.assert_allclose(values["directional"], [1 / 10, 3 / 4, 1, np.nan])
    np.testing.assert_allclose(values["object"], [2 / 10, 1 / 4, 0, np.nan])
    uniform = uniform_indicators(train_x, test_x, REGION)
    np.testing.assert_allclose(uniform["directional"], [1 / 4, 3 / 4, 1, 3 / 4])
    np.testing.assert_allclose(uniform["object"], 1 / 4)

    area = np.array([1.0, 2.0, 1.0, 100.0])
    directional, near = summarise(values, uniform, area, "good", "paper", "bcs")[:2]
    expected = {
        "model": "good",
        "recipe": "paper",
        "quantity": "bcs",
        "indicator": "directional",
        "mean": pytest.approx((0.1 + 0.75 + 1) / 3),
        "area_weighted": pytest.approx((0.1 + 2 * 0.75 + 1) / 4),
        "uniform": pytest.approx((0.25 + 0.75 + 1) / 3),
        "uniform_area_weighted": pytest.approx((0.25 + 2 * 0.75 + 1) / 4),
        "lower": pytest.approx((0.1 + 0.75) / 2),
        "upper": pytest.approx((0.75 + 1) / 2),
        "n_points": 3,
        "n_zero": 1,
    }
    assert dataclasses.asdict(directional) == expected
    assert near.indicator == "object"
    assert near.mean == pytest.approx((0.2 + 0.25) / 3)
    assert near.area_weighted == pytest.approx((0.2 + 2 * 0.25) / 4)


def test_constant_influence_gives_the_uniform_baseline(case):
    _, train_x, test_x = case
    constant = FactoredMatrix(np.full((83, 1), -0.3, np.float32), np.ones((61, 1), np.float32))
    values = point_indicators(constant, train_x, test_x, REGION)
    uniform = uniform_indicators(train_x, test_x, REGION)
    for name in INDICATORS:
        np.testing.assert_allclose(values[name], uniform[name], rtol=1e-6)
    for row in summarise(values, uniform, np.linspace(0, 1, 83), "m", "paper", "u"):
        assert row.mean == pytest.approx(row.uniform, rel=1e-6)
        assert row.area_weighted == pytest.approx(row.uniform_area_weighted, rel=1e-6)


@pytest.mark.parametrize("column", range(4))
def test_single_column(column):
    train_x = np.array([[0.2, 0.2], [0.2, 0.275], [0.2, 0.28], [1.0, 0.2]])
    test_x = np.array([[0.1, 0.3], [0.2, 0.3], [0.3, 0.3], [1.0, 0.3], [1.1, 0.3]])
    dense = np.zeros((5, 4), np.float32)
    dense[:, column] = [1, -2, 3, -4, 5]
    matrix = DenseMatrix(dense)
    upstream = train_x[column, 0] < test_x[:, 0]
    np.testing.assert_array_equal(directional_indicator(matrix, train_x, test_x), upstream)
    inside = [1, 1, 0, 0][column]  # the rim belongs to the region
    np.testing.assert_array_equal(object_indicator(matrix, train_x, test_x, REGION), inside)


def test_against_a_loop(case):
    matrix, train_x, test_x = case
    values = point_indicators(matrix, train_x, test_x, REGION)
    expected = by_loop(np.asarray(matrix), train_x, test_x)
    assert set(values) == set(expected) == set(INDICATORS)
    for name, found in values.items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-5)
        assert np.isnan(found[[0, 17]]).all()
        assert np.isnan(found).sum() == 2


def test_along_another_direction(case):
    matrix, train_x, test_x = case
    turned = directional_indicator(matrix, train_x[:, ::-1], test_x[:, ::-1], direction=1)
    np.testing.assert_allclose(turned, directional_indicator(matrix, train_x, test_x))


@pytest.mark.parametrize("n_rows", [1, 7, 83, 1000])
def test_independent_of_block_size(case, n_rows):
    matrix, train_x, test_x = case
    whole = point_indicators(matrix, train_x, test_x, REGION)
    parts = point_indicators(matrix, train_x, test_x, REGION, n_rows=n_rows)
    for name in INDICATORS:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6)


def test_independent_of_the_order_of_points(case):
    matrix, train_x, test_x = case
    whole = point_indicators(matrix, train_x, test_x, REGION)
    rng = np.random.default_rng(0)
    i, j = rng.permutation(83), rng.permutation(61)
    shuffled = FactoredMatrix(matrix.left[i], matrix.right[j])
    values = point_indicators(shuffled, train_x[j], test_x[i], REGION)
    for name in INDICATORS:
        np.testing.assert_allclose(values[name], whole[name][i], rtol=1e-5)


def test_independent_of_sign_and_scale(case):
    matrix, train_x, test_x = case
    scaled = FactoredMatrix(matrix.left * -1e-20, matrix.right * 61)
    values = point_indicators(scaled, train_x, test_x, REGION)
    whole = point_indicators(matrix, train_x, test_x, REGION)
    np.testing.assert_allclose(values["directional"], whole["directional"], rtol=1e-5)


def test_never_holds_the_whole_matrix():
    sizes = []

    class Watched(FactoredMatrix):
        def _block(self, rows, columns):
            block = super()._block(rows, columns)
            sizes.append(block.size)
            return block

    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((n, 2)).astype(np.float32) for n in (3000, 3000))
    test_x, train_x = channel_points(rng, 3000), channel_points(rng, 3000)
    point_indicators(Watched(left, right), train_x, test_x, REGION)
    assert sum(sizes) == 3000 * 3000
    assert max(sizes) <= 2**21


def test_points_of_another_file_are_refused(case):
    matrix, train_x, test_x = case
    with pytest.raises(ValueError, match=r"\[82, 61\], found \[83, 61\]"):
        point_indicators(matrix, train_x, test_x[1:], REGION)


def test_average_of_nothing_is_nan():
    assert np.isnan(average(np.array([np.nan, np.nan])))
    assert np.isnan(average(np.array([1.0, np.nan]), np.array([0.0, 1.0])))


def small_scores():
    """Scores with every quantity, whose conditions act on the last 4 of 12 test points only."""
    rng = np.random.default_rng(5)
    train_x, test_x = channel_points(rng, 20), channel_points(rng, 12)
    rows = {"continuity": np.arange(12), "noslip_u": np.arange(8, 12)}
    rows |= dict.fromkeys(("u", "v", "p", "speed"), np.arange(12))
    test = {
        name: Embedding(rng.standard_normal((len(r), 3)).astype(np.float32), r)
        for name, r in rows.items()
    }
    train = {
        name: Embedding(rng.standard_normal((20, 3)).astype(np.float32), np.arange(20))
        for name in ("continuity", "noslip_u")
    }
    groups = {"pde": ["continuity"], "bcs": ["noslip_u"], "all": ["continuity", "noslip_u"]}
    metadata = {"terms": ["continuity", "noslip_u"], "groups": groups}
    return Scores(train_x, test_x, train, test, metadata, np.ones(3, np.float32))


def test_table_of_a_model(tmp_path):
    scores = small_scores()
    area = np.linspace(0.5, 1.5, 12)
    about = ("good", QUANTITIES, "paper, rank 3")
    rows = indicator_rows(scores, scores.train_x, scores.test_x, area, REGION, *about)
    assert {(row.model, row.recipe) for row in rows} == {("good", "paper, rank 3")}
    assert [(row.quantity, row.indicator) for row in rows] == [
        (quantity, indicator) for quantity in QUANTITIES for indicator in INDICATORS
    ]
    for row in rows:
        assert row.n_zero == (8 if row.quantity == "bcs" else 0)
        assert row.n_points + row.n_zero == 12
        dense = np.asarray(scores[row.quantity])
        values = by_loop(dense, scores.train_x, scores.test_x)[row.indicator]
        acts = ~np.isnan(values)
        assert row.mean == pytest.approx(values[acts].mean(), rel=1e-5)
        weighted = np.average(values[acts], weights=area[acts])
        assert row.area_weighted == pytest.approx(weighted, rel=1e-5)

    path = write_csv(rows, tmp_path / "indicators.csv")
    with open(path, newline="") as stream:
        read = list(csv.DictReader(stream))
    assert len(read) == 7 * len(INDICATORS)
    assert list(read[0]) == [field.name for field in dataclasses.fields(rows[0])]
    assert [float(row["mean"]) for row in read] == [row.mean for row in rows]
    assert path.read_bytes() == write_csv(rows, tmp_path / "again.csv").read_bytes()


def test_no_rows_are_no_table(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        write_csv([], tmp_path / "indicators.csv")
    assert not list(tmp_path.iterdir())
