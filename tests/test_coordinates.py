"""Indicators and figures at points of one, two, three and four coordinates."""

import numpy as np
import pytest

from pinnfluence import InputError
from pinnfluence.plots.influence import influence_figure, training_influence_figure
from pinnfluence.plots.slices import in_slice, line_figure
from pinnfluence.problem.domain import Disk
from pinnfluence.scores.exact import ExactMatrix
from pinnfluence.scores.indicators import point_indicators, uniform_indicators


def points(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(n, d))


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_indicators_are_shares_of_the_influence(d):
    train_x, test_x = points(50, d), points(6, d, 1)
    scores = np.random.default_rng(2).normal(size=(6, 50))
    matrix = ExactMatrix({"pde": scores}, {"pde": np.arange(50)}, train_x)
    n = min(d, 2)
    region, size = Disk((0.5,) * n, 0.3), np.abs(scores)
    found = point_indicators(matrix, train_x, test_x, region)
    inside = np.linalg.norm(train_x[:, :n] - 0.5, axis=1) <= 0.3
    assert 0 < inside.sum() < 50
    np.testing.assert_allclose(found["object"], size[:, inside].sum(1) / size.sum(1), rtol=1e-5)
    upstream = train_x[:, 0] < test_x[:, :1]
    expected = (size * upstream).sum(1) / size.sum(1)
    np.testing.assert_allclose(found["directional"], expected, rtol=1e-5)
    assert set(point_indicators(matrix, train_x, test_x, None)) == set(found) - {"object"}
    assert uniform_indicators(train_x, test_x, region)["object"][0] == pytest.approx(inside.mean())


@pytest.mark.parametrize(("d", "at"), [(3, {2: 0.3}), (4, {2: 0.3, 3: 0.6}), (2, None)])
def test_a_slice_holds_the_points_near_it(d, at):
    x = points(4000, d)
    index, drawn = in_slice(x, at)
    np.testing.assert_array_equal(drawn, x[index, :2])
    if d == 2:
        assert len(index) == len(x)
        return
    distance = np.max([np.abs(x[:, k] - value) for k, value in (at or {}).items()], axis=0)
    assert distance[index].max() < np.delete(distance, index).min()
    assert len(index) == pytest.approx(400, rel=0.2)


def test_figures_draw_the_slice_alone():
    x, values = points(2000, 3), np.zeros(2000)
    index, drawn = in_slice(x, {2: 0.25})
    values[index] = 1.0 + drawn[:, 0]
    figure = influence_figure(x, values, np.array([0.2, 0.7, 0.3]), "u", at={2: 0.25})
    shown = np.asarray(figure.axes[0].collections[0].get_array(), float)
    np.testing.assert_allclose(shown, 1.0 + drawn[:, 0])
    assert "(0.200, 0.700, 0.300)" in figure.axes[0].get_title(loc="left")
    figure = training_influence_figure(x, values, None, "u", at={2: 0.25})
    assert len(np.asarray(figure.axes[0].collections[0].get_offsets())) == len(index)


def test_a_line_is_drawn_in_the_order_of_its_points():
    x = points(30, 1)
    (line,) = line_figure(x, {"u": x[:, 0] ** 2}).axes[0].lines
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), np.sort(x[:, 0]) ** 2)


@pytest.mark.parametrize(("d", "at"), [(1, None), (3, {0: 0.5}), (3, {2: 7.0})])
def test_what_is_no_slice_is_refused(d, at):
    with pytest.raises(InputError, match="expected"):
        in_slice(points(20, d), at)


def test_lines_are_of_one_coordinate():
    with pytest.raises(InputError, match="one coordinate, found 2"):
        line_figure(points(5, 2), {})
