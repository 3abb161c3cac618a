"""Figures of fields on scattered points: predictions, targets, errors and losses.

``Labels``, usually a problem's own, ``problem.labels``, has the symbols of the fields, their units
and which are shown. Every function returns a ``Figure`` of its own, without pyplot; ``save`` writes
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation

from pinnfluence.plots.drawing import (
    ROBUST_PERCENTILE,
    add_colour_bar,
    apart,
    draw_field,
    draw_isolines,
    log10,
    note_clipped,
    panels,
    symmetric_limits,
    triangulate,
)
from pinnfluence.plots.style import ERROR_MAP, LOSS_MAP, MAGNITUDE_MAP, SIGNED_MAP, styled
from pinnfluence.problem.domain import Disk
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.reference.comparison import absolute_errors

Limits = tuple[float, float]

ISOLINES = 14
"""At most so many lines of equal value lie over a field without a sign, such as the pressure."""

ERROR_DECADES = 6
"""The colours of errors are logarithmic, over so many decades below the largest."""


@styled
def comparison_figure(
    points: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    target: Mapping[str, np.ndarray],
    obstacle: Disk | None = None,
    fields: Sequence[str] = (),
    name: str = "",
    labels: Labels = PLAIN,
    limits: Mapping[str, Limits] | None = None,
) -> Figure:
    """Prediction, target and absolute error, a row for each field.

    Prediction and target share their colours, whose limits are those of the target; lines are of
    equal value, of signed fields of zero. The error in ``|u|`` is the difference of the two
    speeds. Without ``fields`` those of the labels are drawn, or all of the target. ``limits`` are
    those of the errors' logarithmic colours, see ``error_limits_of``; by default each error has
    its own.
    """
    fields = fields or labels.fields or tuple(target)
    errors = absolute_errors(predicted, target)
    triangulation = triangulate(points, obstacle)
    figure, axes = panels(points, len(fields), 3, labels, name, (False, True, True))
    for row, field in zip(axes, fields, strict=True):
        draw = (triangulation, field, obstacle, labels)
        draw_quantity(row[0], predicted, target, "Predicted", *draw)
        drawn = draw_quantity(row[1], target, target, "Target", *draw)
        add_colour_bar(row[1], drawn, predicted[field], unit_of(field, labels))
        _draw_error(row[2], errors, limits, *draw)
    return figure


@styled
def fields_figure(
    points: np.ndarray,
    values: Mapping[str, np.ndarray],
    obstacle: Disk | None = None,
    fields: Sequence[str] = (),
    title: str = "Predicted",
    limits_of: Mapping[str, np.ndarray] | None = None,
    name: str = "",
    labels: Labels = PLAIN,
) -> Figure:
    """One field under the other: predictions or targets.

    Args:
        points: ``[n, 2]``.
        values: fields by name, each ``[n]``.
        obstacle: a hole in the domain, such as the cylinder.
        fields: names to draw, in order; default those of the labels, or all.
        title: put before each symbol.
        limits_of: fields that give the colour limits, usually the targets; default ``values``.
        name: the model's, printed over the left corner.
        labels: symbols and units.
    """
    fields = fields or labels.fields or tuple(values)
    triangulation = triangulate(points, obstacle)
    figure, axes = panels(points, len(fields), 1, labels, name)
    for axis, field in zip(axes[:, 0], fields, strict=True):
        drawn = draw_quantity(
            axis, values, limits_of or values, title, triangulation, field, obstacle, labels
        )
        add_colour_bar(axis, drawn, values[field], unit_of(field, labels))
    return figure


@styled
def error_figure(
    points: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    target: Mapping[str, np.ndarray],
    obstacle: Disk | None = None,
    fields: Sequence[str] = (),
    name: str = "",
    labels: Labels = PLAIN,
    limits: Mapping[str, Limits] | None = None,
) -> Figure:
    """Absolute errors, one field under the other; for ``|u|`` the difference of the speeds.

    ``limits`` of the logarithmic colours by field, see ``error_limits_of``; by default each has its
    own.
    """
    fields = fields or labels.fields or tuple(target)
    errors = absolute_errors(predicted, target)
    triangulation = triangulate(points, obstacle)
    figure, axes = panels(points, len(fields), 1, labels, name)
    for axis, field in zip(axes[:, 0], fields, strict=True):
        _draw_error(axis, errors, limits, triangulation, field, obstacle, labels)
    return figure


@styled
def loss_figure(
    points: np.ndarray,
    density: np.ndarray,
    obstacle: Disk | None = None,
    name: str = "",
    labels: Labels = PLAIN,
    limits: Limits | None = None,
) -> Figure:
    """Map of ``log10(sum_k r_k(x)^2)``: squared residuals of all loss terms acting at x, ``[n]``.

    Residuals are unweighted, and their numbers are added although their units differ, as the loss
    does; the title says so. ``limits`` of the colours: by default the density's own, see
    ``loss_limits``.
    """
    figure, axes = panels(points, 1, 1, labels, name)
    values = log10(density)
    limits = limits or loss_limits(density)
    axis = axes[0, 0]
    drawn = draw_field(axis, triangulate(points, obstacle), values, LOSS_MAP, limits, obstacle)
    add_colour_bar(axis, drawn, values, "")
    what = r"$\log_{10}\,\Sigma_k\,r_k^2$: squared residuals of all loss terms"
    axis.set_title(f"{what}, unweighted, their units left out")
    return figure


def field_limits(values: np.ndarray, signed: bool = False) -> Limits:
    """Colour limits of a field: its range, for signed fields symmetric about zero."""
    if signed:
        return symmetric_limits(values, 100)
    return apart(float(np.min(values)), float(np.max(values)))


def error_limits(values: np.ndarray) -> Limits:
    """Up to the largest error, from ``ERROR_DECADES`` decades below."""
    largest = apart(0.0, float(np.max(values)))[1]
    return largest * 10.0**-ERROR_DECADES, largest


def error_limits_of(
    pairs: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]],
) -> dict[str, Limits]:
    """By field, colour limits of the errors that several models share: those of the worst.

    Args:
        pairs: prediction and target of each model.
    """
    by_model = [absolute_errors(predicted, target) for predicted, target in pairs]
    return {
        name: max((error_limits(errors[name]) for errors in by_model), key=lambda ends: ends[1])
        for name in by_model[0]
    }


def loss_limits(density: np.ndarray) -> Limits:
    """Of ``log10`` of a density, without its least and its largest half percent."""
    values = log10(density)
    low, high = np.percentile(values, (100 - ROBUST_PERCENTILE, ROBUST_PERCENTILE))
    return apart(float(low), float(high))


def unit_of(field: str, labels: Labels) -> str:
    """The unit as it stands over a colour bar; the symbol of a field without a unit."""
    return labels.unit(field).strip(" ()") or labels.symbol(field)


def draw_quantity(
    axis: Axes,
    values: Mapping[str, np.ndarray],
    limits_of: Mapping[str, np.ndarray],
    title: str,
    triangulation: Triangulation,
    field: str,
    obstacle: Disk | None,
    labels: Labels,
) -> ScalarMappable:
    """A field with lines of equal value; of a signed one, the line of zero alone.

    Without a title, that of the axes stays.
    """
    signed = field in labels.signed
    limits = field_limits(limits_of[field], signed)
    colour_map = SIGNED_MAP if signed else MAGNITUDE_MAP
    drawn = draw_field(axis, triangulation, values[field], colour_map, limits, obstacle)
    if signed:
        draw_isolines(axis, triangulation, values[field], [0.0], 0.6)
    else:
        levels = MaxNLocator(ISOLINES).tick_values(*limits)
        draw_isolines(axis, triangulation, values[field], levels)
    if title:
        axis.set_title(f"{title} {labels.symbol(field)}")
    if values is not limits_of:
        note_clipped(axis, values[field], limits, named=bool(title))
    return drawn


def draw_error(
    axis: Axes,
    values: np.ndarray,
    limits: Limits,
    triangulation: Triangulation,
    obstacle: Disk | None,
) -> ScalarMappable:
    """An absolute error in logarithmic colours."""
    shown = np.maximum(values, limits[0])  # zero has no logarithm
    return draw_field(axis, triangulation, shown, ERROR_MAP, LogNorm(*limits), obstacle)


def _draw_error(
    axis: Axes,
    errors: Mapping[str, np.ndarray],
    limits: Mapping[str, Limits] | None,
    triangulation: Triangulation,
    field: str,
    obstacle: Disk | None,
    labels: Labels,
) -> None:
    values = errors[field]
    colours = limits[field] if limits else error_limits(values)
    drawn = draw_error(axis, values, colours, triangulation, obstacle)
    add_colour_bar(axis, drawn, values, unit_of(field, labels))
    unit = labels.unit(field).replace("(", "").replace(")", "")
    axis.set_title(f"Error in {labels.symbol(field)}, up to {values.max():.2g}{unit}")
