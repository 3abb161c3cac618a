"""Pictures of a diagnosis: maps of errors, of residuals, of the points that matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pinnfluence.diagnosis.report import Report
from pinnfluence.plots.drawing import (
    add_colour_bar,
    draw_dots,
    draw_field,
    note_clipped,
    panels,
    symmetric_limits,
    triangulate,
)
from pinnfluence.plots.fields import unit_of
from pinnfluence.plots.style import ERROR_MAP, PAGE, SIGNED_MAP, styled
from pinnfluence.problem.domain import Difference, Disk
from pinnfluence.problem.labels import PLAIN, Labels
from pinnfluence.reference.comparison import with_quantities


def error_figures(report: Report, problem: Any, labels: Labels) -> dict[str, Figure]:
    """The estimated errors by caption; with a problem that has a reference, the true ones too."""
    caption, points, truth = "Estimated error, solution minus network", report.x, None
    if not report.reliable:
        caption = "A rough guess of the error, whose signs and places may be wrong"
    if len(report.pinn.inputs) == 1:
        return {caption: error_lines(report, labels)}
    if len(report.pinn.inputs) > 2:
        return {}
    if problem is not None and problem.reference is not None:
        reference = problem.reference()
        known = with_quantities(problem, reference.points, reference.values)
        if report.errors.keys() <= known.keys():
            points = reference.points
            truth = {n: known[n] - v for n, v in report.values(points).items()}
            caption += "; right: the true one, against the reference, in the same colours"
    return {caption: error_maps(points, report.error(points), truth, _hole(problem), labels)}


def point_figures(report: Report, labels: Labels) -> dict[str, Figure]:
    """Residuals at fresh points, where the error comes from, leverages; by caption."""
    if len(report.pinn.inputs) != 2:
        return {}
    names = list(report.errors)
    leverage = report.point_leverage()
    known = np.isfinite(leverage)
    losses = np.log10(np.maximum(report.fresh_losses, 1e-300))
    most = max(100 * float(report.helping.max(initial=0.0)), 1e-300)
    return {
        "Where a new training point would help: part of the squared error that it alone would take "
        "away, in percent; the lightest take none, or add to it": dots(
            report.candidates, 100 * report.helping, labels, (0.0, most)
        ),
        "Fresh points: log10 of the sum of c_k r_k^2": dots(report.fresh_x, losses, labels),
        "Where the error comes from: the part that the residuals in a cell contribute, "
        + ", ".join(names): shares(report.fresh_x, report.responsible, names, labels),
        "Leverage of the training points: where it is near 1, one point alone decides what the "
        "network does there": dots(report.train_x[known], leverage[known], labels, (0.0, 1.0)),
    }


@styled
def error_lines(report: Report, labels: Labels) -> Figure:
    """Errors over the only coordinate."""
    x = np.sort(report.x, axis=0)
    errors = report.error(x)
    figure = Figure(figsize=(PAGE, 1.8 * len(errors)), layout="constrained")
    for axis, (name, error) in zip(
        figure.subplots(len(errors), squeeze=False)[:, 0], errors.items(), strict=True
    ):
        axis.plot(x[:, 0], error)
        axis.axhline(0, color="0.7", linewidth=0.6)
        axis.set(
            xlabel=labels.with_unit(report.pinn.inputs[0]),
            ylabel=f"error of {labels.with_unit(name)}",
        )
    return figure


@styled
def error_maps(
    points: np.ndarray,
    estimated: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray] | None = None,
    obstacle: Disk | None = None,
    labels: Labels = PLAIN,
) -> Figure:
    """Estimated errors, a row for each quantity, beside the true ones where these are known."""
    columns = [("Estimated", estimated)] + ([("True", truth)] if truth else [])
    bars = [False] * (len(columns) - 1) + [True]
    figure, axes = panels(points, len(estimated), len(columns), labels, bars=bars)
    triangulation = triangulate(points, obstacle)
    for row, name in zip(axes, estimated, strict=True):
        limits = symmetric_limits((truth or estimated)[name])
        for axis, (title, errors) in zip(row, columns, strict=True):
            drawn = draw_field(axis, triangulation, errors[name], SIGNED_MAP, limits, obstacle)
            axis.set_title(f"{title} error of {labels.symbol(name)}")
            note_clipped(axis, errors[name], limits)
        every = np.concatenate([errors[name] for _, errors in columns])
        add_colour_bar(row[-1], drawn, every, unit_of(name, labels))
    return figure


@styled
def dots(
    points: np.ndarray,
    values: np.ndarray,
    labels: Labels = PLAIN,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Points in the colours of their values, the largest on top."""
    figure, axes = panels(points, 1, 1, labels)
    low, high = limits or tuple(np.percentile(values, [5, 100]))
    drawn = draw_dots(axes[0, 0], points, values, ERROR_MAP, (low, high))
    add_colour_bar(axes[0, 0], drawn, values, "")
    return figure


@styled
def shares(
    points: np.ndarray, values: np.ndarray, names: list[str], labels: Labels = PLAIN
) -> Figure:
    """Sums of values ``[n, k]`` over cells, a row for each column k, in percent."""
    figure, axes = panels(points, len(names), 1, labels)
    low, high = points.min(0), points.max(0)
    for axis, name, column in zip(axes[:, 0], names, values.T, strict=True):
        drawn = axis.hexbin(
            *points.T,
            C=100 * column,
            reduce_C_function=np.sum,
            gridsize=(48, max(6, round(28 * (high[1] - low[1]) / (high[0] - low[0])))),
            cmap=SIGNED_MAP,
            linewidths=0.1,
        )
        parts = np.ma.filled(drawn.get_array(), 0.0)
        drawn.set_clim(*symmetric_limits(parts, 100))
        add_colour_bar(axis, drawn, parts, "part (%)")
        axis.set_title(f"error of {labels.symbol(name)}")
    return figure


def is_square(points: np.ndarray) -> bool:
    """Whether maps are about as high as wide, so that several fit side by side."""
    size = np.ptp(points, axis=0)
    return bool(size[1] > 0.5 * size[0])


def _hole(problem: Any) -> Disk | None:
    """What figures leave blank."""
    if problem is not None and isinstance(problem.domain, Difference):
        hole: Disk = problem.domain.hole
        return hole
    return None
