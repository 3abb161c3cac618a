"""Models side by side, the sizes of figures, their colours."""

import io

import matplotlib
import numpy as np
import pytest
from drawn import (
    CYLINDER,
    LABELS,
    NEAR,
    channel,
    check_drawn,
    field_of,
    flow_of,
    labels,
    main_axes,
    title_of,
)
from matplotlib import image

from pinnfluence.plots import fields as plots
from pinnfluence.plots import overview, style
from pinnfluence.plots.history import history_figure
from pinnfluence.reference.comparison import absolute_errors


@pytest.fixture(scope="module")
def points():
    return channel()


@pytest.fixture(scope="module")
def target(points):
    return flow_of(points)


def two_models(points, target):
    x = {"good": points, "bad": points}
    return x, {"good": target, "bad": {name: 2 * v for name, v in target.items()}}


def test_models_side_by_side(points, target):
    """The same colours in each column, a bar below it, the target first."""
    x, models = two_models(points, target)
    fields = overview.fields_overview(
        x, models, (points, target), ("u", "v", "p"), CYLINDER, LABELS
    )
    check_drawn(fields)
    axes = np.reshape(main_axes(fields), (3, 3))
    assert [title_of(axis) for axis in axes[:, 0]] == ["target", "good", "bad"]
    for column, name in zip(axes.T, ("u", "v", "p"), strict=True):
        assert len({field_of(axis).get_clim() for axis in column}) == 1
        for axis, values in zip(column, (target, *models.values()), strict=True):
            np.testing.assert_array_equal(field_of(axis).get_array(), values[name])
    assert labels(fields) == ["m/s", "m/s", "Pa"]
    errors = {name: absolute_errors(fields, target) for name, fields in models.items()}
    limits = plots.error_limits_of((fields, target) for fields in models.values())
    figure = overview.errors_overview(x, errors, limits, ("u", "p"), CYLINDER, LABELS)
    check_drawn(figure)
    for axis in np.reshape(main_axes(figure), (2, 2))[:, 1]:
        assert field_of(axis).get_clim() == limits["p"]
    density = {name: fields["u"] ** 2 + 1e-9 for name, fields in models.items()}
    figure = overview.loss_overview(x | {"third": points}, density | {"third": density["good"]})
    assert [title_of(axis) for axis in main_axes(figure)] == ["good", "bad", "third"]
    assert len({field_of(axis).get_clim() for axis in main_axes(figure)}) == 1


@pytest.mark.parametrize("place", [None, np.array([0.2, 0.15])])
def test_influence_of_models_by_recipe(points, target, place):
    small, large = (overview.Effect(points, size * target["v"], place) for size in (1e-2, 1.0))
    effects = {"gauss-newton": {"good": large}, "paper": {"good": small, "bad": small}}
    figure = overview.influence_overview(effects, ["good", "bad"], "u", CYLINDER, NEAR, LABELS)
    assert image.imread(io.BytesIO(style.render(figure, dpi=60)))[..., :3].std() > 0.05
    axes = np.reshape(np.array(figure.axes), (2, 2))
    assert [text.get_text() for text in figure.texts if text.get_text().strip()] == list(effects)
    drawn = [field_of(axis) for axis in (axes[0, 0], axes[0, 1], axes[1, 1])]
    assert len({one.get_clim() for one in drawn}) == 1, "one scale, whatever the recipe"
    assert axes[1, 0].texts[0].get_text() == "not computed"
    if place is not None:
        assert np.ptp(drawn[0].to_rgba(0.0)[:3]) < 0.01, "zero has no colour"
        np.testing.assert_array_equal(np.ravel(axes[0, 0].lines[0].get_data()), place)
        low, high = drawn[0].get_clim()
        assert low == -high == -np.percentile(np.abs(np.r_[large.values]), 99.5)


def test_figures_have_the_widths_of_a_journal(points, target):
    long = plots.fields_figure(points, target, CYLINDER, ("u",))
    square = plots.fields_figure(points * [0.2, 1], target, None, ("u",))
    assert [f.get_size_inches()[0] for f in (long, square)] == [style.PAGE, style.COLUMN]
    pixels = image.imread(io.BytesIO(style.render(long, dpi=100)))
    assert pixels.shape[1] == 700
    history = {"step": np.arange(3), "error_u": np.ones(3), "pde": np.ones(3)}
    assert history_figure(history).get_size_inches()[0] == style.PAGE


@pytest.mark.parametrize("name", ["MAGNITUDE_MAP", "ERROR_MAP", "LOSS_MAP", "SIGNED_MAP"])
def test_colours_read_in_grey(name):
    """CIE lightness goes one way, of signed colours from the middle down on both sides alike."""
    rgb = matplotlib.colormaps[getattr(style, name)](np.linspace(0, 1, 101))[:, :3]
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    light = 116 * np.cbrt(np.maximum(linear @ [0.2126, 0.7152, 0.0722], 0.008856)) - 16
    halves = [light[:51], light[:49:-1]] if name == "SIGNED_MAP" else [light]
    for half in halves:
        steps = np.diff(half)
        assert (steps >= 0).all() or (steps <= 0).all()
        assert abs(steps).max() < 4 * abs(steps).mean(), "no bands"
    if name == "SIGNED_MAP":
        np.testing.assert_allclose(halves[0], halves[1], atol=12)
