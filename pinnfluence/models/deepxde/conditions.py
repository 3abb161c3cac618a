"""The PDE and the conditions of a DeepXDE problem as equations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.field.field import Declared, Field
from pinnfluence.field.network import MultiIndex
from pinnfluence.models.deepxde.functions import (
    Context,
    PointFunction,
    declared,
    stored,
    with_points,
)
from pinnfluence.models.deepxde.model import dde
from pinnfluence.problem.domain import TOLERANCE
from pinnfluence.problem.equation import Equation
from pinnfluence.runtime.devices import as_array

KINDS = {
    dde.icbc.DirichletBC: "dirichlet",
    dde.icbc.NeumannBC: "neumann",
    dde.icbc.RobinBC: "robin",
    dde.icbc.PeriodicBC: "periodic",
    dde.icbc.OperatorBC: "operator",
    dde.icbc.PointSetBC: "pointset",
    dde.icbc.PointSetOperatorBC: "pointset_operator",
    dde.icbc.IC: "ic",
}
"""The conditions of DeepXDE that can be treated, and the names of their loss terms."""

POINT_SETS = ("pointset", "pointset_operator")


def kind_of(condition: Any) -> str:
    """Kind of a condition; subclasses that change its residual are others.

    Raises:
        InputError: a condition of a kind that cannot be treated, or in mini-batches.
    """
    for cls, kind in KINDS.items():
        if isinstance(condition, cls) and type(condition).error is cls.error:
            if getattr(condition, "batch_size", None) is not None:
                raise InputError(
                    f"{cls.__name__} with batch_size={condition.batch_size}: mini-batches cannot "
                    "be treated, expected batch_size=None"
                )
            return kind
    known = ", ".join(cls.__name__ for cls in KINDS)
    raise InputError(f"condition {type(condition).__name__} cannot be treated, expected {known}")


def term_names(kinds: Sequence[str]) -> list[str]:
    """Names of conditions: their kind, numbered where there are several of it."""
    counts, seen, names = Counter(kinds), Counter[str](), []
    for kind in kinds:
        seen[kind] += 1
        names.append(kind if counts[kind] == 1 else f"{kind}_{seen[kind]}")
    return names


def loss_of(term: str) -> str:
    """Name of the loss to which a term belongs: a loss of several columns has a term for each."""
    return term.partition(".")[0]


def pde_equation(pde: Callable[[Tensor, Tensor], Any], context: Context) -> Equation:
    """The PDE: its residuals are called ``residual``, or ``residual_1``, ... if there are several.

    Raises:
        InputError: a function that cannot be evaluated with derivatives that are looked up.
    """

    def function(x: Tensor, y: Tensor, f: Field) -> Any:
        return pde(x, y)

    return Equation(declared("residual", function, context))


def condition_equation(condition: Any, name: str, context: Context) -> Equation:
    """A boundary or initial condition, or data at points, as an equation.

    Raises:
        InputError: see ``kind_of``; functions that cannot be evaluated, or of unfit shape.
    """
    kind = kind_of(condition)
    if kind in POINT_SETS:
        return _point_set(condition, kind, name, context)
    on = _membership(condition)
    if kind == "periodic":
        return _periodic(condition, on, name)
    if kind in ("dirichlet", "ic"):
        column = condition.component
        residual = Declared(
            (name,), _set(()), lambda f: [f.derivative(())[:, column] - f.data[:, 0]]
        )
        return Equation(residual, on, lambda x: _targets(condition.func, stored(x), name))
    if kind == "neumann":
        return Equation(_neumann(condition.component, name, context), on, _sloped(condition, name))
    if kind == "robin":
        return _robin(condition, on, name, context)
    function = with_points(condition.func, context)
    return Equation(declared(name, function, context), on, stored)


def _set(*indices: MultiIndex) -> frozenset[MultiIndex]:
    return frozenset(indices)


def _membership(condition: Any) -> PointFunction:
    """Where a condition acts, as DeepXDE itself decides it, on points as it stores them."""
    is_initial = isinstance(condition, dde.icbc.IC)

    def on(x: np.ndarray) -> np.ndarray:
        x = stored(x)
        if len(x) == 0:
            return np.zeros(0, bool)
        there = condition.geom.on_initial(x) if is_initial else condition.geom.on_boundary(x)
        chosen = condition.on_initial if is_initial else condition.on_boundary
        return np.asarray(chosen(x, there), bool)

    return on


def _targets(function: Any, x: np.ndarray, name: str) -> np.ndarray:
    """Target values ``[n, 1]``, by the function itself: DeepXDE's cache answers by ``id(x)``."""
    found = as_array(function.__wrapped__(x))
    if found.ndim == 1 and len(found) > 1 and len(x) > 1:
        raise InputError(
            f"{name}: the function gives shape {found.shape}, which DeepXDE broadcasts to a "
            f"square; expected ({len(x)}, 1)"
        )
    return np.array(np.broadcast_to(found, (len(x), 1)))


def _normals(condition: Any, x: np.ndarray) -> np.ndarray:
    return as_array(condition.boundary_normal.__wrapped__(x)).reshape(x.shape)


def _sloped(condition: Any, name: str) -> PointFunction:
    """Targets and normals, ``[n, 1 + n_inputs]``."""

    def data(x: np.ndarray) -> np.ndarray:
        x = stored(x)
        return np.hstack([_targets(condition.func, x, name), _normals(condition, x)])

    return data


def _neumann(column: int, name: str, context: Context) -> Declared:
    directions = range(context.sample.shape[1])

    def residual(f: Field) -> list[Tensor]:
        slopes = [f.derivative((j,))[:, column] * f.data[:, 1 + j] for j in directions]
        return [torch.stack(slopes).sum(0) - f.data[:, 0]]

    return Declared((name,), _set(*((j,) for j in directions)), residual)


def _robin(condition: Any, on: PointFunction, name: str, context: Context) -> Equation:
    n_inputs = context.sample.shape[1]
    right = with_points(lambda x, y, points: condition.func(points, y), context)

    def function(x: Tensor, y: Tensor, f: Field) -> Tensor:
        slopes = dde.grad.jacobian(y, x, i=condition.component)
        normal = (slopes * f.data[:, n_inputs:]).sum(1, keepdim=True)
        return normal - right(x, y, f)

    def data(x: np.ndarray) -> np.ndarray:
        return np.hstack([stored(x), _normals(condition, stored(x))])

    return Equation(declared(name, function, context, data), on, data)


def _periodic(condition: Any, on: PointFunction, name: str) -> Equation:
    index: MultiIndex = (condition.component_x,) if condition.derivative_order else ()
    column = condition.component

    def residual(f: Field) -> list[Tensor]:
        return [f.derivative(index)[:, column] - f.image.derivative(index)[:, column]]

    def image(x: np.ndarray) -> np.ndarray:
        return condition.geom.periodic_point(stored(x), condition.component_x)

    return Equation(Declared((name,), _set(index), residual), on, image=image)


def _point_set(condition: Any, kind: str, name: str, context: Context) -> Equation:
    points, values = condition.points, as_array(condition.values)
    n_inputs = points.shape[1]
    if values.ndim == 1 and len(values) > 1:
        raise InputError(f"{name}: values have shape {values.shape}, expected ({len(points)}, 1)")
    components = np.atleast_1d(getattr(condition, "component", 0)).tolist()
    expected = (len(points), len(components))
    try:
        values = np.broadcast_to(values, expected)
    except ValueError:
        raise InputError(f"{name}: values have shape {values.shape}, expected {expected}") from None

    def data(x: np.ndarray) -> np.ndarray:
        chosen = _nearest(points, x)[1] if len(x) else np.zeros(0, int)
        return np.hstack([stored(x), values[chosen]])

    def on(x: np.ndarray) -> np.ndarray:
        return _nearest(points, x)[0] <= TOLERANCE if len(x) else np.zeros(0, bool)

    if kind == "pointset":
        names = (name,) if len(components) == 1 else tuple(f"{name}.{c}" for c in components)

        def residual(f: Field) -> list[Tensor]:
            columns = zip(components, range(n_inputs, n_inputs + len(components)), strict=True)
            return [f.derivative(())[:, c] - f.data[:, at] for c, at in columns]

        return Equation(Declared(names, _set(()), residual), on, data)
    operator = with_points(condition.func, context)

    def function(x: Tensor, y: Tensor, f: Field) -> Tensor:
        return operator(x, y, f) - f.data[:, n_inputs:]

    return Equation(declared(name, function, context, data), on, data)


def _nearest(points: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances from points ``x`` to the nearest of ``points``, and which it is."""
    return KDTree(points).query(x)
