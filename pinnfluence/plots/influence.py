"""Figures of influence: of one training point over the domain, and of all training points.

Both draw the paper's scale ``N Inf`` (N training points, the paper's loss is a mean), in the unit
of the influenced quantity. Positive means that removing the point raises the quantity.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from pinnfluence.plots.drawing import (
    add_colour_bar,
    circle,
    draw_dots,
    draw_field,
    log10,
    note_clipped,
    panels,
    symmetric_limits,
    triangulate,
)
from pinnfluence.plots.slices import in_slice
from pinnfluence.plots.style import MAGNITUDE_MAP, SIGNED_MAP, styled
from pinnfluence.problem.domain import Disk
from pinnfluence.problem.labels import PLAIN, Labels

_OUTLINE = [withStroke(linewidth=2.5, foreground="white")]


def nearest_point(points: np.ndarray, place: tuple[float, float]) -> int:
    """Index of the point of ``points`` ``[n, 2]`` nearest to ``place``; the first of equals."""
    offset = np.asarray(points, np.float64) - np.asarray(place)
    return int(np.argmin(np.hypot(offset[:, 0], offset[:, 1])))


@styled
def influence_figure(
    test_x: np.ndarray,
    influence: np.ndarray,
    train_point: np.ndarray,
    quantity: str,
    obstacle: Disk | None = None,
    flow_direction: bool = False,
    name: str = "",
    labels: Labels = PLAIN,
    limits: tuple[float, float] | None = None,
    at: Mapping[int, float] | None = None,
) -> Figure:
    """Influence of one training point on a quantity over the whole domain, the point marked.

    Diverging colours, zero in the middle; the limits leave out the largest half percent.

    Args:
        test_x: test points ``[n_test, 2]``; of more coordinates those near a slice are drawn.
        influence: ``N Inf(f(x_i); z_j)`` of the training point at all test points, ``[n_test]``:
            ``scores.matrix("u", scale="paper")[:, j]``.
        train_point: its coordinates, of which the first two are drawn.
        quantity: name of f, for the label.
        obstacle: a hole in the domain, such as the cylinder.
        flow_direction: draw an arrow along x.
        name: the model's, printed over the left corner.
        labels: symbols and units.
        limits: of the colours, such as ``common_limits`` of several models' ``symmetric_limits``;
            by default the influence's own.
        at: the slice, see ``in_slice``.
    """
    index, test_x = in_slice(test_x, at)
    influence = influence[index]
    figure, axes = panels(test_x, 1, 1, labels, name)
    axis = axes[0, 0]
    label = r"$N\,\mathrm{Inf}$" + labels.unit(quantity)
    limits = limits or symmetric_limits(influence)
    triangulation = triangulate(test_x, obstacle)
    drawn = draw_field(axis, triangulation, influence, SIGNED_MAP, limits, obstacle)
    add_colour_bar(axis, drawn, influence, label)
    mark(axis, train_point)
    if flow_direction:
        _draw_arrow(axis)
    place = ", ".join(f"{c:.3f}" for c in train_point)
    axis.set_title(f"Influence of the training point ({place}) on {labels.symbol(quantity)}")
    note_clipped(axis, influence, limits)
    return figure


def mark(axis: Axes, train_point: np.ndarray) -> None:
    """A cross at a training point."""
    (marker,) = axis.plot(*train_point[:2], "x", color="black", markersize=5, markeredgewidth=1.2)
    marker.set(path_effects=_OUTLINE, clip_on=False, zorder=5, label="training point")


@styled
def training_influence_figure(
    train_x: np.ndarray,
    mean_influence: np.ndarray,
    region: Disk | None,
    quantity: str,
    obstacle: Disk | None = None,
    name: str = "",
    labels: Labels = PLAIN,
    limits: tuple[float, float] | None = None,
    at: Mapping[int, float] | None = None,
) -> Figure:
    """Log of the mean absolute influence of each training point, the object's region drawn in.

    Args:
        train_x: training points ``[n_train, 2]``; of more coordinates those near a slice are drawn.
        mean_influence: ``N mean_i |Inf(f(x_i); z_j)|``, ``[n_train]``:
            ``scores.matrix("speed", scale="paper").abs_mean(axis=0)``.
        region: the disc of the object indicator (the paper: 1.5 radii of the cylinder), or None.
        quantity: name of f, for the label.
        obstacle: a hole in the domain, such as the cylinder.
        name: the model's, printed over the left corner.
        labels: symbols and units.
        limits: of the colours, in decades, such as ``common_limits`` of several models'
            ``decades_of``; by default the influence's own.
        at: the slice, see ``in_slice``.
    """
    index, train_x = in_slice(train_x, at)
    mean_influence = mean_influence[index]
    figure, axes = panels(train_x, 1, 1, labels, name)
    axis = axes[0, 0]
    values = log10(mean_influence)
    drawn = draw_dots(axis, train_x, values, MAGNITUDE_MAP, limits or decades_of(mean_influence))
    draw_rims(axis, region, obstacle)
    add_colour_bar(axis, drawn, values, "")
    what = r"$\log_{10}\ N\,\overline{|\mathrm{Inf}|}$ of each training point on"
    axis.set_title(f"{what} {labels.with_unit(quantity)}")
    return figure


def draw_rims(axis: Axes, region: Disk | None, obstacle: Disk | None) -> None:
    """The rim of the object, and dashed that of the region around it."""
    if obstacle is not None:
        axis.add_patch(circle(obstacle, fill=False, linewidth=0.6))
    if region is not None:
        rim = circle(region, fill=False, edgecolor="black", linewidth=0.9)
        axis.add_patch(rim).set(linestyle=(0, (3, 2)), label="object region", zorder=5)


def decades_of(mean_influence: np.ndarray) -> tuple[float, float]:
    """Limits of the decadic logarithm, without the least half percent."""
    values = log10(mean_influence)
    low, high = np.percentile(values, [0.5, 100])
    return float(low), float(high)


def _draw_arrow(axis: Axes) -> None:
    """An arrow along x in the upper sixth of the axes, with its name above its middle."""
    axis.annotate(
        "",
        xy=(5 / 6, 0.8),
        xytext=(1 / 3, 0.8),
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "-|>", "facecolor": "black", "linewidth": 1.2},
    )
    axis.text(7 / 12, 0.84, "flow direction", transform=axis.transAxes, ha="center", va="bottom")
