"""Conditions of DeepXDE that hold at points of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import KDTree
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.field.field import Declared, Field
from pinnfluence.models.deepxde.functions import (
    Context,
    declared,
    stored,
    with_points,
)
from pinnfluence.models.deepxde.model import dde
from pinnfluence.problem.domain import TOLERANCE
from pinnfluence.problem.equation import Equation, PointFunction
from pinnfluence.runtime.devices import as_array

POINT_SETS = (dde.icbc.PointSetBC, dde.icbc.PointSetOperatorBC)


def is_point_set(condition: Any) -> bool:
    """Whether a condition holds at points of its own."""
    return isinstance(condition, POINT_SETS)


def point_set(condition: Any, kind: str, name: str, context: Context) -> Equation:
    n_inputs = condition.points.shape[1]
    components = np.atleast_1d(getattr(condition, "component", 0)).tolist()
    data, on = _values_at(condition, name, n_inputs), at_points(condition)
    if kind == "pointset":
        names = (name,) if len(components) == 1 else tuple(f"{name}.{c}" for c in components)

        def residual(f: Field) -> list[Tensor]:
            columns = zip(components, range(n_inputs, n_inputs + len(components)), strict=True)
            return [f.derivative(())[:, c] - f.data[:, at] for c, at in columns]

        return Equation(Declared(names, frozenset({()}), residual), on, data)
    operator = with_points(condition.func, context)

    def function(x: Tensor, y: Tensor, f: Field) -> Tensor:
        return operator(x, y, f) - f.data[:, n_inputs:]

    return Equation(declared(name, function, context, data), on, data)


def _values_at(condition: Any, name: str, n_inputs: int) -> PointFunction:
    """Points and values of a point set, ``[n, n_inputs + n_components]``, at some of its points."""
    points, values = condition.points, as_array(condition.values)
    if values.ndim == 1 and len(values) > 1:
        raise InputError(f"{name}: values have shape {values.shape}, expected ({len(points)}, 1)")
    expected = (len(points), np.size(getattr(condition, "component", 0)))
    try:
        values = np.broadcast_to(values, expected)
    except ValueError:
        raise InputError(f"{name}: values have shape {values.shape}, expected {expected}") from None

    def data(x: np.ndarray) -> np.ndarray:
        return np.hstack([stored(x), values[nearest(points, x)[1]]])

    return data


def at_points(condition: Any) -> PointFunction:
    """Which points are some of a point set."""
    return lambda x: nearest(condition.points, x)[0] <= TOLERANCE


def nearest(points: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances from points ``x`` to the nearest of ``points``, and which it is."""
    if len(x) == 0:
        return np.zeros(0), np.zeros(0, int)
    distances, numbers = KDTree(points).query(x)
    return distances, numbers
