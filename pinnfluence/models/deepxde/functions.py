"""A user's functions of DeepXDE, of points x and outputs y, as functions of a field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinnfluence.errors import InputError
from pinnfluence.field.field import Declared, Field
from pinnfluence.field.network import closure
from pinnfluence.models.deepxde import derivative_lookup
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.deepxde.network import Unknowns
from pinnfluence.runtime.devices import tensor_like
from pinnfluence.runtime.slow_ways import tell_once

UserFunction = Callable[[Tensor, Tensor, Field], Any]
"""From points, outputs and the field (for its data) to residuals ``[n, 1]`` or a list of them."""

PointFunction = Callable[[np.ndarray], np.ndarray]
"""From points ``[n, n_inputs]`` as stored to numbers ``[n, n_data]``, points or a mask ``[n]``."""


@dataclass(frozen=True)
class Context:
    """What translating a condition needs besides it.

    sample: a few training points ``[n, n_inputs]`` on the network's device, to try functions at.
    n_outputs: of the network. unknowns: of the inverse problem.
    """

    sample: Tensor
    n_outputs: int
    unknowns: Unknowns


def stored(x: np.ndarray) -> np.ndarray:
    """Points as DeepXDE stores them."""
    return np.ascontiguousarray(x, dtype=dde.config.real(np))


def with_points(function: Callable[..., Any], context: Context) -> UserFunction:
    """A function of inputs, outputs and NumPy points ``X``, of which most take no notice.

    Those that do are given the points that the data hold in their first columns.
    """
    n_inputs = context.sample.shape[1]
    try:
        trial = lambda x, y: function(x, y, None)  # noqa: E731
        derivative_lookup.plan(trial, context.sample, context.n_outputs)
        needs_points = False
    except Exception:  # whatever a user's function raises for points that are None
        needs_points = True

    def call(x: Tensor, y: Tensor, f: Field) -> Any:
        return function(x, y, stored(f.data[:, :n_inputs].cpu().numpy()) if needs_points else None)

    return call


def declared(
    name: str, function: UserFunction, context: Context, data: PointFunction = lambda x: x
) -> Declared:
    """A user's function, tried at a few points, as a function of the field."""
    sample = context.sample
    given = Field((), (), sample, {})
    given.data = tensor_like(np.ascontiguousarray(data(sample.cpu().numpy())), sample)
    found: list[int] = []

    def trial(x: Tensor, y: Tensor) -> Any:
        result = function(x, y, given)
        found[:] = [column.shape[1] for column in _columns(result, name, len(sample))]
        return result

    plan = _plan(name, trial, context)
    wanted = closure(plan.needs)

    def values(f: Field) -> list[Tensor]:
        streams = {index: f.derivative(index) for index in wanted}
        result = derivative_lookup.call(
            lambda x, y: function(x, y, f),
            f.points,
            streams,
            plan,
            context.unknowns.substitutes(f.params),
        )
        parts = _columns(result, name, len(f.points))
        _check_dtype(parts, f.points.dtype, name)
        return [column for part in parts for column in part.unbind(1)]

    return Declared(_residual_names(name, found), frozenset(wanted), values)


def _plan(
    name: str, trial: Callable[[Tensor, Tensor], Any], context: Context
) -> derivative_lookup.Plan:
    """Which derivatives a user's function needs; tells where it must be run more than once."""
    try:
        plan = derivative_lookup.plan(trial, context.sample, context.n_outputs)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except Exception as error:  # whatever a user's function raises
        expected = "derivatives by dde.grad only"
        if "dtype" in str(error):
            expected = "one dtype throughout: from_deepxde(model, dtype=torch.float32) keeps that"
        raise InputError(
            f"{name}: the function cannot be evaluated with derivatives that are looked up: "
            f"{type(error).__name__}: {error}; expected {expected}"
        ) from error
    if n := len(plan.queries):
        tell_once(
            plan,
            f"slow way: {name} differentiates {n} expression{'s' if n > 1 else ''} and is run again"
            " for each; derivatives of outputs and of their derivatives are looked up instead",
        )
    return plan


def _check_dtype(parts: Sequence[Tensor], dtype: torch.dtype, name: str) -> None:
    """Raise InputError where digits were lost on the way."""
    for part in parts:
        if part.dtype != dtype:
            raise InputError(
                f"{name}: the function gives {part.dtype} where points and outputs are {dtype}; "
                "take out the cast, or read the model with that dtype"
            )


def _columns(result: Any, name: str, n_points: int) -> list[Tensor]:
    """Residuals as a list of tensors ``[n, n_columns]``, one a loss."""
    results = result if isinstance(result, (list, tuple)) else [result]
    columns = [part[:, None] if part.ndim == 1 else part for part in results]
    for part in columns:
        if part.ndim != 2 or len(part) != n_points:
            raise InputError(
                f"{name}: the function gives shape {tuple(part.shape)}, expected ({n_points}, 1)"
            )
    return columns


def _residual_names(name: str, widths: Sequence[int]) -> tuple[str, ...]:
    """A name a column: losses are numbered from 1, columns of one loss by letters."""
    names = [name] if len(widths) == 1 else [f"{name}_{n + 1}" for n in range(len(widths))]
    return tuple(
        loss if width == 1 else f"{loss}.{column}"
        for loss, width in zip(names, widths, strict=True)
        for column in range(width)
    )
