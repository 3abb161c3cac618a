"""Models side by side in the same colours: a row for each model, a column for each quantity."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pinnfluence.plots.drawing import (
    AXIS,
    add_colour_bar,
    common_limits,
    draw_dots,
    draw_field,
    log10,
    note_clipped,
    panels,
    signed_logarithmic,
    symmetric_limits,
    triangulate,
)
from pinnfluence.plots.fields import (
    Limits,
    draw_error,
    draw_quantity,
    loss_limits,
    unit_of,
)
from pinnfluence.plots.influence import decades_of, draw_rims, mark
from pinnfluence.plots.style import LOSS_MAP, MAGNITUDE_MAP, SIGNED_MAP, styled
from pinnfluence.problem.domain import Disk
from pinnfluence.problem.labels import PLAIN, Labels

Fields = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Effect:
    """What training points of one model do, by one recipe.

    points: where it is known, ``[n, 2]``. values: there, ``[n]``. point: the training point that
    is looked at, ``[2]``, or None where ``points`` are the training points themselves.
    """

    points: np.ndarray
    values: np.ndarray
    point: np.ndarray | None = None


@styled
def fields_overview(
    points: Mapping[str, np.ndarray],
    predictions: Mapping[str, Fields],
    target: tuple[np.ndarray, Fields],
    fields: Sequence[str],
    obstacle: Disk | None = None,
    labels: Labels = PLAIN,
) -> Figure:
    """Target and predictions: a row for each, a column for each field, in the target's colours.

    Args:
        points, predictions: by model. target: points ``[n, 2]`` and fields.
    """
    rows = {"target": target} | {name: (points[name], predictions[name]) for name in points}
    figure, axes = _grid(target[0], list(rows), [labels.symbol(f) for f in fields], labels)
    for column, field in zip(axes.T, fields, strict=True):
        for axis, (x, values) in zip(column, rows.values(), strict=True):
            place = (triangulate(x, obstacle), field, obstacle, labels)
            drawn = draw_quantity(axis, values, target[1], "", *place)
        every = np.concatenate([values[field] for _, values in rows.values()])
        add_colour_bar(column[-1], drawn, every, unit_of(field, labels), AXIS)
    return figure


@styled
def errors_overview(
    points: Mapping[str, np.ndarray],
    errors: Mapping[str, Fields],
    limits: Mapping[str, Limits],
    fields: Sequence[str],
    obstacle: Disk | None = None,
    labels: Labels = PLAIN,
) -> Figure:
    """Absolute errors by model, a column for each field, in logarithmic colours that are shared."""
    first = next(iter(points.values()))
    titles = [f"error in {labels.symbol(field)}" for field in fields]
    figure, axes = _grid(first, list(points), titles, labels)
    for column, field in zip(axes.T, fields, strict=True):
        for axis, name in zip(column, points, strict=True):
            values = errors[name][field]
            triangulation = triangulate(points[name], obstacle)
            drawn = draw_error(axis, values, limits[field], triangulation, obstacle)
            axis.set_title(f"up to {values.max():.2g}", loc="right", fontsize=6)
        every = np.concatenate([errors[name][field] for name in points])
        add_colour_bar(column[-1], drawn, every, unit_of(field, labels), AXIS)
    return figure


@styled
def loss_overview(
    points: Mapping[str, np.ndarray],
    density: Mapping[str, np.ndarray],
    obstacle: Disk | None = None,
    labels: Labels = PLAIN,
) -> Figure:
    """Maps of ``log10(sum_k r_k(x)^2)`` by model in the same colours, see ``loss_figure``."""
    limits = common_limits(loss_limits(values) for values in density.values())
    first, n_columns = next(iter(points.values())), 1 + (len(points) > 2)
    shape = (math.ceil(len(points) / n_columns), n_columns)
    figure, axes = panels(first, *shape, labels, below=True)
    for axis, name in itertools.zip_longest(axes.flat, points):
        if name is None:
            axis.remove()
            continue
        values = log10(density[name])
        triangulation = triangulate(points[name], obstacle)
        drawn = draw_field(axis, triangulation, values, LOSS_MAP, limits, obstacle)
        axis.set_title(name, weight="bold")
    every = np.concatenate([log10(values) for values in density.values()])
    label = r"$\log_{10}\,\Sigma_k\,r_k^2$: all loss terms, unweighted, their units left out"
    add_colour_bar(axes[-1, 0], drawn, every, label, AXIS)
    return figure


@styled
def influence_overview(
    effects: Mapping[str, Mapping[str, Effect]],
    names: Sequence[str],
    quantity: str,
    obstacle: Disk | None = None,
    region: Disk | None = None,
    labels: Labels = PLAIN,
    logarithmic: bool = True,
) -> Figure:
    """Influence by model, a column for each recipe, all in the same colours.

    With a point, signed influence of that training point over the domain; without, the logarithm of
    the mean absolute influence of every training point, and the region of the object indicator.

    Args:
        effects: ``N Inf`` by recipe (the title of its column), then by model; what is missing
            stays blank.
        names: the models, in order.
        quantity: name of f, for the label.
        logarithmic: whether colours of signed influence are logarithmic over two decades and linear
            around zero, so that models of unlike influence can be read; else linear.
    """
    known = [effect for of in effects.values() for effect in of.values()]
    figure, axes = _grid(known[0].points, names, list(effects), labels)
    signed = known[0].point is not None
    limits_of = symmetric_limits if signed else decades_of
    limits = common_limits(limits_of(effect.values) for effect in known)
    for column, of in zip(axes.T, effects.values(), strict=True):
        for axis, name in zip(column, names, strict=True):
            if name not in of:
                axis.text(0.5, 0.5, "not computed", transform=axis.transAxes, ha="center")
            elif signed:
                norm = signed_logarithmic(limits) if logarithmic else Normalize(*limits)
                drawn = _draw_one(axis, of[name], norm, obstacle)
            else:
                drawn = _draw_all(axis, of[name], limits, region, obstacle)
    every = np.concatenate([effect.values for effect in known])
    inf = r"$N\,\mathrm{Inf}$" if signed else r"$\log_{10}\ N\,\overline{|\mathrm{Inf}|}$"
    label = f"{inf} on {labels.symbol(quantity)}{labels.unit(quantity)}"
    for axis in axes[-1]:
        add_colour_bar(axis, drawn, every if signed else log10(every), label, AXIS)
    return figure


def _draw_one(axis: Axes, effect: Effect, norm: Normalize, obstacle: Disk | None) -> ScalarMappable:
    triangulation = triangulate(effect.points, obstacle)
    drawn = draw_field(axis, triangulation, effect.values, SIGNED_MAP, norm, obstacle)
    mark(axis, np.asarray(effect.point))
    note_clipped(axis, effect.values, (norm.vmin or 0.0, norm.vmax or 0.0))
    return drawn


def _draw_all(
    axis: Axes, effect: Effect, limits: Limits, region: Disk | None, obstacle: Disk | None
) -> ScalarMappable:
    drawn = draw_dots(axis, effect.points, log10(effect.values), MAGNITUDE_MAP, limits)
    draw_rims(axis, region, obstacle)
    return drawn


def _grid(
    points: np.ndarray, rows: Sequence[str], columns: Sequence[str], labels: Labels
) -> tuple[Figure, Any]:
    """Maps with the names of their columns above, of their rows at their left corners."""
    figure, axes = panels(points, len(rows), len(columns), labels, " ", below=True)
    for axis, column in zip(axes[0], columns, strict=True):
        box = axis.get_position()
        top = 1 - 0.12 / figure.get_size_inches()[1]
        figure.text(box.x0 + box.width / 2, top, column, ha="center", va="center", size=8)
    for axis, row in zip(axes[:, 0], rows, strict=True):
        axis.set_title(row, weight="bold")
    return figure, axes
