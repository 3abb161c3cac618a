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
from pinnfluence.models.deepxde.by_autograd import outputs_of
from pinnfluence.models.deepxde.model import dde
from pinnfluence.models.own_network import OwnNetwork, Unknowns
from pinnfluence.problem.equation import PointFunction
from pinnfluence.runtime.devices import tensor_like
from pinnfluence.runtime.warn_once import reason_of, warn_once

UserFunction = Callable[[Tensor, Tensor, Field], Any]
"""From points, outputs and the field (for its data) to residuals ``[n, 1]`` or a list of them."""


@dataclass(frozen=True)
class Context:
    """What translating a user's function needs besides it.

    sample: a few training points ``[n, n_inputs]`` on the network's device, to try functions at.
    n_outputs: of the network. own: the user's own network, with the unknowns.
    by_autograd: why every function is called as DeepXDE calls it; empty: derivatives are looked up
    where they can be.
    """

    sample: Tensor
    n_outputs: int
    own: OwnNetwork
    by_autograd: str = ""

    @property
    def unknowns(self) -> Unknowns:
        """Of the inverse problem."""
        return self.own.unknowns


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
        derivative_lookup.needs(trial, context.sample, context.n_outputs)
        needs_points = False
    except Exception:  # whatever a user's function raises for points that are None
        needs_points = True

    def call(x: Tensor, y: Tensor, f: Field) -> Any:
        return function(x, y, stored(f.data[:, :n_inputs].cpu().numpy()) if needs_points else None)

    return call


def declared(
    name: str, function: UserFunction, context: Context, data: PointFunction | None = None
) -> Declared:
    """A user's function as a function of the field: by look-up, or as DeepXDE calls it.

    Args:
        name: of its loss term.
        data: of its equation, as the function takes them from the field.

    Raises:
        InputError: it cannot be evaluated either way, or gives another shape.
    """
    given = sample_field(context, data)
    why = context.by_autograd
    if not why:
        try:
            return _looked_up(name, function, context, given)
        except InputError:
            raise
        except Exception as error:  # whatever a user's function raises
            why = reason_of(error)
    return by_autograd(name, function, context, data, why)


def by_autograd(
    name: str,
    function: UserFunction,
    context: Context,
    data: PointFunction | None,
    why: str,
    with_image: bool = False,
    points: np.ndarray | None = None,
) -> Declared:
    """A user's function as DeepXDE calls it: on the user's own network, with autograd.

    Args:
        why: what made that necessary, for the warning.
        with_image: whether it takes the images of the points behind them, as a periodic condition.
        points: if given, the function is evaluated at all of these, in their order, and the last
            column of the data says which of them a point is.

    Raises:
        InputError: it cannot be evaluated, or gives another shape.
    """

    def evaluate(f: Field) -> list[Tensor]:
        result = outputs_of(function, f, context.own, points)
        if points is None:
            return columns_of(result, name, len(f.points))
        rows = f.data[:, -1].long()
        return [column[rows] for column in columns_of(result, name, len(points))]

    widths = _widths(evaluate, sample_field(context, data, with_image=with_image), name)
    warn_once(
        context.own.net,
        f"slower method, same scores: {name} is differentiated by backward passes through the "
        f"model's own function: {why}",
    )

    def values(f: Field) -> list[Tensor]:
        parts = evaluate(f)
        _check_dtype(parts, f.points.dtype, name)
        return [column for part in parts for column in part.unbind(1)]

    names = residual_names(name, widths)
    return Declared(names, frozenset(), values, in_threads=False, by_autograd=True)


def _widths(evaluate: Callable[[Field], list[Tensor]], given: Field, name: str) -> list[int]:
    """Numbers of columns of each residual, tried at a few points."""
    try:
        return [part.shape[1] for part in evaluate(given)]
    except InputError:
        raise
    except Exception as error:  # whatever a user's function raises
        raise InputError(
            f"{name}: the function cannot be evaluated at some of the training points in "
            f"{given.points.dtype}: {type(error).__name__}: {error}; expected a function of each "
            "point alone, in one dtype throughout (from_deepxde(model, dtype=torch.float32) keeps "
            "that)"
        ) from error


def sample_field(context: Context, data: PointFunction | None, with_image: bool = False) -> Field:
    """A field of a few points with made-up derivatives, to try a function at."""
    points = context.sample
    params = {f"net.{n}": p.detach() for n, p in context.own.net.named_parameters()}
    params = {n: p.to(points.dtype) for n, p in params.items()}
    params |= {f"unknowns.{n}": v.detach().to(points) for n, v in enumerate(context.unknowns)}
    given = Field((), (), points, {}, params=params)
    if data is not None:
        numbers = data(stored(points.cpu().numpy()))
        given.data = tensor_like(np.ascontiguousarray(numbers), points)
    if with_image:
        given.image = Field((), (), points, {})
    return given


def _looked_up(name: str, function: UserFunction, context: Context, given: Field) -> Declared:
    found: list[int] = []

    def trial(x: Tensor, y: Tensor) -> Any:
        result = function(x, y, given)
        found[:] = [column.shape[1] for column in columns_of(result, name, len(x))]
        return result

    wanted = closure(derivative_lookup.needs(trial, context.sample, context.n_outputs))

    def values(f: Field) -> list[Tensor]:
        streams = {index: f.derivative(index) for index in wanted}
        substitutes = context.unknowns.substitutes(f.params)
        bound = lambda x, y: function(x, y, f)  # noqa: E731
        result = derivative_lookup.call(bound, f.points, streams, substitutes)
        parts = columns_of(result, name, len(f.points))
        _check_dtype(parts, f.points.dtype, name)
        return [column for part in parts for column in part.unbind(1)]

    return Declared(residual_names(name, found), frozenset(wanted), values)


def _check_dtype(parts: Sequence[Tensor], dtype: torch.dtype, name: str) -> None:
    """Raise InputError where digits were lost on the way."""
    for part in parts:
        if part.dtype != dtype:
            raise InputError(
                f"{name}: the function gives {part.dtype} where points and outputs are {dtype}; "
                "take out the cast, or read the model with that dtype"
            )


def columns_of(result: Any, name: str, n_points: int) -> list[Tensor]:
    """Residuals as a list of tensors ``[n, n_columns]``, one a loss."""
    results = result if isinstance(result, (list, tuple)) else [result]
    columns = [part[:, None] if part.ndim == 1 else part for part in results]
    for part in columns:
        if part.ndim != 2 or len(part) != n_points:
            raise InputError(
                f"{name}: the function gives shape {tuple(part.shape)}, expected ({n_points}, 1)"
            )
    return columns


def residual_names(name: str, widths: Sequence[int]) -> tuple[str, ...]:
    """A name a column: losses are numbered from 1, columns of one loss by numbers from 0."""
    names = [name] if len(widths) == 1 else [f"{name}_{n + 1}" for n in range(len(widths))]
    return tuple(
        loss if width == 1 else f"{loss}.{column}"
        for loss, width in zip(names, widths, strict=True)
        for column in range(width)
    )
