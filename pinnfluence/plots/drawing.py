"""Parts of maps: triangulation, fields with colour bars, axes in equal aspect."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator
from matplotlib.tri import Triangulation

from pinnfluence.plots.style import COLUMN, PAGE
from pinnfluence.problem.domain import Disk
from pinnfluence.problem.labels import Labels

ROBUST_PERCENTILE = 99.5
"""Colour limits of influences leave out the largest half percent of the points."""

SIGNED_DECADES = 2
"""Signed colours that several models share are logarithmic over so many decades."""

NARROW = 2.5
"""Inches of a map above which there is no room for two titles."""

LEFT, RIGHT, GAP = 0.68, 0.66, 0.12
"""Inches left of a row of maps, right of a map with a colour bar and of one without."""

TITLE, AXIS, BAR = 0.2, 0.36, 0.44
"""Inches above a map, below a column of maps, and of a colour bar below that."""


def triangulate(points: np.ndarray, obstacle: Disk | None = None) -> Triangulation:
    """Delaunay triangulation of ``points`` ``[n, 2]``; triangles inside the obstacle are masked.

    Figures of the same points share it: nothing may change it.
    """
    points = np.ascontiguousarray(points, np.float64)
    return _triangulate(points.tobytes(), obstacle)


@functools.lru_cache(maxsize=8)
def _triangulate(points: bytes, obstacle: Disk | None) -> Triangulation:
    triangulation = Triangulation(*np.frombuffer(points).reshape(-1, 2).T)
    if obstacle is not None:
        corners = np.stack([triangulation.x, triangulation.y], axis=1)[triangulation.triangles]
        triangulation.set_mask(obstacle.contains(corners.mean(axis=1)))
    return triangulation


def log10(values: np.ndarray) -> np.ndarray:
    """The decadic logarithm, of 0 that of the smallest number in float32."""
    logarithms: np.ndarray = np.log10(np.maximum(values, np.finfo(np.float32).tiny))
    return logarithms


def common_limits(limits: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """From the least to the largest: colour limits that several models share.

    >>> common_limits([(0.0, 2.0), (-1.0, 1.0)])
    (-1.0, 2.0)
    """
    low, high = zip(*limits, strict=True)
    return min(low), max(high)


def draw_isolines(
    axis: Axes,
    triangulation: Triangulation,
    values: np.ndarray,
    levels: Sequence[float],
    width: float = 0.25,
) -> None:
    """Thin lines of equal value at the given levels."""
    inside = [level for level in levels if np.min(values) < level < np.max(values)]
    if inside:
        style = {"colors": "black", "linewidths": width, "linestyles": "solid"}
        axis.tricontour(triangulation, values, inside, **style)


def circle(disk: Disk, **style: Any) -> Circle:
    """The rim of a disk, or its face."""
    x, y = disk.center
    return Circle((x, y), disk.radius, **style)


def draw_field(
    axis: Axes,
    triangulation: Triangulation,
    values: np.ndarray,
    colour_map: str,
    limits: tuple[float, float] | Normalize,
    obstacle: Disk | None = None,
) -> ScalarMappable:
    """Draw ``values`` ``[n]``, interpolated linearly, and the obstacle."""
    norm = limits if isinstance(limits, Normalize) else Normalize(*limits)
    mappable = axis.tripcolor(
        triangulation,
        np.asarray(values, np.float64),
        shading="gouraud",
        cmap=colour_map,
        norm=norm,
        rasterized=True,
    )
    if obstacle is not None:
        outline = circle(obstacle, facecolor="white", edgecolor="black")
        axis.add_patch(outline).set_linewidth(0.6)
    return mappable


def draw_dots(
    axis: Axes,
    points: np.ndarray,
    values: np.ndarray,
    colour_map: str,
    limits: tuple[float, float] | Normalize,
) -> ScalarMappable:
    """Draw ``points`` ``[n, 2]`` in the colours of their values, the largest on top."""
    norm = limits if isinstance(limits, Normalize) else Normalize(*limits)
    order = np.argsort(values, kind="stable")
    size = min(12.0, max(0.8, 900 * _size(axis)[0] ** 2 / len(points)))
    x, y = points[order].T
    return axis.scatter(
        x, y, c=values[order], s=size, cmap=colour_map, norm=norm, linewidths=0, rasterized=True,
        clip_on=False,
    )  # fmt: skip


def add_colour_bar(
    axis: Axes, mappable: ScalarMappable, values: np.ndarray, label: str, below: float = 0.0
) -> Colorbar:
    """A colour bar right of the axes, its label above; with ``below``, so many inches below them.

    Its ends are pointed where values lie beyond the limits; round ticks.
    """
    vmin, vmax = mappable.get_clim()
    margin = 0.005 * (vmax - vmin)
    low, high = np.min(values) < vmin - margin, np.max(values) > vmax + margin
    if isinstance(mappable.norm, LogNorm):
        low, margin = np.min(values) < vmin, 0.0
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[int(low), int(high)]
    width, height = _size(axis)
    across = (0.15, -(below + 0.07) / height, 0.7, 0.07 / height)
    place = axis.inset_axes(across if below else (1 + 0.06 / width, 0.0, 0.08 / width, 1.0))
    side = "horizontal" if below else "vertical"
    bar = axis.figure.colorbar(mappable, cax=place, extend=extend, orientation=side)
    if isinstance(mappable.norm, LogNorm):
        bar.locator = LogLocator(numticks=5)
    elif isinstance(mappable.norm, SymLogNorm):
        top = math.floor(math.log10(vmax))
        steps = [10.0**power for power in range(top + 1 - SIGNED_DECADES, top + 1)]
        bar.set_ticks([*(-step for step in reversed(steps)), 0.0, *steps])
        bar.formatter = LogFormatterSciNotation()
    else:
        bar.locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
        bar.formatter = FuncFormatter(
            lambda value, _: f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
        )
    bar.minorticks_off()
    bar.update_ticks()
    bar.outline.set_linewidth(0.6)
    if below:
        bar.set_label(label)
    else:
        bar.ax.set_title(label, fontsize=6.5, loc="left")
    return bar


def _size(axis: Axes) -> tuple[float, float]:
    """Width and height in inches."""
    box, canvas = axis.get_position(), axis.get_figure(root=True)
    assert canvas is not None
    width, height = canvas.get_size_inches()
    return box.width * width, box.height * height


def note_clipped(
    axis: Axes, values: np.ndarray, limits: tuple[float, float], named: bool = False
) -> None:
    """Say above the map which part of the points lies beyond the colours, and how far.

    Above a narrow map that is named by a whole title there is room for how far alone.
    """
    margin = 0.005 * (limits[1] - limits[0])  # that of the colour bar's ends
    beyond = (values < limits[0] - margin) | (values > limits[1] + margin)
    if beyond.any():
        farthest = values[np.argmax(np.abs(values))]
        if named and _size(axis)[0] < NARROW:
            axis.set_title(f"{axis.get_title(loc='left')}, to {farthest:.2g}")
            return
        share = 100 * beyond.mean()
        text = f"{share:.1g} % beyond the colours, to {farthest:.2g}"
        axis.set_title(text, loc="right", fontsize=6)


def panels(
    points: np.ndarray,
    n_rows: int,
    n_columns: int,
    labels: Labels,
    name: str = "",
    bars: Sequence[bool] | None = None,
    below: bool = False,
) -> tuple[Figure, np.ndarray]:
    """Maps of equal aspect over the extent of the points: a page wide, labelled at the rim only.

    A single map that is about as high as wide is a column wide.

    Args:
        points: ``[n, 2]``.
        n_rows, n_columns: of maps.
        labels: names and units of the coordinates.
        name: usually the model's, printed over the left corner.
        bars: which columns have room for a colour bar on their right; by default all.
        below: the bars lie below each column instead.
    """
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    ratio = float((high[1] - low[1]) / (high[0] - low[0]))
    bars = [not below] * n_columns if bars is None else bars
    width = COLUMN if n_columns == 1 and ratio > 0.5 else PAGE
    rights = [RIGHT if bar else GAP for bar in bars]
    w = (width - LEFT - sum(rights)) / n_columns
    h, head = w * ratio, TITLE if name else 0.0
    below_all = AXIS + (BAR if below else 0.0)
    height = head + n_rows * (TITLE + h) + below_all
    figure = Figure(figsize=(width, height))
    axes = np.empty((n_rows, n_columns), object)
    for row, column in np.ndindex(n_rows, n_columns):
        x = LEFT + column * w + sum(rights[:column])
        y = height - head - (row + 1) * (TITLE + h)
        axis = figure.add_axes((x / width, y / height, w / width, h / height))
        axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axis.set_aspect("equal")
        axis.locator_params("x", nbins=5)
        axis.locator_params("y", nbins=3)
        axis.tick_params(labelbottom=row == n_rows - 1, labelleft=column == 0)
        axes[row, column] = axis
    _label_rim(axes, labels)
    if name:
        top = 1 - 0.6 * TITLE / height
        figure.text(LEFT / width, top, name, weight="bold", size=8, va="center")
    return figure, axes


def _label_rim(axes: np.ndarray, labels: Labels) -> None:
    for axis in axes[-1]:
        axis.set_xlabel(labels.with_unit(labels.axes[0]))
    for axis in axes[:, 0]:
        label = labels.with_unit(labels.axes[1])
        axis.set_ylabel(label, rotation=0, ha="right", va="center")


def signed_logarithmic(limits: tuple[float, float]) -> SymLogNorm:
    """Colours of signed values of many sizes: logarithmic, and linear around zero."""
    low, high = limits
    return SymLogNorm(high * 10.0**-SIGNED_DECADES, vmin=low, vmax=high)


def symmetric_limits(
    values: np.ndarray, percentile: float = ROBUST_PERCENTILE
) -> tuple[float, float]:
    """``(-m, m)`` with m the percentile of ``|values|``."""
    largest = apart(0.0, float(np.percentile(np.abs(values), percentile)))[1]
    return -largest, largest


def apart(low: float, high: float) -> tuple[float, float]:
    """The two limits, moved apart where they are equal: a constant field is no error."""
    return (low, high) if high > low else (low, low + max(abs(low), 1.0) * 1e-6)
