"""Parts of figures: style, files, triangulation, fields with colour bars, axes in equal aspect."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation
from PIL import Image

from pinnfluence.problem.domain import Disk
from pinnfluence.problem.labels import Labels
from pinnfluence.storage.files import write_bytes

ROBUST_PERCENTILE = 99.5
"""Colour limits of errors and influences leave out the largest half percent of the points."""

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titley": 1.0,  # looking for a free place costs a third of the time to draw
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "pdf.fonttype": 42,
    "svg.hashsalt": "pinnfluence",
}
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 1}},
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
}
"""Options of each format; the metadata leave out dates."""

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function with the settings of ``STYLE``; the caller's stay as they are."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return run


@styled
def render(figure: Figure, file_format: str = "png", dpi: float = 200) -> bytes:
    """The figure as bytes of a ``png``, ``pdf`` or ``svg``; without dates, so they repeat."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format=file_format,
        dpi=dpi,
        bbox_inches="tight",
        pad_inches=0.03,
        **_FORMATS[file_format],
    )
    return _opaque(buffer, dpi) if file_format == "png" else buffer.getvalue()


def _opaque(file: io.BytesIO, dpi: float) -> bytes:
    """A PNG in RGB: full colours, no palette, no alpha."""
    opaque = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").save(opaque, "PNG", dpi=(dpi, dpi))
    return opaque.getvalue()


def save(figure: Figure, path: str | Path, dpi: float = 200) -> Path:
    """Write the figure to ``path`` atomically, in the format that its suffix names."""
    path = Path(path)
    file_format = path.suffix.removeprefix(".")
    if file_format not in _FORMATS:
        raise ValueError(f"a figure's name must end in .png, .pdf or .svg, found {path.name}")
    write_bytes(path, render(figure, file_format, dpi))
    return path


def preview(path: str | Path, scale: float = 0.42) -> bytes:
    """A saved ``.png`` made smaller, as PNG: for a page that shows many of them."""
    with Image.open(path) as image:
        size = (round(image.width * scale), round(image.height * scale))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def triangulate(points: np.ndarray, obstacle: Disk | None = None) -> Triangulation:
    """Delaunay triangulation of ``points`` ``[n, 2]``; triangles inside the obstacle are masked."""
    triangulation = Triangulation(*np.asarray(points, np.float64).T)
    if obstacle is not None:
        corners = np.stack([triangulation.x, triangulation.y], axis=1)[triangulation.triangles]
        triangulation.set_mask(obstacle.contains(corners.mean(axis=1)))
    return triangulation


def common_limits(limits: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """From the least to the largest: colour limits that several models share.

    >>> common_limits([(0.0, 2.0), (-1.0, 1.0)])
    (-1.0, 2.0)
    """
    low, high = zip(*limits, strict=True)
    return min(low), max(high)


def draw_isolines(
    axis: Axes, triangulation: Triangulation, values: np.ndarray, levels: Sequence[float]
) -> None:
    """Thin black lines of equal value at the given levels."""
    inside = [level for level in levels if np.min(values) < level < np.max(values)]
    if inside:
        style = {"colors": "black", "linewidths": 0.4, "linestyles": "solid"}
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
    limits: tuple[float, float],
    label: str,
    obstacle: Disk | None = None,
) -> ScalarMappable:
    """Draw ``values`` ``[n]``, interpolated linearly, with a colour bar and the obstacle."""
    mappable = axis.tripcolor(
        triangulation,
        np.asarray(values, np.float64),
        shading="gouraud",
        cmap=colour_map,
        norm=Normalize(*limits),
        rasterized=True,
    )
    if obstacle is not None:
        outline = circle(obstacle, facecolor="white", edgecolor="black")
        axis.add_patch(outline).set_linewidth(0.6)
    add_colour_bar(axis, mappable, values, label)
    return mappable


def add_colour_bar(
    axis: Axes, mappable: ScalarMappable, values: np.ndarray, label: str
) -> Colorbar:
    """A colour bar as high as the axes; its ends are pointed where values lie beyond the limits."""
    vmin, vmax = mappable.get_clim()
    margin = 0.005 * (vmax - vmin)
    low, high = np.min(values) < vmin - margin, np.max(values) > vmax + margin
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[int(low), int(high)]
    place = axis.inset_axes((1.015, 0.0, 0.018, 1.0))
    bar = axis.figure.colorbar(mappable, cax=place, extend=extend, label=label)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    bar.outline.set_linewidth(0.6)
    return bar


def panels(
    points: np.ndarray, n_rows: int, n_columns: int, labels: Labels, name: str = ""
) -> tuple[Figure, np.ndarray]:
    """Axes of equal aspect over the extent of the points, labelled at the figure's rim only.

    ``name``, usually the model's, is printed over the left corner.
    """
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    width = 7.0 if n_columns == 1 else 3.4 * n_columns
    height = (width / n_columns - 1.0) * (high[1] - low[1]) / (high[0] - low[0]) + 0.33
    figure = Figure(figsize=(width, n_rows * height + 0.35), layout="compressed")
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat:
        axis.set(aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axis.locator_params("x", nbins=5)
        axis.locator_params("y", nbins=3)
    axes[0, 0].set_title(name, loc="left", weight="bold")
    for axis in axes[-1]:
        axis.set_xlabel(labels.with_unit(labels.axes[0]))
    for axis in axes[:, 0]:
        axis.set_ylabel(labels.with_unit(labels.axes[1]))
    return figure, axes


def symmetric_limits(
    values: np.ndarray, percentile: float = ROBUST_PERCENTILE
) -> tuple[float, float]:
    """``(-m, m)`` with m the percentile of ``|values|``."""
    largest = apart(0.0, float(np.percentile(np.abs(values), percentile)))[1]
    return -largest, largest


def apart(low: float, high: float) -> tuple[float, float]:
    """The two limits, moved apart where they are equal: a constant field is no error."""
    return (low, high) if high > low else (low, low + max(abs(low), 1.0) * 1e-6)
