"""Figures of fields on scattered points: predictions, targets, errors and losses.

What fields are called, their units and which are shown say ``Labels``, usually a problem's own,
``problem.labels``. Every function returns a ``Figure`` of its own, without pyplot; ``save`` writes
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation

from pinnfluence.plots.drawing import (
    ROBUST_PERCENTILE,
    apart,
    common_limits,
    draw_field,
    draw_isolines,
    panels,
    preview,
    render,
    save,
    styled,
    symmetric_limits,
    triangulate,
)
from pinnfluence.problem.domain import Disk
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.reference.comparison import absolute_errors

__all__ = [
    "comparison_figure",
    "error_figure",
    "fields_figure",
    "loss_figure",
    "preview",
    "render",
    "save",
]

Limits = tuple[float, float]

ISOLINES = 14
"""At most so many lines of equal value lie over a field without a sign, such as the pressure."""

MAGNITUDE_MAP, SIGNED_MAP, ERROR_MAP, LOSS_MAP = "viridis", "RdBu_r", "magma_r", "cividis"


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

    Prediction and target share their colours, whose limits are those of the target. The error in
    ``|u|`` is the difference of the two speeds. Without ``fields`` those of the labels are drawn,
    or all of the target. ``limits`` are those of the errors' colours, see ``error_limits_of``;
    by default each error has its own.
    """
    fields = fields or labels.fields or tuple(target)
    errors = absolute_errors(predicted, target)
    triangulation = triangulate(points, obstacle)
    figure, axes = panels(points, len(fields), 3, labels, name)
    for row, field in zip(axes, fields, strict=True):
        for axis, title, values in zip(
            row, ("Predicted", "Target"), (predicted, target), strict=False
        ):
            _draw_quantity(axis, triangulation, values, target, field, title, obstacle, labels)
        _draw_error(row[2], triangulation, errors, field, obstacle, labels, limits)
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
        _draw_quantity(
            axis, triangulation, values, limits_of or values, field, title, obstacle, labels
        )
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

    ``limits`` of the colours by field, see ``error_limits_of``; by default each has its own.
    """
    fields = fields or labels.fields or tuple(target)
    errors = absolute_errors(predicted, target)
    triangulation = triangulate(points, obstacle)
    figure, axes = panels(points, len(fields), 1, labels, name)
    for axis, field in zip(axes[:, 0], fields, strict=True):
        _draw_error(axis, triangulation, errors, field, obstacle, labels, limits)
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
    values = np.log10(np.maximum(density, np.finfo(np.float32).tiny))
    limits = limits or loss_limits(density)
    label = r"$\log_{10}\,\sum_k r_k^2$"
    draw_field(axes[0, 0], triangulate(points, obstacle), values, LOSS_MAP, limits, label, obstacle)
    axes[0, 0].set_title("Squared residuals of all loss terms, unweighted, their units left out")
    return figure


def field_limits(values: np.ndarray, signed: bool = False) -> Limits:
    """Colour limits of a field: its range, for signed fields symmetric about zero."""
    if signed:
        return symmetric_limits(values, 100)
    return apart(float(np.min(values)), float(np.max(values)))


def error_limits(values: np.ndarray) -> Limits:
    """From zero to the robust maximum."""
    return apart(0.0, float(np.percentile(values, ROBUST_PERCENTILE)))


def error_limits_of(
    pairs: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]],
) -> dict[str, Limits]:
    """By field, colour limits of the errors that several models share.

    Args:
        pairs: prediction and target of each model.
    """
    by_model = [absolute_errors(predicted, target) for predicted, target in pairs]
    return {
        name: common_limits(error_limits(errors[name]) for errors in by_model)
        for name in by_model[0]
    }


def loss_limits(density: np.ndarray) -> Limits:
    """Of ``log10`` of a density, without its least half percent."""
    values = np.log10(np.maximum(density, np.finfo(np.float32).tiny))
    return apart(float(np.percentile(values, 100 - ROBUST_PERCENTILE)), float(values.max()))


def _draw_quantity(
    axis: Axes,
    triangulation: Triangulation,
    values: Mapping[str, np.ndarray],
    limits_of: Mapping[str, np.ndarray],
    field: str,
    title: str,
    obstacle: Disk | None,
    labels: Labels,
) -> None:
    signed = field in labels.signed
    colour_map, limits = (
        SIGNED_MAP if signed else MAGNITUDE_MAP,
        field_limits(limits_of[field], signed),
    )
    label = labels.with_unit(field)
    draw_field(axis, triangulation, values[field], colour_map, limits, label, obstacle)
    levels = [0.0] if signed else MaxNLocator(ISOLINES).tick_values(*limits)
    draw_isolines(axis, triangulation, values[field], levels)
    axis.set_title(f"{title} {labels.symbol(field)}")


def _draw_error(
    axis: Axes,
    triangulation: Triangulation,
    errors: Mapping[str, np.ndarray],
    field: str,
    obstacle: Disk | None,
    labels: Labels,
    limits: Mapping[str, Limits] | None,
) -> None:
    values, unit = errors[field], labels.unit(field)
    colours = limits[field] if limits else error_limits(values)
    draw_field(axis, triangulation, values, ERROR_MAP, colours, f"error{unit}", obstacle)
    largest = f"largest {values.max():.2g}{unit.replace('(', '').replace(')', '')}"
    axis.set_title(f"Absolute error in {labels.symbol(field)}, {largest}")
