"""The PDE and the conditions of a DeepXDE problem as equations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.field.field import Declared, Field
from pinnfluence.field.network import MultiIndex
from pinnfluence.models.deepxde.by_autograd import condition_error
from pinnfluence.models.deepxde.by_row import with_rows
from pinnfluence.models.deepxde.drawing import INSIDE, drawing
from pinnfluence.models.deepxde.functions import (
    Context,
    by_autograd,
    declared,
    stored,
    with_points,
)
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.point_sets import at_points, is_point_set, nearest, point_set
from pinnfluence.problem.equation import Equation, PointFunction, nowhere_else
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

PAIRED = ("periodic", "Interface2DBC")
"""Kinds whose residuals are of pairs of points, the second ones behind the first."""


def kind_of(condition: Any) -> str:
    """Kind of a condition; one of a class of the user's own bears the name of the class."""
    for cls, kind in KINDS.items():
        if isinstance(condition, cls) and type(condition).error is cls.error:
            return kind
    return type(condition).__name__


def term_names(kinds: Sequence[str]) -> list[str]:
    """Names of conditions: their kind, numbered where several are of one kind."""
    counts, seen, names = Counter(kinds), Counter[str](), []
    for kind in kinds:
        seen[kind] += 1
        names.append(kind if counts[kind] == 1 else f"{kind}_{seen[kind]}")
    return names


def loss_of(term: str) -> str:
    """Name of the loss to which a term belongs: a loss of several columns has a term for each."""
    return term.partition(".")[0]


def pde_equation(data: Any, context: Context) -> Equation:
    """The PDE: its residuals are called ``residual``, or ``residual_1``, ... if there are several.

    Raises:
        InputError: a function that cannot be evaluated at some of the points.
    """
    pde, auxiliary = data.pde, data.auxiliary_var_fn
    numbers: PointFunction | None = None
    if auxiliary is not None:
        numbers = lambda x: as_array(auxiliary(stored(x)))  # noqa: E731

    def function(x: Tensor, y: Tensor, f: Field) -> Any:
        return pde(x, y) if auxiliary is None else pde(x, y, f.data)

    residuals, numbers = with_rows(function, data, context, numbers)
    return Equation(declared("residual", residuals, context, numbers), data=numbers)


def regression_equation(n_outputs: int) -> Equation:
    """Outputs and their targets: the loss ``data`` is their mean squared difference."""
    names = ("data",) if n_outputs == 1 else tuple(f"data.{n}" for n in range(n_outputs))

    def residual(f: Field) -> list[Tensor]:
        return list((f.derivative(()) - f.data).unbind(1))

    return Equation(Declared(names, frozenset({()}), residual), nowhere_else)


def condition_equation(condition: Any, name: str, context: Context) -> Equation:
    """A boundary or initial condition, or data at points, as an equation.

    Raises:
        InputError: functions that cannot be evaluated, or of unfit shape.
    """
    kind = kind_of(condition)
    if why := context.by_autograd or _needs_its_own_error(condition, kind):
        return _own_error(condition, kind, name, context, why)
    if is_point_set(condition):
        return point_set(condition, kind, name, context)
    on = _membership(condition)
    if kind == "periodic":
        return _periodic(condition, on, name)
    if kind in ("dirichlet", "ic"):
        column = condition.component
        residual = Declared(
            (name,), frozenset({()}), lambda f: [f.derivative(())[:, column] - f.data[:, 0]]
        )
        return Equation(residual, on, lambda x: _targets(condition.func, stored(x), name))
    if kind == "neumann":
        return Equation(_neumann(condition.component, name, context), on, _sloped(condition, name))
    if kind == "robin":
        return _robin(condition, on, name, context)
    function = with_points(condition.func, context)
    return Equation(declared(name, function, context, stored), on, stored)


def _needs_its_own_error(condition: Any, kind: str) -> str:
    """Why the residual is what the condition itself gives; empty where it is known here."""
    if kind not in KINDS.values():
        return f"{kind} is a class of its own"
    if is_point_set(condition):
        values = condition.values
        if not values.requires_grad:
            return ""
        if not values.is_leaf:
            raise InputError(
                f"the values of {kind} were computed from an unknown when the condition was made; "
                "expected the unknown itself, or an OperatorBC that computes them"
            )
        return "its values are an unknown"
    if kind in ("dirichlet", "neumann", "ic") and _target_is_unknown(condition):
        return "its target depends on an unknown"
    return ""


def _target_is_unknown(condition: Any) -> bool:
    """Whether the target is a tensor that is trained, found at two points of the domain."""
    function = condition.func.__wrapped__
    plain = getattr(function, "__wrapped__", function)
    try:
        target = plain(stored(drawing(condition.geom, INSIDE, "pseudo")(2, 0)))
    except Exception:  # of a user's function; it will be called at the training points
        return False
    return isinstance(target, Tensor) and target.requires_grad


def _own_error(condition: Any, kind: str, name: str, context: Context, why: str) -> Equation:
    """The residual as ``condition.error`` gives it; of a point set at all of its points."""
    error = condition_error(condition)
    if is_point_set(condition):
        points, on = condition.points, at_points(condition)

        def numbers(x: np.ndarray) -> np.ndarray:
            return nearest(points, x)[1][:, None].astype(float)

        residual = by_autograd(name, error, context, numbers, why, points=points)
        return Equation(residual, on, numbers)
    if kind not in PAIRED:
        on = _membership(condition)
        return Equation(by_autograd(name, error, context, stored, why), on, stored)

    def image(x: np.ndarray) -> np.ndarray:
        if kind == "periodic":
            return condition.geom.periodic_point(stored(x), condition.component_x)
        return x  # of an interface, whose points are paired in their order

    on = _membership(condition) if kind == "periodic" else nowhere_else
    residual = by_autograd(name, error, context, None, why, with_image=True)
    return Equation(residual, on, image=image)


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

    return Declared((name,), frozenset((j,) for j in directions), residual)


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

    return Equation(Declared((name,), frozenset({index}), residual), on, image=image)
