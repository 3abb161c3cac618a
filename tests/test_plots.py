"""Figures: what they show, in which colours, and that they are drawn at all."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LogNorm
from matplotlib.patches import Circle
from PIL import Image

from pinnfluence.plots import drawing, overview, style, tables
from pinnfluence.plots import fields as plots
from pinnfluence.plots import influence as influence_plots
from pinnfluence.plots import recipes as recipe_plots
from pinnfluence.plots.history import history_figure
from pinnfluence.problem.domain import Disk
from pinnfluence.problems import burgers
from pinnfluence.problems.cylinder_flow import PROBLEM
from pinnfluence.reference.comparison import ErrorRow, absolute_errors
from pinnfluence.scores.indicators import INDICATORS, IndicatorRow

CYLINDER = Disk((0.2, 0.2), 0.05)
NEAR = Disk((0.2, 0.2), 0.075)
LABELS = PROBLEM.labels
QUANTITIES = ("u", "v", "p", "speed", "pde", "bcs", "all")


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(1)
    inner = rng.random((700, 2)) * [2.2, 0.41]
    corners = [[0, 0], [2.2, 0], [0, 0.41], [2.2, 0.41]]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    rim = 0.2 + 0.05 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([inner[np.hypot(*(inner - 0.2).T) > 0.05], corners, rim])
    return points.astype(np.float32)


@pytest.fixture(scope="module")
def target(points):
    x, y = points.T.astype(float)
    return with_speed(7 * y * (0.41 - y), 0.1 * np.sin(9 * y) - 0.02, 2.2 - x)


@pytest.fixture(scope="module")
def predicted(target):
    return with_speed(0.9 * target["u"], target["v"] + 0.03, 1.2 * target["p"])


def with_speed(u, v, p):
    return {"u": u, "v": v, "p": p, "speed": np.hypot(u, v)}


def main_axes(figure):
    """The axes that hold data; colour bars lie inside them."""
    return [axis for axis in figure.axes if axis.get_xlabel() or axis.collections]


def field_of(axis):
    """The drawn field or scatter; its ``get_array`` holds the values."""
    return axis.collections[0]  # isolines come after it


def isolines(axis):
    (lines,) = axis.collections[1:]
    return lines


def labels(figure):
    """Those of the colour bars, above or below them."""
    bars = [bar for axis in figure.axes for bar in axis.child_axes]
    return [bar.get_title(loc="left") or bar.get_xlabel() for bar in bars]


def title_of(axis):
    return axis.get_title(loc="left")


def check_drawn(figure):
    """The figure renders to an image that is not empty, in every panel, in equal aspect."""
    pixels = image.imread(io.BytesIO(style.render(figure, dpi=60)))[..., :3]
    assert pixels.std() > 0.05
    for axis in main_axes(figure):
        assert axis.get_aspect() == 1
        assert axis.collections[0].get_rasterized()
    assert labels(figure), "a colour bar"
    return pixels


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
    beyond = 100 * np.mean(predicted["p"] > target["p"].max())
    note = pressure[0].get_title(loc="right")
    assert note == f"{beyond:.1g} % beyond the colours, to {predicted['p'].max():.2g}"
    assert not pressure[1].get_title(loc="right")


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
    np.testing.assert_array_equal(speed, np.maximum(errors, 1e-4 * errors.max()))


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
            ends = pytest.approx((1e-4 * top, top))
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
    assert "log" in labels(figure)[0]
    assert title_of(main_axes(figure)[0]).endswith("unweighted, their units left out")


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
    assert r"N\,\overline{|\mathrm{Inf}|}" in labels(figure)[0]


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


def test_nearest_point():
    points = np.array([[0, 0], [0.21, 0.15], [0.2, 0.148]], np.float32)
    assert influence_plots.nearest_point(points, (0.2, 0.15)) == 2


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


def indicator_rows(models, recipes=("paper",)):
    return [
        IndicatorRow(model, recipe, quantity, kind, 0.604, 0.256, 0.5, 0.02, 0.41, 0.83, 9, 1)
        for model in models
        for recipe in recipes
        for quantity in QUANTITIES
        for kind in INDICATORS
    ]


@pytest.mark.parametrize("models", [["good", "broken", "bad"], ["a", "b", "c", "d", "e"]])
@pytest.mark.parametrize("indicator", INDICATORS)
def test_indicator_table(models, indicator):
    figure = tables.indicator_figure(indicator_rows(models), indicator, LABELS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("0.60 (0.50)") == texts.count("0.26 (0.02)") == 7 * len(models)
    for name in [*models, "$u_1$", "PDE loss", "BC loss", "all losses"]:
        assert texts.count(name) == 1
    assert INDICATORS[indicator].about in " ".join(texts[-1].split())
    check_no_overlap(figure)


def test_indicators_of_recipes():
    models, recipes = ["good", "bad", "bad_43"], ["gauss-newton", "paper"]
    rows = indicator_rows(models, recipes)
    del rows[-1]  # a model that one recipe lacks
    figure = recipe_plots.recipes_figure(rows, LABELS)
    lines = np.reshape(np.array(figure.axes), (len(INDICATORS), len(QUANTITIES)))
    for line, indicator in zip(lines, INDICATORS, strict=True):
        assert title_of(line[0]) == f"{indicator}: $u_1$"
        for axis, quantity in zip(line[1:], QUANTITIES[1:], strict=True):
            assert title_of(axis) == LABELS.symbol(quantity)
    for axis in figure.axes:
        dots = [line for line in axis.lines if line.get_marker() == "o"]
        assert [line.get_label() for line in dots] == recipes
        assert set(np.concatenate([line.get_xdata() for line in dots])) == {0.604}
        assert len(set(np.concatenate([line.get_ydata() for line in dots]))) >= 5
        for bars in axis.collections:
            assert isinstance(bars, LineCollection)
            assert all(part[:, 0].tolist() == [0.41, 0.83] for part in bars.get_segments())
        uniform = [np.asarray(line.get_xdata()) for line in axis.lines if line not in dots]
        assert [line.tolist() for line in uniform] == [[0.5, 0.5]] * len(models)
    assert [text.get_text() for text in lines[0, 0].get_yticklabels()] == models
    assert all(text.get_rotation() == 0 for text in lines[0, 0].get_yticklabels())
    assert [text.get_text() for text in figure.legends[0].texts] == recipes


@pytest.mark.parametrize("indicator", INDICATORS)
def test_table_of_recipes(indicator):
    models, recipes = ["good", "bad", "bad_43"], ["paper", "gauss-newton"]
    rows = indicator_rows(models, recipes)
    del rows[-1]  # a model that one recipe lacks
    table = recipe_plots.recipes_table_figure(rows, indicator, LABELS)
    texts = [text.get_text() for text in table.axes[0].texts]
    missing = indicator == list(INDICATORS)[-1]
    n_cells = len(models) * len(QUANTITIES)
    assert texts.count("0.60 [0.41, 0.83]") == 2 * n_cells - missing
    assert texts.count("0.50") == n_cells
    assert INDICATORS[indicator].about in " ".join(texts[-1].split())
    check_no_overlap(table)


def test_error_table():
    rows = [ErrorRow("good", name, 0.1234, 0.05678, 9) for name in ("u", "v", "p", "speed")]
    figure = tables.error_table_figure(rows, LABELS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("0.123") == texts.count("0.057") == 4
    check_no_overlap(figure)


def test_report_of_numbers_in_groups():
    report = {"gradient_norm": 1.23456e-5, "loss": {"inflow_u": 0.5}, "steps": 20}
    figure = tables.report_figure({"good": report, "bad": report | {"loss": {}}})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "loss: inflow u" in texts
    assert texts.count("1.23e-05") == 2
    assert texts.count("0.5") == 1
    check_no_overlap(figure)


def test_stationarity_says_what_it_compares():
    facts = {"ratio": 142.0, "most_negative_eigenvalue": 0.242, "gradient_norm": 1.26}
    figure = tables.report_figure({"good": facts | {"losses": {"ratio": 1.0}}})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "smallest eigenvalue that was seen" in texts
    assert "norm of the loss gradient / median of a point's" in texts
    assert "losses: ratio" in texts
    assert not {"ratio", "most negative eigenvalue"} & set(texts)
    check_no_overlap(figure)


def test_curves_mark_where_the_optimiser_changed():
    history = {"step": np.array([0, 50, 100, 130, 150]), "pde": np.arange(5, 0, -1.0)}

    def marks(**lengths):
        (axis,) = history_figure(history, config=lengths).axes
        lines = [
            np.asarray(line.get_xdata())[0] for line in axis.lines if line.get_linestyle() == "--"
        ]
        first, *later = [text.get_text() for text in axis.texts] or [""]
        return [*filter(None, [first]), *zip(lines, later, strict=True)]

    assert marks(n_iterations=100, n_iterations_lbfgs=80) == ["Adam", (100, "L-BFGS")]
    assert marks(n_iterations=100, n_iterations_lm=70) == ["Adam", (100, "LM")]
    both = marks(n_iterations=100, n_iterations_lbfgs=30, n_iterations_lm=20)
    assert both == ["Adam", (100, "L-BFGS"), (130, "LM")]
    early = marks(n_iterations=100, n_iterations_lbfgs=900, n_iterations_lm=20)
    assert early == ["Adam", (100, "L-BFGS")], "where L-BFGS stopped is not known"
    assert marks(n_iterations=200, n_iterations_lbfgs=80) == ["Adam"]
    assert marks(n_iterations_lm=80) == ["LM"]
    assert marks() == []


def check_no_overlap(figure):
    """No two texts of a table lie over each other or outside the figure."""
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]


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
