"""Drawings of points that are not of two coordinates: slices of more, lines of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pinnfluence.errors import InputError
from pinnfluence.plots.style import PAGE, styled
from pinnfluence.problem.labels import PLAIN, Labels

SHARE = 0.1
"""Part of evenly spread points that a slice holds."""


def in_slice(
    points: np.ndarray, at: Mapping[int, float] | None = None, share: float = SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Points near a slice, as they are drawn along their first two coordinates.

    Args:
        points: ``[n, d]``, d at least 2; all of them are drawn where d is 2.
        at: by number, from 2 on, the value of a coordinate that is not drawn; by default the middle
            of its range.
        share: part of evenly spread points that are near: along each of the d - 2 coordinates the
            slice is ``share^(1 / (d - 2))`` of the range thick.

    Returns:
        Their indices ``[n_near]`` and drawn coordinates ``[n_near, 2]``.

    Raises:
        InputError: no such coordinates, or fewer than three points near.
    """
    n_hidden = points.shape[1] - 2
    given = dict(at or {})
    if n_hidden < 0 or set(given) - set(range(2, points.shape[1])):
        raise InputError(
            f"expected points of at least 2 coordinates and values of those from 2 on, found "
            f"{points.shape[1]} coordinates and values of {', '.join(map(str, given)) or 'none'}"
        )
    low, high = points.min(axis=0), points.max(axis=0)
    near = np.ones(len(points), bool)
    for k in range(2, points.shape[1]):
        half = share ** (1 / n_hidden) * (high[k] - low[k]) / 2
        near &= np.abs(points[:, k] - given.get(k, (low[k] + high[k]) / 2)) <= half
    index = np.flatnonzero(near)
    if len(index) < 3:
        raise InputError(f"expected at least 3 points near the slice, found {len(index)}")
    return index, points[index, :2]


@styled
def line_figure(
    points: np.ndarray,
    curves: Mapping[str, np.ndarray],
    label: str = "",
    marked: Sequence[float] = (),
    labels: Labels = PLAIN,
) -> Figure:
    """Values at points of one coordinate, such as influences, a curve each.

    Args:
        points: ``[n, 1]``. curves: values ``[n]`` by name. label: of the values.
        marked: places with a vertical line, such as a training point's.

    Raises:
        InputError: points of more coordinates.
    """
    if points.shape[1] != 1:
        raise InputError(f"expected points of one coordinate, found {points.shape[1]}")
    figure = Figure(figsize=(PAGE, 2.4), layout="constrained")
    axis, order = figure.subplots(), np.argsort(points[:, 0], kind="stable")
    for name, values in curves.items():
        axis.plot(points[order, 0], values[order], label=labels.symbol(name))
    for place in marked:
        axis.axvline(place, color="black", linewidth=0.6, linestyle=(0, (3, 2)))
    axis.set(xlabel=labels.with_unit(labels.axes[0]), ylabel=label)
    axis.legend()
    return figure
