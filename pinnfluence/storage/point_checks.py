"""Points as arrays: what is accepted as a set of them."""

from __future__ import annotations

import numpy as np

from pinnfluence.errors import InputError

REPEATED = 0.05
"""Part of repeated training points above which a warning is given: corners alone are far fewer."""


def check_points(points: np.ndarray, n_inputs: int, what: str, where: str = "") -> None:
    """Refuse what is no set of points ``[n, n_inputs]``.

    Args:
        what: the points are for, such as test. where: a file that they come from.

    Raises:
        InputError: another shape, masked, no real numbers, no points, NaN or infinite ones.
    """
    lead = f"{where}: " if where else ""
    if np.ma.is_masked(points):
        raise InputError(f"{lead}{what} points are masked; give the others: points[~mask]")
    if points.ndim != 2 or points.shape[1] != n_inputs:
        raise InputError(
            f"{lead}expected {what} points of shape [n, {n_inputs}], found {points.shape}"
        )
    if points.dtype.kind not in "fiu":
        raise InputError(f"{lead}expected {what} points of real numbers, found {points.dtype}")
    if len(points) == 0:
        raise InputError(f"{lead}no {what} points, expected at least one")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise InputError(
            f"{lead}{len(bad)} {what} points are NaN or infinite, the first is row {bad[0]}"
        )


def among(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mask ``[n]`` of the points that are, to the last bit in the dtype of these, known ones."""
    seen = set(map(bytes, np.ascontiguousarray(known)))
    stored = np.ascontiguousarray(points.astype(known.dtype))
    return np.array([bytes(point) in seen for point in stored], bool)


def repeats_warning(train_x: np.ndarray) -> str | None:
    """A warning where many training points are repeated, as in DeepXDE's ``data.train_x``."""
    n_repeated = len(train_x) - len(np.unique(train_x, axis=0))
    if n_repeated <= REPEATED * len(train_x):
        return None
    return (
        f"{n_repeated} of {len(train_x)} training points are repeated, and each counts again, so "
        "that removing one leaves its copies; DeepXDE's data.train_x repeats the points of the "
        "conditions: give data.train_x_all"
    )
