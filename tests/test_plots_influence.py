"""Figures of influence: what they show, and that they are drawn."""

import numpy as np
import pytest
from drawn import (
    CYLINDER,
    LABELS,
    NEAR,
    channel,
    check_drawn,
    field_of,
    labels,
    main_axes,
    title_of,
)
from matplotlib.collections import PathCollection
from matplotlib.patches import Circle

from pinnfluence.plots import influence as influence_plots


@pytest.fixture(scope="module")
def points():
    return channel()


def test_influence_figure(points):
    influence = np.sin(5 * points[:, 0]) + 0.3
    place = np.array([0.2, 0.15], np.float32)
    figure = influence_plots.influence_figure(
        points, influence, place, "u", CYLINDER, name="good", labels=LABELS
    )
    check_drawn(figure)
    (axis,) = main_axes(figure)
    low, high = field_of(axis).get_clim()
    assert low == -high < 0
    assert high == pytest.approx(np.percentile(np.abs(influence), 99.5))
    red, _, blue, _ = field_of(axis).to_rgba(high)
    assert red > blue, "positive is red"
    assert np.ptp(field_of(axis).to_rgba(0)[:3]) < 0.01, "zero has no colour"
    (marker,) = axis.lines
    np.testing.assert_array_equal(np.ravel(marker.get_data()), place)
    assert labels(figure) == [r"$N\,\mathrm{Inf}$ (m/s)"]
    assert not [text for text in axis.texts if text.get_text()]


def test_flow_direction_points_along_x(points):
    figure = influence_plots.influence_figure(
        points, points[:, 0], points[0], "u", flow_direction=True
    )
    check_drawn(figure)
    (axis,) = main_axes(figure)
    arrow, name = axis.texts
    assert arrow.xy[0] > arrow.xyann[0]
    assert arrow.xy[1] == arrow.xyann[1]
    assert name.get_text() == "flow direction"


def test_training_influence_figure(points):
    mean = 10.0 ** np.linspace(-6, -1, len(points))
    figure = influence_plots.training_influence_figure(
        points, mean, NEAR, "speed", CYLINDER, labels=LABELS
    )
    check_drawn(figure)
    (axis,) = main_axes(figure)
    (dots,) = axis.collections
    assert isinstance(dots, PathCollection)
    np.testing.assert_allclose(np.asarray(dots.get_offsets()), points)
    np.testing.assert_allclose(np.asarray(dots.get_array()), np.log10(mean))
    circles = {patch.radius: patch for patch in axis.patches if isinstance(patch, Circle)}
    assert sorted(circles) == pytest.approx([0.05, 1.5 * 0.05])
    assert circles[NEAR.radius].center == (0.2, 0.2)
    assert not circles[NEAR.radius].get_path_effects(), "a halo would hide the points on it"
    assert r"N\,\overline{|\mathrm{Inf}|}" in title_of(axis)


def test_nearest_point():
    points = np.array([[0, 0], [0.21, 0.15], [0.2, 0.148]], np.float32)
    assert influence_plots.nearest_point(points, (0.2, 0.15)) == 2
