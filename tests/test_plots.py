"""Figures: what they show, in which colours, and that they are drawn at all."""

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
    with_speed,
)
from matplotlib import image
from matplotlib.colors import LogNorm
from PIL import Image

from pinnfluence.plots import drawing, style, tables
from pinnfluence.plots import fields as plots
from pinnfluence.plots import influence as influence_plots
from pinnfluence.plots.history import history_figure
from pinnfluence.problems import burgers
from pinnfluence.reference.comparison import absolute_errors


@pytest.fixture(scope="module")
def points():
    return channel()


@pytest.fixture(scope="module")
def target(points):
    return flow_of(points)


@pytest.fixture(scope="module")
def predicted(target):
    return with_speed(0.9 * target["u"], target["v"] + 0.03, 1.2 * target["p"])


def isolines(axis):
    (lines,) = axis.collections[1:]
    return lines


def test_comparison_figure(points, predicted, target):
    figure = plots.comparison_figure(
        points, predicted, target, CYLINDER, name="good", labels=LABELS
    )
    check_drawn(figure)
    axes = np.reshape(main_axes(figure), (4, 3))
    errors = absolute_errors(predicted, target)
    for row, field in zip(axes, ("u", "v", "speed", "p"), strict=True):
        for axis, values in zip(row[:2], (predicted, target), strict=True):
            np.testing.assert_array_equal(field_of(axis).get_array(), values[field])
        assert field_of(row[0]).get_clim() == field_of(row[1]).get_clim()
        least, largest = field_of(row[2]).get_clim()
        assert largest == pytest.approx(errors[field].max())
        shown = np.maximum(errors[field], least)
        np.testing.assert_array_equal(field_of(row[2]).get_array(), shown)
        assert isinstance(field_of(row[2]).norm, LogNorm)
    low, high = field_of(axes[1, 1]).get_clim()
    assert low == -high == -np.abs(target["v"]).max()
    assert title_of(axes[2, 2]).startswith(r"Error in $|\mathbf{u}|$, up to ")
    assert [text.get_text() for text in figure.texts] == ["good"]
    assert labels(figure)[:2] == ["m/s", "m/s"]
    assert labels(figure)[6:] == ["Pa", "Pa"]
    assert axes[3, 0].get_xlabel() == "$x$ (m)"


def test_colour_bars_are_pointed_where_values_lie_beyond(points, predicted, target):
    figure = plots.comparison_figure(points, predicted, target, CYLINDER, labels=LABELS)
    pressure = np.reshape(main_axes(figure), (4, 3))[3]
    assert field_of(pressure[1]).colorbar.extend == "max", "the bar is that of both"
    velocity = np.reshape(main_axes(figure), (4, 3))[1]
    assert field_of(velocity[1]).colorbar.extend == "max"
    beyond = 100 * np.mean(predicted["p"] > 1.005 * target["p"].max())
    farthest = f"to {predicted['p'].max():.2g}"
    assert title_of(pressure[0]) == f"Predicted $p$, {farthest}", "narrow maps have one title"
    assert title_of(pressure[1]) == "Target $p$"
    alone = plots.fields_figure(
        points, predicted, CYLINDER, ("p",), limits_of=target, labels=LABELS
    )
    note = main_axes(alone)[0].get_title(loc="right")
    assert note == f"{beyond:.1g} % beyond the colours, {farthest}"


@pytest.mark.parametrize("fields", [("u", "v", "p"), ("u", "v", "speed", "p")])
def test_fields_figure(points, predicted, target, fields):
    figure = plots.fields_figure(
        points, predicted, CYLINDER, fields, limits_of=target, labels=LABELS
    )
    check_drawn(figure)
    for axis, field in zip(main_axes(figure), fields, strict=True):
        assert title_of(axis) == f"Predicted {LABELS.symbol(field)}"
        np.testing.assert_array_equal(field_of(axis).get_array(), predicted[field])
    targets = plots.fields_figure(points, target, CYLINDER, title="Target", labels=LABELS)
    assert title_of(main_axes(targets)[3]) == "Target $p$"
    assert field_of(main_axes(targets)[3]).get_clim() == pytest.approx((0, 2.2), abs=1e-6)


def test_error_figure(points, predicted, target):
    figure = plots.error_figure(points, predicted, target, CYLINDER, labels=LABELS)
    check_drawn(figure)
    speed = field_of(main_axes(figure)[2]).get_array()
    errors = np.abs(predicted["speed"] - target["speed"])
    np.testing.assert_array_equal(speed, np.maximum(errors, 1e-6 * errors.max()))


def test_signed_fields_have_the_line_of_zero_and_others_have_isolines(points):
    x = points[:, 0].astype(float)
    values = {"u": 0.1 * (x - 1), "p": 3 * x}
    figure = plots.fields_figure(points, values, CYLINDER, ("u", "p"), labels=LABELS)
    flow, pressure = main_axes(figure)
    low, high = field_of(flow).get_clim()
    assert low == -high
    zero = np.concatenate([path.vertices for path in isolines(flow).get_paths()])
    np.testing.assert_allclose(zero[:, 0], 1, atol=1e-6)
    isobars = isolines(pressure)
    assert len(isobars.levels) > 5
    for level, path in zip(isobars.levels, isobars.get_paths(), strict=True):
        np.testing.assert_allclose(path.vertices[:, 0], level / 3, atol=1e-6)


def test_models_share_their_colours(points, predicted, target):
    worse = {name: values + 3 * (predicted[name] - values) for name, values in target.items()}
    limits = plots.error_limits_of([(predicted, target), (worse, target)])
    for model in (predicted, worse):
        figure = plots.error_figure(points, model, target, CYLINDER, labels=LABELS, limits=limits)
        row = plots.comparison_figure(points, model, target, labels=LABELS, limits=limits)
        for i, name in enumerate(("u", "v", "speed", "p")):
            top = abs(worse[name] - target[name]).max()
            ends = pytest.approx((1e-6 * top, top))
            assert field_of(main_axes(figure)[i]).get_clim() == ends
            assert field_of(main_axes(row)[3 * i + 2]).get_clim() == ends
    title = title_of(main_axes(figure)[0])  # a pale map still has its number
    assert title.endswith(f", up to {abs(worse['u'] - target['u']).max():.2g} m/s")
    both = drawing.common_limits([(-1.0, 1.0), (-3.0, 3.0)])
    for figure in (
        influence_plots.influence_figure(points, target["u"], points[0], "u", limits=both),
        influence_plots.training_influence_figure(points, target["u"], NEAR, "u", limits=both),
        plots.loss_figure(points, target["u"] + 1, limits=both),
    ):
        assert field_of(main_axes(figure)[0]).get_clim() == (-3, 3)


def test_loss_figure(points):
    density = np.linspace(1e-6, 1e-2, len(points))
    density[0] = 0
    figure = plots.loss_figure(points, density, CYLINDER, labels=LABELS)
    check_drawn(figure)
    np.testing.assert_allclose(
        field_of(main_axes(figure)[0]).get_array()[1:], np.log10(density[1:])
    )
    assert "log" in title_of(main_axes(figure)[0])
    assert title_of(main_axes(figure)[0]).endswith("unweighted, their units left out")


def test_a_problem_brings_its_own_labels():
    """In space and time, with a signed field without a unit, and without any region."""
    labels = burgers.PROBLEM.labels
    reference = burgers.reference()
    points, values = reference.points[::7], reference.values["u"][::7]
    for figure in (
        plots.fields_figure(points, {"u": values}, labels=labels),
        plots.comparison_figure(points, {"u": values}, {"u": values}, labels=labels),
        influence_plots.training_influence_figure(points, values**2, None, "u", labels=labels),
        influence_plots.influence_figure(points, values, points[0], "u", labels=labels),
    ):
        check_drawn(figure)
        axis = main_axes(figure)[0]
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("$x$", "$t$")
    figure = plots.fields_figure(points, {"u": values}, labels=labels)
    low, high = field_of(main_axes(figure)[0]).get_clim()
    assert low == -high
    assert title_of(main_axes(figure)[0]) == "Predicted $u$"
    history = {"step": np.arange(3), "error_u": np.ones(3), "burgers": np.ones(3)}
    _, errors = history_figure(history, labels=labels).axes
    assert [line.get_label() for line in errors.lines] == ["$u$"]


def test_without_labels_names_stand_for_themselves(points, target):
    figure = plots.fields_figure(points, {"w": target["u"], "q": target["p"]})
    assert [title_of(axis) for axis in main_axes(figure)] == ["Predicted w", "Predicted q"]
    assert labels(figure) == ["w", "q"]
    assert main_axes(figure)[1].get_xlabel() == "$x$"


def test_no_triangle_lies_in_the_cylinder(points):
    triangulation = drawing.triangulate(points, CYLINDER)
    shown = triangulation.get_masked_triangles()
    centroids = points[shown].mean(axis=1)
    assert not CYLINDER.contains(centroids).any()
    hidden = len(triangulation.triangles) - len(shown)
    assert hidden == 38, "a polygon with 40 corners"
    a, b, c = points[shown].astype(float).transpose(1, 0, 2)
    area = np.abs(np.cross(np.c_[b - a, 0 * a[:, 0]], np.c_[c - a, 0 * a[:, 0]])[:, 2]).sum() / 2
    assert area == pytest.approx(2.2 * 0.41 - np.pi * 0.05**2, rel=1e-3)


def test_constant_fields_can_be_drawn(points):
    zero = with_speed(*np.zeros((3, len(points))))
    check_drawn(plots.comparison_figure(points, zero, zero, CYLINDER))
    check_drawn(influence_plots.influence_figure(points, zero["u"], points[0], "u"))
    check_drawn(plots.loss_figure(points, zero["u"] + 1))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_saved_files_repeat(points, target, tmp_path, suffix):
    paths = [
        style.save(
            plots.fields_figure(points, target, CYLINDER, ("u",)), tmp_path / f"{i}.{suffix}"
        )
        for i in range(2)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size > 5000
    assert b"Date" not in paths[0].read_bytes().replace(b"ModDate", b"")
    with pytest.raises(ValueError, match="must end in"):
        style.save(tables.table_figure(["a"], []), tmp_path / "table.txt")


def test_pictures_are_in_full_colours(points, target, tmp_path):
    path = style.save(plots.fields_figure(points, target, CYLINDER, ("u",)), tmp_path / "u.png")
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        assert len(picture.getcolors(10**7) or []) > 1000
        assert picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_preview_is_the_same_picture_made_smaller(points, target, tmp_path):
    path = style.save(plots.fields_figure(points, target, CYLINDER, ("u",)), tmp_path / "u.png")
    large, small = image.imread(path), image.imread(io.BytesIO(style.preview(path, 0.5)))
    assert small.shape == (round(large.shape[0] / 2), round(large.shape[1] / 2), 3)
    assert small.mean() == pytest.approx(large[..., :3].mean(), abs=0.01)


def test_nothing_is_left_in_pyplot(points, target):
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30}):
        figure = plots.fields_figure(points, target, CYLINDER, ("u",))
        assert matplotlib.rcParams["font.size"] == 30
    assert main_axes(figure)[0].title.get_size() == style.STYLE["axes.titlesize"]
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
